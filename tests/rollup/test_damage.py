"""A damaged rollup is never read: the functions scan, `status` says why, and it can be mended."""

import asyncio
import json

import asyncpg
import pytest

from chat_stats.service.rollup import chunks
from chat_stats.service.rollup.state import ROLLUP_TABLES
from chat_stats.service.rollup.upkeep import Rollup
from tests.cases import sampled
from tests.conftest import Connection, run_migrations
from tests.processes import chat_stats
from tests.rollup.conftest import Connect, ignored
from tests.rollup.exactness import DRIFT, assert_exact
from tests.rollup.workload import ORDINARY

READY = "SELECT chat_stats_rollup_ready()"
COUNTED = "SELECT COALESCE(sum(request_count), 0) FROM get_model_request_counts()"
#: Those of models that exist.
REQUESTS = "SELECT count(*) FROM chat_completion_requests AS r JOIN models AS m ON m.id = r.model_id"

DAMAGES = {
    "its triggers are disabled": "ALTER TABLE chat_completion_requests DISABLE TRIGGER USER",
    "one trigger is dropped": "DROP TRIGGER chat_stats_update ON chat_completion_requests",
    "one trigger fires for replicas only": (
        "ALTER TABLE chat_completion_requests ENABLE REPLICA TRIGGER chat_stats_delete"
    ),
    "its state is lost": "DELETE FROM chat_stats_rollup_state",
    "the state table is dropped": "DROP TABLE chat_stats_rollup_state",
    **{f"{table} is dropped": f"DROP TABLE {table}" for table in ROLLUP_TABLES},
}


async def scans_and_counts_right(connection: Connection) -> bool:
    return not await connection.fetchval(READY) and (
        await connection.fetchval(COUNTED) == await connection.fetchval(REQUESTS)
    )


@pytest.mark.parametrize("damage", sampled(DAMAGES))
async def test_whatever_is_missing_answers_stay_right_writers_go_on_and_enable_mends_it(
    rolled_up: Connection, database_url: str, damage: str
) -> None:
    await rolled_up.execute(damage)
    assert await scans_and_counts_right(rolled_up)
    await rolled_up.execute(ORDINARY, 100)
    await rolled_up.execute("DELETE FROM chat_completion_requests WHERE id % 10 = 1")
    assert await scans_and_counts_right(rolled_up)
    status = await Rollup(rolled_up).status()
    assert status.state == "damaged"
    assert "chat-stats rollup enable" in status.reason

    await run_migrations(database_url)
    assert await scans_and_counts_right(rolled_up)
    await Rollup(rolled_up).enable(ignored)
    assert (await Rollup(rolled_up).status()).state == "on"
    await assert_exact(rolled_up)


async def test_status_says_why_it_is_damaged_and_exits_with_1(
    rolled_up: Connection, env: dict[str, str]
) -> None:
    assert chat_stats("rollup", "status", env=env).returncode == 0
    await rolled_up.execute(DAMAGES["one trigger is dropped"])
    plain = chat_stats("rollup", "status", env=env)
    as_json = chat_stats("rollup", "status", "--json", env=env)
    assert (plain.returncode, as_json.returncode) == (1, 1)
    assert "3 of its 4 triggers fire" in plain.stdout
    assert json.loads(as_json.stdout)["state"] == "damaged"


async def test_rows_that_bypassed_the_triggers_are_found_by_verify_and_repaired(
    rolled_up: Connection, rollup: Rollup
) -> None:
    assert await rollup.verify(ignored) == 0
    await rolled_up.execute("SET session_replication_role = replica")
    await rolled_up.execute(ORDINARY, 200)
    await rolled_up.execute("UPDATE chat_completion_requests SET processing_time_ms = 1 WHERE id % 50 = 1")
    await rolled_up.execute("INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, NULL)")
    await rolled_up.execute("SET session_replication_role = origin")

    drift = await rollup.verify(ignored)
    assert drift > 100
    status = await rollup.status()
    assert (status.state, status.drift) == ("damaged", drift)
    assert "chat-stats rollup repair" in status.reason
    assert await scans_and_counts_right(rolled_up)

    assert await rollup.repair(ignored) == drift
    assert (await rollup.status()).state == "on"
    await assert_exact(rolled_up)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE chat_stats_rollup_model_months SET requests = requests + 1 WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_months SET counts[1] = counts[1] + 1 WHERE model_id = 1",
        "DELETE FROM chat_stats_rollup_model_months WHERE model_id = 2",
        "INSERT INTO chat_stats_rollup_model_months"
        " SELECT 99, '2020-01-01', 1, 1, 1, 1, 1, 1, 1, 1, '{}', '{}'",
        "UPDATE chat_stats_rollup_model_lifetime SET cost_usd = cost_usd + 0.000001 WHERE model_id = 3",
        "DELETE FROM chat_stats_rollup_model_lifetime",
        "UPDATE chat_stats_rollup_model_lifetime"
        " SET (bins, counts) = (SELECT array_agg(u.bin ORDER BY u.bin DESC),"
        " array_agg(u.n ORDER BY u.bin DESC) FROM unnest(bins, counts) AS u (bin, n))",
        "INSERT INTO chat_stats_rollup_model_lifetime SELECT 99, true, 1, 1, 1, 1, 1, 1, 1, 1, '{}', '{}'",
        "UPDATE chat_stats_rollup_model_days SET requests = requests + 1, timed = 0 WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_slots SET slot_input_tokens[1] = -7 WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_slots SET counts[1] = 12 WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_slots SET slot_requests[1] = 9007199254740995 WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_slots SET counts[1] = 9007199254740995 WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_slots SET counts = counts || 12::bigint WHERE model_id = 1",
        "UPDATE chat_stats_rollup_model_slots SET slot_requests = slot_requests[2:] WHERE model_id = 1",
        "DELETE FROM chat_stats_rollup_model_days WHERE model_id = 4",
        "DELETE FROM chat_stats_rollup_model_slots WHERE model_id = 4",
        "UPDATE chat_stats_rollup_model_days SET requests = requests + 1 WHERE model_id IS NULL",
        "DELETE FROM chat_stats_rollup_model_lifetime WHERE model_id IS NULL",
        "UPDATE chat_stats_rollup_total_slots SET slot_requests[1] = slot_requests[1] + 1",
        "UPDATE chat_stats_rollup_total_slots SET counts[1] = 12",
        "UPDATE chat_stats_rollup_total_days SET cost_usd = -1",
        "DELETE FROM chat_stats_rollup_total_months",
        "UPDATE chat_stats_rollup_total_lifetime SET counts[1] = counts[1] + 1",
        "DELETE FROM chat_stats_rollup_total_lifetime",
    ],
)
async def test_totals_that_were_tampered_with_are_found_and_rebuilt(
    rolled_up: Connection, rollup: Rollup, tampering: str
) -> None:
    await rolled_up.execute(tampering)
    assert await rollup.verify(ignored) > 0
    assert await scans_and_counts_right(rolled_up)
    assert await rollup.repair(ignored) > 0
    await assert_exact(rolled_up)


