"""The web page in a real Chromium, over the real service with the demo's sample data.

The browser is the one on PATH (Debian: `apt-get install chromium`); nothing is downloaded.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
    expect,
)

from chat_stats.worker.demo import sample
from chat_stats.worker.local_servers import (
    PostgresServer,
    RedisServer,
    free_port,
)
from tests.conftest import run_migrations
from tests.processes import Process, answers, environment, until
from tests.tools import CHROMIUM, need

#: Enough for 90 days of all providers, few enough to load within a second.
REQUESTS = 20_000

#: Milliseconds: a busy machine is slow to draw.
expect.set_options(timeout=30_000)

_numbers = count(1)

#: Only `make screenshots` takes screenshots.
collect_ignore = [] if "CHAT_STATS_SCREENSHOTS" in os.environ else ["test_screenshots.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all of these on one event loop, since the browser lives on it, and beside `make test`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.slow)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sample_database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The name of a database with the demo's sample, to be copied.

    Tests on every Postgres in between make pytest set this up again, on the same server.
    """
    admin = await asyncpg.connect(postgres.url())
    await admin.execute("CREATE DATABASE sample")
    await run_migrations(postgres.url("sample"), create_tables=True)
    connection = await asyncpg.connect(postgres.url("sample"))
    end = datetime.now(UTC).replace(microsecond=0)
    await sample.load(connection, count=REQUESTS, end=end, loaded=lambda _count: None)
    await connection.close()
    yield "sample"
    await admin.execute("DROP DATABASE sample WITH (FORCE)")
    await admin.close()


@dataclass
class Service:
    """A running service with its own copy of the sample."""

    postgres: PostgresServer
    database: str
    port: int
    env: dict[str, str]
    log: Path
    process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """Return an answer of the API, as a client other than the page gets it."""
        key = self.env.get("CHAT_STATS_API_KEYS", "")
        address = f"{self.url}api/monitoring/{path}"
        headers = {b"X-API-Key": key.encode()} if key else {}
        return httpx.get(address, params=parameters, headers=headers, timeout=20).raise_for_status().json()

    def start(self) -> None:
        process = self.process = Process("serve", "--port", str(self.port), env=self.env, log=self.log)
        with httpx.Client(base_url=self.url) as client:
            until(lambda: answers(client), what=lambda: f"the service to start: {process.output()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.end()

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.postgres.url(self.database))
        await connection.execute(statement)
        await connection.close()

    async def cut_off_database(self) -> None:
        """Make the database refuse all connections, as in an outage."""
        admin = await asyncpg.connect(self.postgres.url())
        await admin.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", self.database
        )
        await admin.close()


OwnService = Callable[..., Awaitable[Service]]


async def _copy(postgres: PostgresServer, template: str) -> str:
    name = f"browser_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.url())
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await admin.close()
    return name


def _service(
    postgres: PostgresServer, redis: RedisServer, database: str, log: Path, **settings: object
) -> Service:
    settings = {"cache_prefix": database, "local_cache_seconds": 0, **settings}
    redis_url = str(settings.pop("redis_url", redis.url))
    env = environment(postgres.url(database), redis_url, **settings)
    return Service(postgres, database, free_port(), env, log)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(
    postgres: PostgresServer,
    redis: RedisServer,
    sample_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Service]:
    """The service that tests share if they change nothing."""
    database = await _copy(postgres, sample_database)
    log = tmp_path_factory.mktemp("service") / "log"
    service = _service(postgres, redis, database, log, dimensions=sample.DIMENSIONS)
    service.start()
    yield service
    service.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def own_service(
    postgres: PostgresServer, redis: RedisServer, sample_database: str, tmp_path: Path
) -> AsyncIterator[OwnService]:
    """Makes a service for one test, with other settings; it is not started yet."""
    with ExitStack() as stack:

        async def make(**settings: object) -> Service:
            database = await _copy(postgres, sample_database)
            service = _service(postgres, redis, database, tmp_path / "log", **settings)
            stack.callback(service.stop)
            return service

        yield make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    program = need(CHROMIUM)
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        await browser.close()


# Records from the start what the security policy refuses, and lets a test hide the tab.
_WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => {
  refused.push(`${event.violatedDirective} ${event.blockedURI}`);
});
window.setHidden = (hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
};
"""


@dataclass
class Watched:
    """Events of a tab that the page does not show."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def api_requests(self, path: str = "") -> list[Request]:
        return [request for request in self.requests if f"/api/monitoring/{path}" in request.url]

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def check(self) -> None:
        """Fail on errors in the console and on anything that the security policy refused.

        Answers that are errors and connections that fail are for the page to show: Chromium logs them always.
        """
        failed = re.compile("Failed to load resource: (the server responded with a status of|net::ERR_)")
        assert [text for text in self.complaints if not failed.match(text)] == []
        assert await self.page.evaluate("window.refused") == []


OpenTab = Callable[..., Awaitable[Watched]]


@pytest_asyncio.fixture(loop_scope="session")
async def tab(chromium: Browser) -> AsyncIterator[OpenTab]:
    """Opens a tab in a browser profile of its own; its errors fail the test at the end."""
    opened: list[tuple[BrowserContext, Watched]] = []

    async def open_tab(**options: Any) -> Watched:
        context = await chromium.new_context(timezone_id="Asia/Kolkata", **options)
        context.set_default_timeout(30_000)
        await context.add_init_script(_WATCH)
        page = await context.new_page()
        watched = Watched(page)
        page.on("console", watched.heard)
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("request", lambda request: watched.requests.append(request))
        opened.append((context, watched))
        return watched

    yield open_tab
    for context, watched in opened:
        await watched.check()
        await context.close()
