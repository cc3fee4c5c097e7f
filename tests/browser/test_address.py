"""The address and the browser's history keep how a view is searched, sorted, opened and scrolled."""

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenTab, Service


def panel(page: Page, heading: str) -> Locator:
    return page.locator("section", has=page.get_by_role("heading", name=heading))


async def use_tables(page: Page) -> None:
    """Search and sort the models, and open the providers."""
    models = panel(page, "Top models")
    await models.get_by_role("searchbox").fill("claude")
    await models.get_by_role("columnheader", name="Tokens").get_by_role("button").click()
    await panel(page, "Providers").get_by_role("button", name="Show all").click()


async def expect_used(page: Page) -> None:
    models = panel(page, "Top models")
    await expect(models.get_by_role("searchbox")).to_have_value("claude")
    await expect(models.get_by_role("columnheader", name="Tokens")).to_have_attribute(
        "aria-sort", "descending"
    )
    await expect(models.locator("tbody th").first).to_contain_text("Claude")
    assert all("Claude" in name for name in await models.locator("tbody th").all_inner_texts())
    await expect(panel(page, "Providers").get_by_role("button", name="Show all")).to_be_hidden()
    assert await panel(page, "Providers").locator("tbody tr").count() > 12


async def test_back_a_change_of_the_range_and_a_reload_keep_search_sort_and_all_rows(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    await expect(panel(page, "Top models").get_by_role("link").first).to_be_visible(timeout=30_000)
    entries = await page.evaluate("history.length")
    await use_tables(page)
    assert await page.evaluate("history.length") == entries, "the way back is not longer"
    await expect_used(page)
    await page.reload()
    await expect_used(page)
    await page.get_by_role("button", name="6M").click()
    await expect(page.get_by_role("button", name="6M")).to_have_attribute("aria-pressed", "true")
    await expect_used(page)
    await panel(page, "Top models").get_by_role("link").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Claude")
    assert "claude" not in page.url, "another view has tables of its own"
    await page.go_back()
    await expect(page.get_by_role("heading", level=1)).to_have_text("All providers")
    await expect_used(page)


async def test_an_address_with_a_search_can_be_shared_and_nonsense_in_it_is_ignored(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all&models.search=claude&models.sort=-tokens&providers.all=1")
    await expect_used(page)
    await page.goto(
        f"{service.url}#/?range=all&models.sort=nothing&models.x=1&__proto__.all=1&nowhere.sort=-a"
    )
    await page.reload()
    models = panel(page, "Top models")
    await expect(models.get_by_role("columnheader", name="Requests")).to_have_attribute(
        "aria-sort", "descending"
    )


async def test_back_and_a_reload_return_to_the_scroll_position(service: Service, tab: OpenTab) -> None:
    page = (await tab(viewport={"width": 1000, "height": 600})).page
    await page.goto(f"{service.url}#/?range=30d")
    await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
    link = panel(page, "Top models").get_by_role("link").first
    await link.scroll_into_view_if_needed()
    position = await page.evaluate("scrollY")
    assert position > 500
    await link.click()
    await expect(page.get_by_role("heading", level=1)).not_to_have_text("All providers")
    assert await page.evaluate("scrollY") == 0, "another view begins at its top"
    await page.go_back()
    await expect(page.get_by_role("heading", level=1)).to_have_text("All providers")
    await page.wait_for_function("(position) => Math.abs(scrollY - position) <= 1", arg=position)
    await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
    await page.reload()
    await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
    await page.wait_for_function("(position) => Math.abs(scrollY - position) <= 1", arg=position)


async def test_a_change_of_the_range_stays_at_the_scroll_position(service: Service, tab: OpenTab) -> None:
    page = (await tab(viewport={"width": 1000, "height": 600})).page
    await page.goto(f"{service.url}#/?range=30d")
    await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
    await page.mouse.wheel(0, 400)
    await page.wait_for_function("scrollY >= 400")
    position = await page.evaluate("scrollY")
    await page.evaluate("document.querySelector('[aria-label^=\"6M\"]').click()")
    await expect(page.get_by_role("button", name="6M")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
    assert await page.evaluate("scrollY") == position
