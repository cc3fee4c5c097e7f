"""A database of version 0.1.0 becomes one of this version: nothing that was kept is lost."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import COMPARISON, assert_exact
from tests.rollup.workload import fill

pytestmark = pytest.mark.every_postgres

#: sql/chat_stats.sql as that version had it.
FORMER = Path(__file__).with_name("version_0_1_0.sql").read_text()

#: What that version's `rollup enable` and `purge` did.
TRIGGERS = "; ".join(
    f"CREATE TRIGGER chat_stats_{name} AFTER {name.upper()} ON chat_completion_requests {tables} "
    "FOR EACH STATEMENT EXECUTE FUNCTION chat_stats_record_changes()"
    for name, tables in (
        ("insert", "REFERENCING NEW TABLE AS new_rows"),
        ("update", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("delete", "REFERENCING OLD TABLE AS old_rows"),
    )
) + (
    "; CREATE TRIGGER chat_stats_truncate BEFORE TRUNCATE ON chat_completion_requests "
    "FOR EACH STATEMENT EXECUTE FUNCTION chat_stats_record_changes()"
)
BACKFILL = """
SELECT chat_stats_rollup_repair('-infinity', 'infinity');
SELECT chat_stats_rollup_repair(NULL, NULL);
UPDATE chat_stats_rollup_state SET ready = true, columns = chat_stats_request_columns();
"""
PURGE = "SELECT * FROM chat_stats_purge('-infinity', date_trunc('day', now(), 'UTC') - interval '50 days')"

MODELS = "SELECT * FROM get_models_with_requests()"
SERIES = (
    "SELECT bucket_start, group_id, total_requests, total_cost_usd, p50_processing_time_ms "
    "FROM get_chat_request_timeseries('1d', 'model', 'UTC', NULL, date_trunc('day', now())) "
    "WHERE group_id <> 'unresolved'"
)


@pytest.fixture
async def former(empty_database: str) -> AsyncIterator[Connection]:
    """A database of that version with the rollup on, the older half purged, and changes not folded."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(FORMER)
    await fill(connection, 2000)
    await connection.execute(TRIGGERS)
    await connection.execute(BACKFILL)
    async with connection.transaction(isolation="repeatable_read"):
        [done] = await connection.fetch(PURGE)
        assert done["deleted"] > 500
        assert done["differing"] == 0
    await connection.execute(
        "UPDATE chat_stats_rollup_state "
        "SET purged_before = date_trunc('day', now(), 'UTC') - interval '50 days'"
    )
    await connection.execute("INSERT INTO chat_completion_requests (model_id, status) VALUES (1, 'ok')")
    yield connection
    await connection.close()


async def test_migrate_and_repair_take_over_what_was_kept(former: Connection, empty_database: str) -> None:
    models, series = await former.fetch(MODELS), await former.fetch(SERIES)
    kept = await former.fetch("SELECT model_id, day, slot_requests FROM chat_stats_purged ORDER BY 1, 2")

    await run_migrations(empty_database)
    assert not await former.fetchval("SELECT chat_stats_rollup_ready()")
    assert await former.fetch(MODELS) == models  # by a scan
    assert await former.fetch(SERIES) == series
    assert kept == await former.fetch(
        "SELECT model_id, day, slot_requests FROM chat_stats_purged_model ORDER BY 1, 2"
    )
    leftovers = await former.fetch(
        "SELECT relname FROM pg_class WHERE relname = ANY ($1) UNION ALL "
        "SELECT proname FROM pg_proc WHERE proname LIKE '%\\_former\\_%' OR proname = ANY ($1)",
        [
            "chat_stats_purged",
            "chat_stats_rollup_slots",
            "chat_stats_rollup_lifetime",
            "chat_stats_days_of_slots",
        ],
    )
    assert leftovers == []

    added = await former.fetch(
        "INSERT INTO chat_completion_requests (model_id) VALUES (2), (NULL) RETURNING id"
    )
    await Rollup(former).repair(ignored)
    assert (await Rollup(former).status()).state == "on"
    # The last one from before the upgrade goes too, and comes again.
    await former.execute("DELETE FROM chat_completion_requests WHERE id >= $1 - 1", added[0]["id"])
    await former.execute("INSERT INTO chat_completion_requests (model_id, status) VALUES (1, 'ok')")
    assert [dict(row) for row in await former.fetch(MODELS)] == [dict(row) for row in models]
    assert await former.fetch(SERIES) == series
    await former.execute(COMPARISON)
    await assert_exact(former)
    total = await former.fetchval("SELECT total_requests FROM get_chat_request_summary()")
    assert total == await former.fetchval(
        "SELECT (SELECT count(*) FROM chat_completion_requests) "
        "+ (SELECT sum(n) FROM chat_stats_purged_model, unnest(slot_requests) AS n)"
    )


async def test_writes_go_on_between_migrate_and_repair(former: Connection, empty_database: str) -> None:
    await run_migrations(empty_database)
    await run_migrations(empty_database)  # safe to run again
    await former.execute("INSERT INTO chat_completion_requests (model_id, status) VALUES (1, 'pending')")
    await former.execute("UPDATE chat_completion_requests SET model_id = NULL WHERE model_id = 1")
    await former.execute("DELETE FROM chat_completion_requests WHERE id % 3 = 0")
    await Rollup(former).enable(ignored)
    await former.execute(COMPARISON)
    await assert_exact(former)
