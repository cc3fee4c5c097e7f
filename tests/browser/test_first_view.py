"""What the browser loads before it shows anything: the page's files, and its first answers."""

from playwright.async_api import expect

from tests.browser.conftest import OpenTab, Service

#: Bytes of a first visit, headers included; `bench.page` measures its time.
MOST_BYTES = 150_000


async def test_a_first_visit_with_its_numbers_takes_at_most_150_kilobytes(
    service: Service, tab: OpenTab
) -> None:
    page = (await tab()).page
    session = await page.context.new_cdp_session(page)
    loaded: dict[str, int] = {}
    addresses: dict[str, str] = {}
    session.on(
        "Network.responseReceived", lambda it: addresses.update({it["requestId"]: it["response"]["url"]})
    )
    session.on(
        "Network.loadingFinished", lambda it: loaded.update({it["requestId"]: it["encodedDataLength"]})
    )
    await session.send("Network.enable")
    await page.goto(f"{service.url}#/?range=30d")
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)
    await expect(page.locator("figure[data-state=ready]")).to_have_count(4)
    sizes = {addresses[number]: size for number, size in loaded.items()}
    assert any("/static/" in address for address in sizes)
    assert any("/chat-requests/models" in address for address in sizes)
    assert sum(sizes.values()) <= MOST_BYTES, sizes
