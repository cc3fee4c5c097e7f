"""The flow over real servers, and the API in this process on top of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from asgi_lifespan import LifespanManager
from pydantic import SecretStr

from chat_stats.service.app import create_app
from chat_stats.service.cache.refresh_report import RefreshReport
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.database.pool import Database
from chat_stats.service.http.hit_protocol import WaitingCycle
from chat_stats.service.http.hits import Hits, Request
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Stats
from chat_stats.worker.importer.load import ImportOptions, ImportResult, import_log
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import SettingsFactory, _create_database, make_settings, run_migrations
from tests.integration.csv_loading import Load
from tests.integration.requests_log import fill
from tests.integration.wire import Ports, learned, ports_of, stop_time


@dataclass
class Flow:
    """The parts of one chat-stats process, without HTTP."""

    settings: Settings
    database: Database
    cache: Cache
    stats: Stats

    async def refresh(self, names: Iterable[str] = (), windows: Iterable[str] = ()) -> RefreshReport:
        report = await self.stats.refresh(names, windows)
        assert report is not None  # None only stands for a scheduled refresh that was skipped
        return report


@asynccontextmanager
async def open_flow(settings: Settings) -> AsyncIterator[Flow]:
    database = Database(settings, application_name="test")
    cache = Cache(settings, connect(settings.redis_url.get_secret_value(), timeout_seconds=2), database.clock)
    stats = Stats(settings, database, cache)
    await database.open()
    try:
        yield Flow(settings, database, cache, stats)
    finally:
        await stats.close()
        await database.close()
        await cache.close()


@pytest.fixture
async def flow(settings: Settings) -> AsyncIterator[Flow]:
    async with open_flow(settings) as flow:
        yield flow


OpenFlow = Callable[[Settings], Awaitable[Flow]]


@pytest.fixture
async def another_flow() -> AsyncIterator[OpenFlow]:
    """Opens another flow with other settings, as another process."""
    async with AsyncExitStack() as stack:
        yield lambda settings: stack.enter_async_context(open_flow(settings))


@pytest.fixture
async def hanging_redis() -> AsyncIterator[str]:
    """The URL of a Redis that accepts connections and commands and never answers, like a stopped one."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