@pytest.mark.parametrize("command", ["enable", "repair"])
async def test_after_drift_was_found_enable_mends_as_much_as_repair(
    rolled_up: Connection, rollup: Rollup, command: str
) -> None:
    await rolled_up.execute("UPDATE chat_stats_rollup_model_lifetime SET requests = 0")
    await rollup.verify(ignored)
    await getattr(rollup, command)(ignored)
    assert await rolled_up.fetchval(READY)
    await assert_exact(rolled_up)


async def test_a_truncate_that_cannot_see_what_it_takes_makes_the_functions_scan(
    rolled_up: Connection, connect: Connect
) -> None:
    """In a REPEATABLE READ transaction it takes rows that are younger than its snapshot."""
    other = await connect()
    truncation = other.transaction(isolation="repeatable_read")
    await truncation.start()
    await other.fetchval(COUNTED)
    await rolled_up.execute(ORDINARY, 100)
    await other.execute("TRUNCATE chat_completion_requests")
    await truncation.commit()
    await rolled_up.execute(ORDINARY, 10)
    assert await scans_and_counts_right(rolled_up)
    status = await Rollup(rolled_up).status()
    assert status.state == "damaged"
    assert "TRUNCATE in a REPEATABLE READ transaction" in status.reason
    await Rollup(rolled_up).enable(ignored)
    await assert_exact(rolled_up)


async def test_a_repair_begins_again_after_a_truncate_that_cannot_see_what_it_takes(
    rolled_up: Connection, rollup: Rollup, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 500)
    other, folds = await connect(), []

    async def fold_after_a_truncate() -> int:
        folds.append(True)
        if len(folds) == 1:
            async with other.transaction(isolation="repeatable_read"):
                await other.fetchval("SELECT count(*) FROM chat_completion_requests")
                await rolled_up.execute(
                    "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, '2023-01-01')"
                )
                await other.execute("TRUNCATE chat_completion_requests")
        return await Rollup(rolled_up).fold()

    monkeypatch.setattr(rollup, "fold", fold_after_a_truncate)
    await rollup.repair(ignored)
    assert await rolled_up.fetchval(READY)
    await assert_exact(rolled_up)


async def test_a_repair_that_waits_for_a_truncate_does_not_take_away_twice(
    rolled_up: Connection, connect: Connect
) -> None:
    other = await connect()
    truncation = other.transaction()
    await truncation.start()
    await other.execute("TRUNCATE chat_completion_requests")
    repair = asyncio.create_task(Rollup(rolled_up).repair(ignored))
    await asyncio.sleep(0.3)
    assert not repair.done()
    await truncation.commit()
    assert await repair == 0
    await assert_exact(rolled_up)


async def test_no_role_can_attach_the_recording_functions_to_its_own_table(rolled_up: Connection) -> None:
    await rolled_up.execute(
        "CREATE ROLE stranger_of_triggers; CREATE SCHEMA theirs AUTHORIZATION stranger_of_triggers;"
        "SET ROLE stranger_of_triggers; CREATE TABLE theirs.requests (model_id bigint)"
    )
    try:
        for function in ("chat_stats_record_changes", "chat_stats_record_shard_changes"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for function"):
                await rolled_up.execute(
                    "CREATE TRIGGER t AFTER INSERT ON theirs.requests REFERENCING NEW TABLE AS new_rows "
                    f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
                )
    finally:
        await rolled_up.execute(
            "RESET ROLE; DROP OWNED BY stranger_of_triggers; DROP ROLE stranger_of_triggers"
        )
    assert await rolled_up.fetchval(DRIFT) == 0
