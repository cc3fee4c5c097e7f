"""The flow over real servers, and the API in this process on top of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
from asgi_lifespan import LifespanManager
from pydantic import SecretStr

from chat_stats.service.app import create_app
from chat_stats.service.cache.refresh_report import RefreshReport
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.database.pool import Database
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Stats
from tests.conftest import SettingsFactory


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


async def before_usage(gateway: asyncpg.Connection, statement: str) -> str:
    """Have `statement` run before the function that counts requests does; return what defines it without."""
    function: str = await gateway.fetchval("SELECT pg_get_functiondef('chat_stats_usage'::regproc)")
    await gateway.execute(function.replace("BEGIN", f"BEGIN PERFORM pg_catalog.{statement};", 1))
    return function