OpenClient = Callable[[Settings], Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def client_of() -> AsyncIterator[OpenClient]:
    """Opens the API with the given settings."""
    async with AsyncExitStack() as stack:

        async def open_client(settings: Settings) -> httpx.AsyncClient:
            app = create_app(settings)
            await stack.enter_async_context(LifespanManager(app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://test/api/monitoring")
            )

        yield open_client


@pytest.fixture
async def client(client_of: OpenClient, settings: Settings) -> httpx.AsyncClient:
    return await client_of(settings)


@pytest.fixture
async def gateway(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database with 2 providers, 3 models and 6 requests, all but one of this day.

    | model          | provider | requests | input | output | times         | statuses    |
    | 1 alpha        | 1 One    | 3        | 60    | 6      | 100, 200, 301 | 2 completed |
    | 2 beta         | 1 One    | 2        | 5     | 0      | 50, NULL      | 2 completed |
    | 3 gamma        | 2 Two    | 1 (2020) | 7     | 8      | 10            | 1 completed |
    """
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES
            (1, 'One', 'one'), (2, 'Two', 'two'), (3, 'None', 'none');
        INSERT INTO models (id, provider_id, model_name, provider_model_id, model_id) VALUES
            (1, 1, 'Alpha', 'one/alpha', 'alpha'), (2, 1, 'Beta', 'one/beta', NULL),
            (3, 2, 'Gamma', 'g', 'gamma'), (4, 2, 'Unused', 'u', 'unused');
        INSERT INTO chat_completion_requests
            (model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at)
        VALUES
            (1, 10, 1, 100, 'completed', 0.5, now()), (1, 20, 2, 200, 'completed', 0.25, now()),
            (1, 30, 3, 301, 'failed', NULL, now()),
            (2, 5, NULL, 50, 'completed', 0, now()), (2, NULL, NULL, NULL, 'completed', 0, now()),
            (3, 7, 8, 10, 'completed', 1, '2020-01-01T00:00:00Z');
    """)
    return connection


@pytest.fixture
async def as_reader(gateway: asyncpg.Connection, settings_with: SettingsFactory) -> AsyncIterator[Settings]:
    """Settings with a role that may only read."""
    name = f"reader_of_{await gateway.fetchval('SELECT current_database()')}"
    await gateway.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'reader';"
        f"GRANT SELECT ON providers, models, chat_completion_requests TO {name};"
        f"SELECT chat_stats_grant_read('{name}')"
    )
    settings = settings_with(fresh_seconds=0.1, windows="all")
    url = httpx.URL(settings.database_url.get_secret_value()).copy_with(username=name, password="reader")
    yield settings.model_copy(update={"database_url": SecretStr(str(url))})
    await gateway.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def load(settings: Settings, tmp_path: Path) -> Load:
    """Import a text as a file."""

    async def load(text: str | bytes, *, file: str = "log.csv", **options: Any) -> ImportResult:
        path = tmp_path / file
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return await import_log(settings, path, ImportOptions(**options))

    return load


@pytest.fixture
async def log(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database with these requests, for a test that changes them."""
    await fill(connection)
    return connection


@pytest.fixture(scope="session")
def kept_logs() -> dict[int, str]:
    """Databases with these requests, for all tests that only read: their URLs by the port of their server."""
    return {}


@pytest.fixture
async def kept(postgres: PostgresServer, redis: RedisServer, kept_logs: dict[int, str]) -> Settings:
    """Settings for a database that is only read."""
    if postgres.port not in kept_logs:
        url = postgres.url(await _create_database(postgres))
        await run_migrations(url)
        connection = await asyncpg.connect(url)
        await fill(connection)
        await connection.close()
        kept_logs[postgres.port] = url
    return make_settings(kept_logs[postgres.port], redis.url)


@pytest.fixture
async def reader(client_of: OpenClient, kept: Settings) -> httpx.AsyncClient:
    return await client_of(kept)


async def before_usage(gateway: asyncpg.Connection, statement: str) -> str:
    """Have `statement` run before the function that counts requests does; return what defines it without."""
    function: str = await gateway.fetchval("SELECT pg_get_functiondef('chat_stats_usage'::regproc)")
    await gateway.execute(function.replace("BEGIN", f"BEGIN PERFORM pg_catalog.{statement};", 1))
    return function


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The URLs of the requests that the HTTP protocol answered by itself."""
    urls: list[bytes] = []
    answer = Hits.answer

    def noting(self: Hits, asked: Request, *arguments: Any) -> bool:
        is_answered = answer(self, asked, *arguments)
        if is_answered:
            urls.append(asked.url)
        return is_answered

    monkeypatch.setattr(Hits, "answer", noting)
    return urls


OpenPorts = Callable[..., Awaitable[Ports]]


@pytest.fixture
async def open_ports(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> AsyncIterator[OpenPorts]:
    """Opens the API, behind its real protocol, with some targets known and their answers in its memory."""
    async with AsyncExitStack() as stack:

        async def open_with(**overrides: Any) -> Ports:
            settings = settings_with(**{"local_cache_seconds": 60, "fresh_seconds": 7200, **overrides})
            app = await learned(await client_of(settings))
            app.state.services.stats._local._recent_seconds = 7200  # however long a test takes
            return await stack.enter_async_context(ports_of(app))

        yield open_with


@pytest.fixture
async def ports(open_ports: OpenPorts, monkeypatch: pytest.MonkeyPatch) -> Ports:
    ports = await open_ports()
    stop_time(monkeypatch, ports.app)
    return ports


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that were answered after they had waited without a task."""
    paths: list[str] = []
    answer = WaitingCycle.answer

    def noting(self: WaitingCycle, *arguments: Any) -> bool:
        is_answered = answer(self, *arguments)
        if is_answered:
            paths.append(self.scope["path"])
        return is_answered

    monkeypatch.setattr(WaitingCycle, "answer", noting)
    return paths
