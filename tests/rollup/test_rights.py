"""Roles that may do some things and not others."""

from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import pytest

from chat_stats.service.errors import DatabaseUnavailable, SchemaError
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from chat_stats.worker import tasks
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import assert_exact

READY = "SELECT chat_stats_rollup_ready()"
COUNTS = "SELECT * FROM get_model_request_counts()"
#: Each way to numbers of its own.
STATISTICS = (
    COUNTS,
    "SELECT * FROM get_model_request_counts('2024-01-10T11:07:00Z', '2024-03-02T23:11:00Z')",
    "SELECT * FROM get_chat_request_percentiles('model')",
    "SELECT * FROM get_chat_request_timeseries('1d', 'model', 'America/New_York', "
    "'2024-01-10T11:07:00Z', '2024-03-02T23:11:00Z')",
)

_numbers = count(1)


@pytest.fixture
async def role(requests: Connection) -> AsyncIterator[str]:
    """A role that may do nothing yet."""
    name = f"some_role_{next(_numbers)}"
    await requests.execute(f"CREATE ROLE {name}")
    yield name
    await requests.execute(f"RESET ROLE; DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


async def test_who_may_insert_and_nothing_else_can_still_write(rolled_up: Connection, role: str) -> None:
    await rolled_up.execute(f"GRANT INSERT ON chat_completion_requests TO {role}; SET ROLE {role}")
    await rolled_up.execute("INSERT INTO chat_completion_requests (model_id, input_tokens) VALUES (1, 5)")
    await rolled_up.execute("RESET ROLE")
    await assert_exact(rolled_up)


async def test_who_may_update_delete_and_truncate_the_requests_needs_nothing_more(
    rolled_up: Connection, role: str
) -> None:
    await rolled_up.execute(f"GRANT ALL ON chat_completion_requests TO {role}; SET ROLE {role}")
    await rolled_up.execute("UPDATE chat_completion_requests SET model_id = 2 WHERE id % 3 = 0")
    await rolled_up.execute("DELETE FROM chat_completion_requests WHERE id % 3 = 1")
    await rolled_up.execute("RESET ROLE")
    await assert_exact(rolled_up)
    await rolled_up.execute(f"SET ROLE {role}; TRUNCATE chat_completion_requests; RESET ROLE")
    await assert_exact(rolled_up)


async def test_who_may_not_read_the_rollup_gets_the_same_numbers_by_a_scan(
    rolled_up: Connection, role: str
) -> None:
    expected = [await rolled_up.fetch(statistic) for statistic in STATISTICS]
    await rolled_up.execute(
        f"GRANT SELECT ON chat_completion_requests, models, providers TO {role};"
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}; SET ROLE {role}"
    )
    assert not await rolled_up.fetchval(READY)
    assert [await rolled_up.fetch(statistic) for statistic in STATISTICS] == expected
    await rolled_up.execute(
        f"RESET ROLE; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; SET ROLE {role}"
    )
    assert await rolled_up.fetchval(READY)
    assert [await rolled_up.fetch(statistic) for statistic in STATISTICS] == expected


async def test_who_may_see_only_some_requests_does_not_get_the_numbers_of_all(
    rolled_up: Connection, role: str
) -> None:
    await rolled_up.execute(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role};"
        "ALTER TABLE chat_completion_requests ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON chat_completion_requests USING (model_id = 2)"
    )
    await rolled_up.execute(f"SET ROLE {role}")
    assert [row["model_id"] for row in await rolled_up.fetch(COUNTS)] == [2]


@pytest.fixture
async def migrated_by_role(requests: Connection, role: str) -> asyncpg.Connection:
    """The rollup's tables and functions belong to the role; the requests do not."""
    await requests.execute(
        f"GRANT ALL ON SCHEMA public TO {role}; GRANT SELECT ON models, providers TO {role};"
    )
    ours = await requests.fetch(
        "SELECT 'TABLE ' || oid::regclass FROM pg_class "
        "WHERE relname LIKE 'chat\\_stats\\_%' AND relkind = 'r' "
        "UNION ALL "
        "SELECT 'FUNCTION ' || oid::regprocedure FROM pg_proc WHERE proname LIKE 'chat\\_stats\\_%'"
    )
    for (what,) in ours:
        await requests.execute(f"ALTER {what} OWNER TO {role}")
    await requests.execute(f"SET ROLE {role}")
    return requests


async def test_enable_names_the_rights_that_are_missing_and_the_grant(
    migrated_by_role: asyncpg.Connection, role: str
) -> None:
    connection = migrated_by_role
    rollup = Rollup(connection)
    with pytest.raises(SchemaError) as refused:
        await rollup.enable(ignored)
    grant = f"GRANT SELECT, TRIGGER ON chat_completion_requests TO {role}"
    assert f"lacks SELECT and TRIGGER on chat_completion_requests; its owner can say: {grant}" in str(
        refused.value
    )
    await connection.execute(f"RESET ROLE; {grant}; SET ROLE {role}")
    await rollup.enable(ignored)
    assert await connection.fetchval(READY)
    await connection.execute("RESET ROLE")
    await assert_exact(connection)


async def test_disable_by_a_role_that_cannot_drop_triggers_says_what_their_owner_must_do(
    migrated_by_role: asyncpg.Connection, role: str
) -> None:
    connection = migrated_by_role
    await connection.execute(
        f"RESET ROLE; GRANT SELECT, TRIGGER ON chat_completion_requests TO {role}; SET ROLE {role}"
    )
    await Rollup(connection).enable(ignored)
    with pytest.raises(SchemaError, match="DROP TRIGGER IF EXISTS chat_stats_insert"):
        await Rollup(connection).disable()
    assert not await connection.fetchval(READY)


async def test_a_role_that_does_not_keep_the_rollup_is_told_so(requests: Connection, role: str) -> None:
    await requests.execute(f"GRANT ALL ON chat_completion_requests TO {role}; SET ROLE {role}")
    with pytest.raises(SchemaError, match="kept by the role that ran chat-stats migrate"):
        await Rollup(requests).enable(ignored)


async def test_without_migrations_every_command_says_to_run_them(empty_database: str) -> None:
    await run_migrations(empty_database)
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(
            "DROP TABLE chat_stats_rollup_state, chat_stats_deltas, chat_stats_rollup_model_slots, "
            "chat_stats_rollup_model_days, chat_stats_rollup_model_months, chat_stats_rollup_model_lifetime"
        )
        for command in (Rollup.status, lambda rollup: rollup.enable(ignored), Rollup.disable):
            with pytest.raises(SchemaError, match="run: chat-stats migrate"):
                await command(Rollup(connection))
    finally:
        await connection.close()


async def test_on_a_read_only_server_folding_says_so_as_an_outage(
    rolled_up: asyncpg.Connection, database_url: str
) -> None:
    """A failover to a standby is over when it is promoted: the worker tries again, and logs no traceback."""
    await rolled_up.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    await rolled_up.execute(
        "DO $$ BEGIN EXECUTE format("
        "'ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"
    )
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await tasks.fold(Settings(database_url=database_url, _env_file=None))
