"""How the page shows age, method, staleness and errors, and when it polls for newer numbers."""

import asyncio

from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenTab, OwnService, Service


async def all_parts_loaded(page: Page) -> None:
    """Wait until every part has an answer; the page is live from the first one on."""
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)


async def providers_shown(page: Page) -> list[str]:
    return await page.get_by_role("table", name="Providers").locator("tbody tr").all_inner_texts()


async def test_the_age_of_what_is_shown_ticks(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.clock.install()
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    age = page.locator("#freshness-age")
    for _ in range(3):
        before = int((await age.inner_text()).split()[1])
        await page.clock.run_for(5000)
        after = int((await age.inner_text()).split()[1])
        if after >= before + 4:  # otherwise newer numbers arrived, as they do once a minute
            break
    assert after >= before + 4


async def test_it_says_by_which_method_each_part_was_computed(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.goto(service.url)
    await page.get_by_text("Where these numbers come from").click()
    table = page.get_by_role("table", name="Where these numbers come from")
    totals = table.get_by_role("row", name="Totals")
    await expect(totals).to_contain_text("database function")
    await expect(totals).to_contain_text(
        service.get("chat-requests/summary", window="7d")["metadata"]["generation"]
    )


async def test_it_polls_with_the_validator_and_not_while_hidden(service: Service, tab: OpenTab) -> None:
    watched = await tab()
    page = watched.page
    await page.clock.install()
    await page.goto(f"{service.url}#/?range=all")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    first = len(watched.api_requests("chat-requests/summary"))
    await page.clock.run_for(16_000)
    assert len(watched.api_requests("chat-requests/summary")) == first + 1
    polled = watched.api_requests("chat-requests/summary")[-1]
    assert (await polled.all_headers())["if-none-match"]
    answer = await polled.response()
    assert answer is not None
    assert answer.status == 304
    await page.evaluate("setHidden(true)")
    hidden = len(watched.api_requests())
    await page.clock.run_for(120_000)
    assert len(watched.api_requests()) == hidden
    async with page.expect_request("**/chat-requests/summary*"):
        await page.evaluate("setHidden(false)")
    await expect(page.locator("#freshness-state")).to_have_text("Live")


async def test_stale_numbers_are_shown_and_said_to_be_stale(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service(fresh_seconds=1, refresh_interval_seconds=1)
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await all_parts_loaded(page)
    before = await providers_shown(page)
    await service.cut_off_database()
    await page.wait_for_timeout(1500)
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(page.locator("#freshness-state")).to_have_text("Stale")
    await expect(page.get_by_role("alert")).to_contain_text(
        "Older than they should be: Totals, Providers, Models"
    )
    assert await providers_shown(page) == before


async def test_a_fallback_is_named(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service()
    await service.execute("DROP FUNCTION get_provider_request_stats")
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Fallback")
    await expect(page.get_by_role("alert")).to_contain_text("Providers (fallback_optimized)")
    assert len(await providers_shown(page)) > 10


async def test_the_last_good_numbers_stay_when_the_service_is_gone(
    own_service: OwnService, tab: OpenTab
) -> None:
    service = await own_service()
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await all_parts_loaded(page)
    before = await providers_shown(page)
    service.stop()
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(page.locator("#freshness-state")).to_have_text("No answer")
    banner = page.get_by_role("alert")
    await expect(banner).to_contain_text(
        "The service cannot be reached. The numbers below are the last good ones"
    )
    assert await providers_shown(page) == before
    service.start()
    await banner.get_by_role("button", name="Try again").click()
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    await expect(banner).to_be_hidden()


async def test_without_any_numbers_each_part_says_that_there_are_none(
    own_service: OwnService, tab: OpenTab
) -> None:
    service = await own_service()
    await service.cut_off_database()
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("No answer")
    providers = page.locator("section", has=page.get_by_role("heading", name="Providers"))
    await expect(providers).to_contain_text("Not available.")
    await expect(page.locator(".panel[data-state=unavailable]")).to_have_count(7)


async def test_one_part_that_fails_leaves_the_others(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.route("**/chat-requests/providers?*", lambda route: route.abort())
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Incomplete")
    await expect(page.get_by_role("alert")).to_contain_text("Not available now: Providers.")
    await expect(page.get_by_role("table", name="Models").locator("tbody tr").first).to_be_visible()


async def test_the_page_asks_for_a_key_if_reading_needs_one(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service(api_keys="pässword")
    service.start()
    page = (await tab()).page
    await page.goto(f"{service.url}#/?range=all")
    key = page.get_by_label("API key")
    await expect(key).to_be_focused()
    await key.fill("wrong")
    await key.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("This key is not accepted.")
    await page.get_by_label("API key").fill("pässword")
    await page.get_by_role("button", name="Show the statistics").click()
    await expect(page.get_by_role("table", name="Providers").locator("tbody tr").first).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("table", name="Providers").locator("tbody tr").first).to_be_visible()
    assert "pässword" not in page.url
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0
    await page.get_by_role("button", name="Forget the API key").click()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_it_names_stale_parts_and_parts_without_an_answer(
    own_service: OwnService, tab: OpenTab
) -> None:
    service = await own_service(fresh_seconds=1, refresh_interval_seconds=1)
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    await service.cut_off_database()
    await page.wait_for_timeout(1500)
    await page.evaluate("dispatchEvent(new Event('online'))")
    banner = page.get_by_role("alert")
    await expect(banner).to_contain_text("Older than they should be: Totals, Providers, Models, Time series.")
    await expect(banner).to_contain_text("Not renewed, for want of an answer: Recent requests.")
    await page.reload()
    await expect(banner).to_contain_text("Older than they should be: Totals, Providers, Models, Time series.")
    await expect(banner).to_contain_text("Not available now: Recent requests.")
    await expect(page.locator("#freshness-state")).to_have_text("Stale")


async def test_it_is_not_live_before_every_part_has_its_answer(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    go_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await go_on.wait()
        await route.continue_()

    await page.route("**/chat-requests/timeseries?*", hold)
    await page.goto(service.url)
    await expect(page.get_by_role("table", name="Providers").locator("tbody tr").first).to_be_visible()
    await expect(page.locator("#freshness-age")).not_to_be_empty()
    await expect(page.locator("#freshness-state")).to_have_text("Loading")
    go_on.set()
    await expect(page.locator("#freshness-state")).to_have_text("Live")
