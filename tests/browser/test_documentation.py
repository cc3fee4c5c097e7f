"""The API's documentation page, which must work without internet."""

from urllib.parse import urlsplit

from playwright.async_api import expect

from tests.browser.conftest import OpenTab, Service


async def test_the_api_can_be_read_and_tried_out_without_external_resources(
    service: Service, tab: OpenTab
) -> None:
    watched = await tab()
    page = watched.page
    await page.goto(f"{service.url}docs")
    await expect(page.get_by_role("heading", name="chat-stats")).to_be_visible()
    counts = page.locator("#operations-statistics-get_counts")
    await counts.locator(".opblock-summary-control").click()
    await counts.get_by_role("button", name="Try it out").click()
    await counts.get_by_role("button", name="Execute").click()
    await expect(counts.locator(".live-responses-table .response .response-col_status")).to_contain_text(
        "200"
    )
    (asked,) = watched.api_requests("chat-requests/counts")
    assert not urlsplit(asked.url).query  # no parameter was filled in by itself
    document = await (await page.request.get(f"{service.url}openapi.json")).json()
    assert await page.locator(".opblock").count() == sum(map(len, document["paths"].values()))
    hosts = {urlsplit(request.url).netloc for request in watched.requests if request.url.startswith("http")}
    assert hosts == {urlsplit(service.url).netloc}
