"""What the page raises an alarm about: each trouble once, and nothing that passes by itself."""

import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from chat_stats.worker.local_servers import RedisServer, redis_server
from tests.browser.conftest import OpenTab, OwnService, Service
from tests.processes import chat_stats

Handler = Callable[[Route], Awaitable[None]]

#: Records every state that the header and the banner were in.
RECORD = """
window.states = [];
new MutationObserver(() => {
  const state = document.getElementById("freshness-state")?.textContent;
  const banner = document.getElementById("banner");
  if (state && states.at(-1) !== state) states.push(state);
  if (banner && !banner.hidden && states.at(-1) !== "banner") states.push("banner");
}).observe(document, { childList: true, subtree: true, characterData: true, attributes: true });
"""


async def states(page: Page) -> set[str]:
    return set(await page.evaluate("window.states"))


@contextmanager
def own_redis(folder: Path) -> Iterator[RedisServer]:
    server = redis_server(folder / "redis")
    server.start()
    try:
        yield server
    finally:
        assert server.process is not None
        server.process.send_signal(signal.SIGCONT)
        server.stop()


def make_stale(times: int) -> Handler:
    """Have the first answers of an address say that they are stale, as after a minute without visitors."""
    asked = 0

    async def handle(route: Route) -> None:
        nonlocal asked
        asked += 1
        headers = {k: v for k, v in route.request.headers.items() if k != "if-none-match"}
        answer = await route.fetch(headers=headers)
        body = await answer.json()
        if asked <= times:
            body["metadata"]["cache"] = "stale"
        await route.fulfill(status=200, content_type="application/json", body=json.dumps(body))

    return handle


async def test_stale_numbers_are_no_alarm_while_they_are_recomputed(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.add_init_script(RECORD)
    await page.route("**/chat-requests/summary?*", make_stale(1))
    await page.clock.install()
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Updating")
    await page.clock.run_for(3_500)
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    assert await states(page) <= {"Loading", "Updating", "Live"}


async def test_numbers_that_stay_stale_are_an_alarm(service: Service, tab: OpenTab) -> None:
    page = (await tab()).page
    await page.route("**/chat-requests/summary?*", make_stale(1000))
    await page.clock.install()
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Updating")
    await page.clock.run_for(10_000)
    await expect(page.locator("#freshness-state")).to_have_text("Stale")
    await expect(page.get_by_role("alert")).to_contain_text("Older than they should be: Totals.")


async def test_with_the_rollup_on_the_page_is_live(own_service: OwnService, tab: OpenTab) -> None:
    service = await own_service()
    done = chat_stats("rollup", "enable", env=service.env)
    assert done.returncode == 0, done.stderr
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("#freshness-state")).to_have_text("Live")


async def test_a_redis_that_hangs_is_named_and_found_again_without_a_visitor(
    own_service: OwnService, tab: OpenTab, tmp_path: Path
) -> None:
    with own_redis(tmp_path) as redis:
        service = await own_service(redis_url=redis.url)
        service.start()
        watched = await tab()
        page = watched.page
        await page.goto(service.url)
        await expect(page.locator("#freshness-state")).to_have_text("Live")
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        # With the next poll: what readiness saw a moment ago may be what it still says.
        await expect(page.locator("#freshness-state")).to_have_text("Without cache", timeout=40_000)
        await expect(page.locator("#freshness")).to_have_attribute("data-state", "partial")
        await expect(page.get_by_role("alert")).to_contain_text("Redis does not answer.")
        redis.process.send_signal(signal.SIGCONT)
        await expect(page.locator("#freshness-state")).to_have_text("Live", timeout=40_000)
        await expect(page.get_by_role("alert")).to_be_hidden()


async def test_why_there_is_no_answer_is_said_once_and_in_a_sentence(
    own_service: OwnService, tab: OpenTab
) -> None:
    service = await own_service()
    await service.cut_off_database()
    service.start()
    page = (await tab()).page
    await page.goto(service.url)
    await expect(page.locator(".panel[data-state=unavailable]")).to_have_count(7)
    await expect(page.get_by_role("alert")).to_contain_text("The database cannot be reached")
    text = await page.locator("body").inner_text()
    assert text.lower().count("cannot be reached") == 1, text
    assert text.count("Not available.") == 7


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("#/providers/999999", "No provider with the id 999999 has requests."),
        ("#/providers/nonsense", "provider_id"),
    ],
)
async def test_a_provider_that_does_not_exist_is_reported_as_missing(
    service: Service, tab: OpenTab, address: str, text: str
) -> None:
    page = (await tab()).page
    await page.goto(f"{service.url}{address}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    await expect(page.locator("main")).to_contain_text(text)
    await expect(page.locator("#freshness")).to_be_hidden()


async def test_a_first_request_that_fails_is_repeated_before_anything_is_said(
    service: Service, tab: OpenTab
) -> None:
    watched = await tab()
    page = watched.page
    await page.add_init_script(RECORD)
    failed: set[str] = set()

    async def fail_once(route: Route) -> None:
        address = route.request.url
        if address in failed:
            await route.continue_()
        else:
            failed.add(address)
            await route.abort("timedout")

    await page.route("**/api/monitoring/chat-requests**", fail_once)
    await page.goto(f"{service.url}#/?range=30d")
    await expect(page.locator("#freshness-state")).to_have_text("Live")
    assert len(failed) == 6
    assert await states(page) <= {"Loading", "Updating", "Live"}
