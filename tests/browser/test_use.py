"""Sorting, searching, the skip link, and malicious names."""

import asyncio
import json

from playwright.async_api import Route, expect

from tests.browser.conftest import OpenTab, OwnService, Service


async def test_a_table_is_sorted_from_the_keyboard(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    table = page.get_by_role("table", name="Providers")
    header, names = table.get_by_role("columnheader", name="Provider"), table.locator("tbody th")
    await expect(table.get_by_role("columnheader", name="Requests")).to_have_attribute(
        "aria-sort", "descending"
    )
    await header.get_by_role("button").focus()
    await page.keyboard.press("Enter")
    await expect(header).to_have_attribute("aria-sort", "ascending")
    ascending = await names.all_inner_texts()
    assert ascending == sorted(ascending, key=str.casefold)
    await expect(header.get_by_role("button")).to_be_focused()
    await page.keyboard.press("Space")
    await expect(header).to_have_attribute("aria-sort", "descending")
    assert (await names.all_inner_texts())[0] > ascending[0]


async def test_a_view_in_use_is_not_replaced_by_one_with_more_detail(service: Service, tab: OpenTab) -> None:
    """All time is shown by month, and by day once the range turns out to be short."""
    page = (await tab()).page
    arrived = asyncio.Event()

    async def late(route: Route) -> None:
        await arrived.wait()
        await route.continue_()

    await page.route("**/timeseries?*bucket=1mo*", late)
    await page.goto(f"{service.url}#/?range=all")
    header = page.get_by_role("table", name="Providers").get_by_role("columnheader", name="Provider")
    await header.get_by_role("button").press("Enter")
    arrived.set()
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(header).to_have_attribute("aria-sort", "ascending")
    await expect(header.get_by_role("button")).to_be_focused()


async def test_a_search_narrows_a_table_and_survives_new_numbers(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    panel = page.locator("section", has=page.get_by_role("heading", name="Top models"))
    await panel.get_by_role("searchbox").fill("claude anthropic")
    names = panel.locator("tbody th")
    assert all("Claude" in name for name in await names.all_inner_texts())
    before = await names.count()
    await page.evaluate("dispatchEvent(new Event('online'))")
    await page.wait_for_timeout(300)
    assert await names.count() == before
    await panel.get_by_role("searchbox").fill("no such model")
    await expect(panel.get_by_text("Nothing matches the search.")).to_be_visible()


async def test_the_skip_link_leads_past_the_header_and_leaves_the_view(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=30d")
    await expect(page.get_by_role("table", name="Providers")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the statistics")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/?range=30d")


MARKUP = "<img src=x onerror=\"document.title='harmed'\"><script>window.harmed = 1</script>"
RIGHT_TO_LEFT = "\u202egpt-evil\u202c مرحبا"
LONG = "wide" * 1000


async def test_names_from_the_database_are_nothing_but_text(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service()
    names = [MARKUP, RIGHT_TO_LEFT, LONG, "", "javascript:alert(1)"]
    statement = """
        DELETE FROM chat_completion_requests; DELETE FROM models; DELETE FROM providers;
        INSERT INTO providers (id, name, slug) SELECT number, name, 'slug-' || number
            FROM jsonb_array_elements_text($names$%s$names$) WITH ORDINALITY AS given (name, number);
        INSERT INTO models (id, provider_id, model_name, provider_model_id, model_id)
            SELECT id, id, name, name, name || id FROM providers;
        INSERT INTO chat_completion_requests
            (model_id, input_tokens, output_tokens, processing_time_ms, status, error_message, created_at)
            SELECT id, 1, 1, 10, name, name, now() FROM models JOIN providers USING (id);
    """
    await service.execute(statement.replace("%s", json.dumps(names)))
    service.start()
    watched = await tab(viewport={"width": 1000, "height": 800})
    page = watched.page
    await page.goto(service.url)
    table = page.get_by_role("table", name="Providers")
    await expect(table.locator("tbody tr")).to_have_count(5)
    shown = await table.locator("tbody th").all_inner_texts()
    assert {MARKUP, RIGHT_TO_LEFT, LONG} <= set(shown)
    for name in (MARKUP, RIGHT_TO_LEFT, LONG):
        await page.goto(service.url)
        await table.get_by_role("link", name=name, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(name)
        await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
        assert await page.evaluate("document.documentElement.scrollWidth") == 1000
        await page.get_by_role("table", name="Models").get_by_role("link").first.click()
        await expect(page.get_by_role("navigation", name="Path").get_by_role("link").last).to_have_text(name)
        await expect(page).to_have_title(f"{name} · chat-stats")
        assert await page.evaluate("document.documentElement.scrollWidth") == 1000
    assert await page.evaluate("window.harmed") is None
    assert await page.locator("main img, main script").count() == 0
    assert all(request.url.startswith(service.url) for request in watched.requests)
