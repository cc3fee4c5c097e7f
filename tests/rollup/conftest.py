"""Databases with requests in them, and the rollup switched on."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from chat_stats.service.rollup import retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.processes import environment
from tests.rollup.exactness import COMPARISON
from tests.rollup.workload import fill


def ignored(_done: int) -> None:
    """Hear of progress, and do nothing."""


@pytest.fixture
async def requests(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database with 3,000 ordinary requests and the comparison; the rollup is off."""
    await connection.execute(COMPARISON)
    await fill(connection, 3000)
    return connection


@pytest.fixture
async def rolled_up(requests: asyncpg.Connection) -> asyncpg.Connection:
    """Like `requests`, with the rollup on."""
    await Rollup(requests).enable(ignored)
    return requests


@pytest.fixture
def rollup(requests: asyncpg.Connection) -> Rollup:
    """The upkeep, over the connection of `requests`."""
    return Rollup(requests)


Connect = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Connect]:
    """Opens more connections to the database of the test."""
    opened: list[asyncpg.Connection] = []

    async def open_one() -> asyncpg.Connection:
        opened.append(await asyncpg.connect(database_url))
        return opened[-1]

    yield open_one
    for connection in opened:
        await connection.close()


@pytest.fixture
def env(database_url: str) -> dict[str, str]:
    """Settings of a command for the database of the test; there is no Redis."""
    return environment(database_url, "redis://127.0.0.1:1/0")


@pytest.fixture
def small_purges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a purge take several chunks even for a few requests, without pauses."""
    monkeypatch.setattr(retention, "BATCH_REQUESTS", 300)
    monkeypatch.setattr(retention, "BATCH_DAYS", 10)
    monkeypatch.setattr(retention, "PAUSE", 0)
