"""What statuses mean is a setting of functions, rollup and plain statements; a change is noticed."""

import logging

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.compute.ladder import compute
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.migrations import migrate
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup.state import state_in
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings

pytestmark = pytest.mark.every_postgres

#: All characters that mean something in any of the texts that a status passes through.
ODD = "it's 100% $done$ \\ stats_schema. grün"
REQUESTS = f"""
INSERT INTO providers (name, slug) VALUES ('One', 'one');
INSERT INTO models (provider_id, model_name) VALUES (1, 'Alpha');
INSERT INTO chat_completion_requests (model_id, status) VALUES
    (1, 'ok'), (1, 'DONE'), (1, 'done  '), (1, 'running'), (1, 'pending'), (1, NULL),
    (1, '{ODD.replace("'", "''")}');
"""
COUNTED = "SELECT successful_requests, pending_requests, failed_requests FROM get_chat_request_summary()"


@pytest.fixture
def other(database_url: str) -> Settings:
    """Settings with lists of their own."""
    return Settings(
        database_url=database_url,
        success_statuses=f"Done, {ODD}",
        pending_statuses="running",
        _env_file=None,
    )


async def run_migrations(settings: Settings) -> None:
    await migrate(settings, create_tables=False, started=lambda _name: None, warned=lambda _text: None)


async def counted(connection: asyncpg.Connection) -> tuple[int, ...]:
    [row] = await connection.fetch(COUNTED)
    return tuple(row)


async def test_a_changed_list_is_noticed_until_migrate_and_repair_ran(
    connection: asyncpg.Connection, database_url: str, other: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await connection.execute(REQUESTS)
    async with open_rollup(Settings(database_url=database_url, _env_file=None)) as rollup:
        await rollup.enable(lambda _requests: None)
    assert await counted(connection) == (1, 1, 5)

    database = Database(other, application_name="tests")
    await database.open()
    try:
        with caplog.at_level(logging.WARNING):
            for _look in range(2):
                async with database.transaction() as snapshot:
                    state = await state_in(snapshot, timeout=5)
        assert (state.state, state.trouble) == ("damaged", "statuses")
        assert state.reason in caplog.messages
        assert len(caplog.messages) == 1
        assert "CHAT_STATS_SUCCESS_STATUSES and CHAT_STATS_PENDING_STATUSES" in state.reason
        assert "run: chat-stats migrate, then chat-stats rollup repair" in state.reason
        async with open_rollup(other) as rollup:
            assert (await rollup.status()).trouble == "statuses"
            with pytest.raises(SchemaError, match="chat-stats migrate"):
                await rollup.repair(lambda _requests: None)

        await run_migrations(other)
        assert not await connection.fetchval("SELECT chat_stats_rollup_ready()")
        assert await counted(connection) == (3, 1, 3)  # scanned by the new lists
        async with open_rollup(other) as rollup:
            assert (await rollup.status()).trouble == "columns"
            assert "the meaning of statuses" in (await rollup.status()).reason
            assert await rollup.repair(lambda _requests: None) == 1
            assert (await rollup.status()).state == "on"
        assert await connection.fetchval("SELECT chat_stats_rollup_ready()")
        assert await counted(connection) == (3, 1, 3)

        # The statements that need no function count by the same lists.
        await connection.execute("DROP FUNCTION get_chat_request_summary")
        async with database.snapshot(wait_seconds=5) as snapshot:
            computed = await compute(snapshot, Query("summary"), timeout=20)
        assert computed.method == Method.OPTIMIZED
        assert isinstance(computed.data, dict)
        assert [computed.data[f"{name}_requests"] for name in ("successful", "pending", "failed")] == [
            3,
            1,
            3,
        ]
    finally:
        await database.close()


async def test_the_order_of_a_list_means_nothing(connection: asyncpg.Connection, database_url: str) -> None:
    reordered = Settings(database_url=database_url, pending_statuses="partial, PENDING", _env_file=None)
    assert reordered.statuses.trouble(await connection.fetchval("SELECT chat_stats_statuses()")) is None


async def test_without_pending_statuses_none_is_pending(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await connection.execute(REQUESTS)
    await run_migrations(Settings(database_url=database_url, pending_statuses="", _env_file=None))
    assert await counted(connection) == (1, 0, 6)
