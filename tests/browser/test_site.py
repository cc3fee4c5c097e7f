"""The documentation's site, which must work without internet."""

import asyncio
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenTab
from tests.docs.documents import build_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The URL of the site on a static file server."""
    handler = partial(SimpleHTTPRequestHandler, directory=build_site(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


async def test_the_search_finds_a_word_without_external_resources(site: str, tab: OpenTab) -> None:
    watched = await tab()
    page = watched.page
    await page.goto(site)
    # The page's script listens to the key only once it has run, and its index arrives after that.
    field = page.get_by_role("combobox", name="Search")
    async with asyncio.timeout(60):
        while not await field.is_visible():
            await page.keyboard.press("/")
            await page.wait_for_timeout(200)
    await field.fill("partial buckets")
    await page.get_by_text("Ranges to the microsecond").last.click(timeout=60_000)
    await expect(page.get_by_role("heading", name="Ranges to the microsecond")).to_be_visible()
    hosts = {urlsplit(request.url).netloc for request in watched.requests if request.url.startswith("http")}
    assert hosts == {urlsplit(site).netloc}
