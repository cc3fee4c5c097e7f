"""The page listens to events, and asks for the numbers of a refresh as soon as it is published."""

import asyncio
import re
from pathlib import Path

from playwright.async_api import expect

from tests.browser.conftest import OpenTab, OwnService
from tests.processes import chat_stats, running, until


async def test_a_refresh_shows_without_a_poll_and_a_hidden_tab_does_not_listen(
    own_service: OwnService, tab: OpenTab
) -> None:
    service = await own_service(api_keys="let-me-in")
    service.start()
    watched = await tab()
    page = watched.page
    await page.clock.install()
    await page.goto(f"{service.url}#/?range=all")
    await page.get_by_label("API key").fill("let-me-in")
    await page.get_by_role("button", name="Show the statistics").click()
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    async with asyncio.timeout(30):
        while not watched.api_requests("events"):
            await page.clock.run_for(100)
    [listening] = watched.api_requests("events")
    assert (await listening.all_headers())["x-api-key"] == "let-me-in"

    # From here on time stands still in the page, and its next poll is 15 seconds away.
    await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
    await service.execute("UPDATE providers SET name = 'Renamed by the test' WHERE id = 1")
    ran = await asyncio.to_thread(chat_stats, "refresh", "--local", env=service.env)
    assert ran.returncode == 0, ran.stderr
    table = page.get_by_role("table", name="Providers")
    for _ in range(20):
        await asyncio.sleep(0.5)
        await page.clock.run_for(500)  # the requests of many pages are spread over this time
        if "Renamed by the test" in await table.inner_text():
            break
    await expect(table).to_contain_text("Renamed by the test")

    await page.clock.resume()
    async with page.expect_event("requestfailed", lambda request: "/events" in request.url):
        await page.evaluate("setHidden(true)")
    async with page.expect_request("**/events"):
        await page.evaluate("setHidden(false)")


async def test_with_the_rollup_on_a_commit_shows_without_a_refresh_and_without_asking_for_the_rest(
    own_service: OwnService, tab: OpenTab, tmp_path: Path
) -> None:
    service = await own_service(refresh_interval_seconds=3600, fresh_seconds=7200)
    enabled = await asyncio.to_thread(chat_stats, "rollup", "enable", env=service.env)
    assert enabled.returncode == 0, enabled.stderr
    with running("worker", env=service.env, log=tmp_path / "worker") as worker:
        await asyncio.to_thread(until, lambda: "refreshed" in worker.output(), seconds=60)
        service.start()
        watched = await tab()
        page = watched.page
        async with page.expect_request("**/events"):
            await page.goto(f"{service.url}#/?range=all")
        await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
        others = ("?", "/query")
        before = {path: len(watched.api_requests(f"chat-requests{path}")) for path in others}
        total = service.get("chat-requests/summary")["data"]["total_requests"]
        await service.execute(
            "INSERT INTO chat_completion_requests (model_id, created_at) "
            "SELECT (SELECT min(id) FROM models), now() FROM generate_series(1, 7)"
        )
        value = page.locator(".card", has_text="Requests").locator(".value")
        await expect(value).to_have_attribute("title", f"{total + 7:,}")
        assert {path: len(watched.api_requests(f"chat-requests{path}")) for path in others} == before
        assert worker.output().count("refreshed") == 1

        # A row that was replaced while it is pressed would lose the click.
        link = page.get_by_role("table", name="Providers").get_by_role("link").first
        await link.hover()
        await page.mouse.down()
        await service.execute("INSERT INTO chat_completion_requests (model_id) SELECT min(id) FROM models")
        await page.wait_for_timeout(3000)
        await page.mouse.up()
        await expect(page).to_have_url(re.compile("#/providers/"))
