"""Locks of ours that any role could take: folding needs none, and upkeep says whose session holds its."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chat_stats.service.database.pool import LOCK_CLASS, Database, _lock_number
from chat_stats.service.errors import DatabaseBusy, LockHeld, RefreshRunning
from chat_stats.service.rollup.connection import UPKEEP_LOCK
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.cli.status import collect
from tests.conftest import Connection
from tests.rollup.conftest import Connect, ignored

INSERT = "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, now())"


@pytest.fixture
async def stranger(rolled_up: Connection, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of a role that may log in and nothing else, and tries every way to hold our locks."""
    name = f"stranger_of_{await rolled_up.fetchval('SELECT current_database()')}"
    await rolled_up.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'stranger'")
    connection = await asyncpg.connect(database_url, user=name, password="stranger")
    for number in range(1, 9):
        await connection.execute(f"SELECT pg_advisory_lock({LOCK_CLASS}, {number})")
    yield connection
    await connection.close()
    await rolled_up.execute(f"DROP ROLE {name}")


async def test_no_role_without_rights_keeps_the_rollup_from_being_folded_and_repaired(
    rolled_up: Connection, stranger: asyncpg.Connection
) -> None:
    await rolled_up.execute(INSERT)
    assert await Rollup(rolled_up).fold() > 0
    await rolled_up.execute(
        "SET lock_timeout = '1s'; SELECT chat_stats_rollup_repair('-infinity', 'infinity')"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await stranger.execute("SELECT FROM chat_stats_rollup_state FOR SHARE")


async def test_upkeep_names_the_role_that_holds_its_lock_and_what_ends_that(
    rolled_up: Connection, stranger: asyncpg.Connection
) -> None:
    name = await stranger.fetchval("SELECT current_user")
    pid = await stranger.fetchval("SELECT pg_backend_pid()")
    for upkeep in (
        Rollup(rolled_up).audit(),
        Rollup(rolled_up).cover_partitions(),
        Rollup(rolled_up).verify(ignored),
    ):
        with pytest.raises(LockHeld, match=rf"{name}.*pg_terminate_backend\({pid}\)"):
            await upkeep


async def test_status_names_the_role_that_holds_the_lock_of_upkeep_or_of_a_refresh(
    rolled_up: Connection, stranger: asyncpg.Connection, settings: Settings
) -> None:
    name = await stranger.fetchval("SELECT current_user")
    status = await collect(settings)
    assert name in status.locks
    assert "pg_terminate_backend" in status.locks
    database = Database(settings, application_name="test")
    await database.open()
    await stranger.execute(f"SELECT pg_advisory_lock({LOCK_CLASS}, {_lock_number('held')})")
    with pytest.raises(RefreshRunning, match=rf"the role {name} holds its lock"):
        async with database.lock("held"):
            pass
    await database.close()
    await stranger.execute("SELECT pg_advisory_unlock_all()")
    assert (await collect(settings)).locks == "ok"


async def test_a_lock_of_our_own_role_is_upkeep_under_way(rolled_up: Connection, connect: Connect) -> None:
    other = await connect()
    await other.execute(f"SELECT pg_advisory_lock({LOCK_CLASS}, {UPKEEP_LOCK})")
    with pytest.raises(DatabaseBusy, match="under way"):
        await Rollup(rolled_up).verify(ignored)


async def test_two_repairs_beside_each_other_keep_a_fold_away_and_not_one_another(
    rolled_up: Connection, connect: Connect
) -> None:
    await rolled_up.execute(INSERT)
    one, other = await connect(), await connect()
    async with one.transaction(), other.transaction():
        for connection in (one, other):
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute("SELECT chat_stats_rollup_repair('2030-01-01', '2030-01-02', true)")
        assert await Rollup(rolled_up).fold() == 0
    assert await Rollup(rolled_up).fold() > 0
