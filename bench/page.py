"""The web page's first visit: bytes, and the time to the first paint and to the numbers, in Chromium.

    python -m bench.page [--repeat 15]

Each visit is of a new browser profile, whose cache is empty, over the demo's sample. The browser, the one on
PATH, and all servers share the machine.
"""

import argparse
import asyncio
import os
import shutil
import sys
from datetime import UTC, datetime
from statistics import median

import asyncpg
from playwright.async_api import Browser, async_playwright

from bench.servers import create_database, drop_database, own_servers, settings_for, web_service
from chat_stats.service.database.migrations import migrate
from chat_stats.worker.demo import sample

REQUESTS = 20_000
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SHOWN = """() => document.querySelectorAll('.panel[data-state=loading]').length === 0
  && document.querySelectorAll('figure[data-state=ready]').length >= 4 && performance.now()"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    with own_servers() as servers:
        database_url = asyncio.run(create_database(servers.admin_url))
        try:
            asyncio.run(_fill(database_url, servers.redis_url))
            with web_service(servers, database_url) as url:
                asyncio.run(_measure(f"{url}/#/?range=30d", options.repeat))
        finally:
            asyncio.run(drop_database(servers.admin_url, database_url))


async def _fill(database_url: str, redis_url: str) -> None:
    settings = settings_for(database_url, redis_url)
    await migrate(settings, create_tables=True, started=lambda _file: None, warned=lambda _text: None)
    connection = await asyncpg.connect(database_url)
    end = datetime.now(UTC).replace(microsecond=0)
    await sample.load(connection, count=REQUESTS, end=end, loaded=lambda _count: None)
    await connection.close()


async def _measure(url: str, repeat: int) -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.exit(f"there is none of {', '.join(PROGRAMS)} on PATH")
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=program, args=arguments)
        visits = [await _visit(browser, url) for _ in range(repeat + 1)][1:]  # the first one fills the cache
        await browser.close()
    paint, shown, size = (sorted(figures) for figures in zip(*visits, strict=True))
    print(f"first paint  {median(paint):.0f} ms, {paint[0]:.0f} to {paint[-1]:.0f}")
    print(f"all numbers  {median(shown):.0f} ms, {shown[0]:.0f} to {shown[-1]:.0f}")
    print(f"transferred  {median(size) / 1000:.0f} KB, load {os.getloadavg()[0]:.1f}")


async def _visit(browser: Browser, url: str) -> tuple[float, float, float]:
    """Return the milliseconds to the first paint and to the numbers, and the bytes that were transferred."""
    context = await browser.new_context()
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda it: sizes.append(it["encodedDataLength"]))
    await session.send("Network.enable")
    await page.goto(url)
    shown = await (await page.wait_for_function(_SHOWN)).json_value()
    paint = await page.evaluate(_PAINT)
    await context.close()
    return paint, shown, sum(sizes)


if __name__ == "__main__":
    main()
