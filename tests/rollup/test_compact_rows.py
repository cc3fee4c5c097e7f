"""How rollups of the operator's own keep rows of one request or a few, and rows of an earlier form."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.rollup import rewriting
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.processes import chat_stats
from tests.rollup.conftest import Connect, ignored
from tests.rollup.exactness import DRIFT
from tests.rollup.own import add, differences

pytestmark = [pytest.mark.every_postgres, pytest.mark.slow]

INSERT = """
INSERT INTO chat_completion_requests (user_id, input_tokens, processing_time_ms, status, created_at)
SELECT 'new', 5, n * 100, 'ok', '2024-05-01 00:00Z'::timestamptz + n * interval '{minutes} minutes'
FROM generate_series(1, $1::int) AS n
"""

#: The tables of the rollup by status and model as an earlier form had them, all of it written out. Of
#: requests with one status they are those of the rollup by model.
EARLIER = """
UPDATE chat_completion_requests SET status = 'ok';
SELECT chat_stats_fold();
DROP TABLE chat_stats_rollup_both_slots, chat_stats_rollup_both_months, chat_stats_rollup_both_lifetime;
DO $$ DECLARE tier text; key text; BEGIN
    FOR tier, key IN
        VALUES ('slots', 'day'), ('days', 'day'), ('months', 'month'), ('lifetime', 'always')
    LOOP
        EXECUTE format(
            'CREATE TABLE chat_stats_rollup_both_%1$s (LIKE chat_stats_rollup_model_%1$s);'
            'INSERT INTO chat_stats_rollup_both_%1$s SELECT * FROM chat_stats_rollup_model_%1$s;'
            'ALTER TABLE chat_stats_rollup_both_%1$s ADD by_status text COLLATE "C" DEFAULT ''ok'','
            'ADD UNIQUE NULLS NOT DISTINCT (model_id, by_status, %2$s)',
            tier, key
        );
    END LOOP;
END $$;
"""


@pytest.fixture
async def users(requests: Connection) -> Connection:
    """3,000 requests of a few users, and a rollup by user."""
    await requests.execute("UPDATE chat_completion_requests SET user_id = 'u' || id % 7")
    await Rollup(requests).enable(ignored)
    await add(requests, "users", "user_id")
    return requests


async def written_out(connection: Connection, user: str) -> list[int]:
    """Return of each row of a day of the user how many columns hold something beside its key."""
    records = await connection.fetch(
        "SELECT (SELECT count(*)::int FROM jsonb_each(to_jsonb(t)) AS e WHERE e.value <> 'null') AS columns "
        "FROM chat_stats_rollup_users_slots AS t WHERE by_user_id = $1 ORDER BY day",
        user,
    )
    return [record["columns"] - 2 for record in records]


async def assert_exact(connection: Connection, rollup: str = "users") -> None:
    keys = {"users": {"by_user_id": "user_id"}, "both": {"by_status": "status", "model_id": "model_id"}}
    assert await differences(connection, rollup, keys[rollup]) == []
    assert await connection.fetchval(DRIFT) == 0


async def test_a_day_of_one_request_takes_no_array_and_grows_and_shrinks_exactly(users: Connection) -> None:
    single = INSERT.format(minutes=1)
    await users.execute(single, 1)
    await users.execute("SELECT chat_stats_fold()")
    assert await written_out(users, "new") == [3], "slot, input_tokens and time_ms"
    await assert_exact(users)
    # More in its slot: a histogram, and numbers of requests that are not usual.
    await users.execute(single, 3)
    await users.execute("SELECT chat_stats_fold()")
    [columns] = await written_out(users, "new")
    assert columns > 3
    await assert_exact(users)
    # More slots, one of them without a time, one that failed.
    await users.execute(INSERT.format(minutes=20), 20)
    await users.execute(
        "UPDATE chat_completion_requests SET processing_time_ms = NULL WHERE user_id = 'new' AND id % 5 = 0;"
        "UPDATE chat_completion_requests SET status = 'pending' WHERE user_id = 'new' AND id % 7 = 0;"
        "UPDATE chat_completion_requests SET status = 'failed' WHERE user_id = 'new' AND id % 11 = 0"
    )
    await users.execute("SELECT chat_stats_fold()")
    await assert_exact(users)
    # Back to one, and to none.
    keep = "(SELECT min(id) FROM chat_completion_requests WHERE user_id = 'new')"
    await users.execute(
        f"DELETE FROM chat_completion_requests WHERE user_id = 'new' AND id <> {keep};"
        "UPDATE chat_completion_requests SET status = 'ok', processing_time_ms = 7 WHERE user_id = 'new'"
    )
    await users.execute("SELECT chat_stats_fold()")
    assert await written_out(users, "new") == [3]
    await assert_exact(users)
    await users.execute("DELETE FROM chat_completion_requests WHERE user_id = 'new'")
    await users.execute("SELECT chat_stats_fold()")
    await assert_exact(users)
    assert await Rollup(users).verify(ignored) == 0


#: Statements, and whether months or lifetime differ alone by then, or days from the requests, too.
DAMAGE = {
    "UPDATE chat_stats_rollup_users_slots SET requests = requests + 1 WHERE slots IS NOT NULL": True,
    "UPDATE chat_stats_rollup_users_months SET bins = NULL, counts = NULL": True,
    "UPDATE chat_stats_rollup_users_months SET counts = NULL": True,
    "UPDATE chat_stats_rollup_users_lifetime SET timed = timed + 1": True,
    "UPDATE chat_stats_rollup_users_slots SET slot_requests = NULL": False,
    "UPDATE chat_stats_rollup_users_slots SET slot_cost_usd = slot_cost_usd[2:], bins = NULL": False,
    "UPDATE chat_stats_rollup_users_slots SET slots = NULL, slot = 3": False,
    "DELETE FROM chat_stats_rollup_users_slots WHERE by_user_id = 'u1'": False,
}


async def test_what_is_damaged_is_found_and_repaired(users: Connection) -> None:
    for damage, tiers_alone in DAMAGE.items():
        await users.execute(damage)
        assert await users.fetchval("SELECT chat_stats_rollup_tier_drift()") > 0, damage
        found = await users.fetchval(
            "SELECT count(*) FROM chat_stats_rollup_differences('-infinity', 'infinity')"
        )
        assert (found == 0) is tiers_alone, damage
        assert await Rollup(users).repair(ignored) > 0, damage
        await assert_exact(users)
    assert await Rollup(users).verify(ignored) == 0


@pytest.mark.parametrize("seconds", [2, 60])
async def test_a_table_that_is_in_use_for_long_is_left_as_it_is_when_a_rollup_was_added(
    users: Connection, connect: Connect, seconds: float
) -> None:
    """An autovacuum, which gives way after a second, is not long."""

    @asynccontextmanager
    async def another() -> AsyncIterator[Connection]:
        yield await connect()

    async def files() -> list[int]:
        return [
            await users.fetchval(f"SELECT pg_relation_filenode('chat_stats_rollup_users_{tier}')")
            for tier in ("slots", "months", "lifetime")
        ]

    async def stop_reading() -> None:
        await asyncio.sleep(seconds)
        await reader.execute("COMMIT")

    reader = await connect()
    await reader.execute("BEGIN; SELECT FROM chat_stats_rollup_users_slots LIMIT 1")
    reading = asyncio.create_task(stop_reading())
    before = await files()
    await Rollup(users, another).backfill_own("users", "infinity", ignored)
    after = await files()
    reading.cancel()
    assert [old == new for old, new in zip(before, after, strict=True)] == [seconds > 30, False, False]
    assert await users.fetchval("SELECT ready FROM chat_stats_rollups")
    await assert_exact(users)


async def test_a_rollup_is_added_although_its_tables_cannot_be_rewritten(
    users: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriting, "LOCK_MS", 60_000)
    canceller, reader = await connect(), await connect()

    @asynccontextmanager
    async def another() -> AsyncIterator[Connection]:
        yield await connect()

    async def cancel() -> None:
        """As a full disk, or a time limit of the host, ends a statement."""
        async with asyncio.timeout(50):
            while not await canceller.fetchval(  # noqa: ASYNC110
                "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE 'VACUUM (FULL%' "
                "AND wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.05)

    await reader.execute("BEGIN; SELECT FROM chat_stats_rollup_users_slots LIMIT 1")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(cancel())
        await Rollup(users, another).backfill_own("users", "infinity", ignored)
    assert await users.fetchval("SELECT ready FROM chat_stats_rollups")
    assert await users.fetchval("SHOW lock_timeout") == "0"
    await assert_exact(users)


async def test_rows_of_an_earlier_form_are_read_as_they_are_and_written_on(
    requests: Connection, env: dict[str, str]
) -> None:
    await Rollup(requests).enable(ignored)
    await add(requests, "both", "status", "model_id")
    await requests.execute(EARLIER)
    question = (
        "SELECT * FROM get_chat_request_stats('{status,model_id}', p_start => $1, p_bucket => $2) "
        "WHERE total_requests > 0"
    )
    since = await requests.fetchval(
        "SELECT max(created_at) - interval '3 days' FROM chat_completion_requests"
    )
    assert chat_stats("migrate", env=env).returncode == 0
    assert await requests.fetchval("SELECT to_regclass('chat_stats_rollup_both_days')") is None
    assert await requests.fetchval("SELECT ready FROM chat_stats_rollups")
    for _ in range(2):
        await assert_exact(requests, "both")
        kept = [await requests.fetch(question, since, bucket) for bucket in ("1h", "1d", None)]
        await requests.execute("UPDATE chat_stats_rollups SET ready = false")
        scanned = [await requests.fetch(question, since, bucket) for bucket in ("1h", "1d", None)]
        await requests.execute("UPDATE chat_stats_rollups SET ready = true")
        assert kept == scanned
        await requests.execute("UPDATE chat_completion_requests SET input_tokens = 1 WHERE id % 5 = 0")
        await requests.execute("DELETE FROM chat_completion_requests WHERE id % 4 = 0")
        await requests.execute("SELECT chat_stats_fold()")
    assert await Rollup(requests).verify(ignored) == 0


@pytest.mark.parametrize(
    ("name", "user", "at_most"),
    [("users", "floor(20000 * random() ^ 3)", 1.5), ("teams", "id % 5", 6)],
    ids=["a heavy tail of users", "few users"],
)
async def test_what_a_rollup_will_hold_is_estimated_from_a_sample(
    requests: Connection, name: str, user: str, at_most: float
) -> None:
    await requests.execute(f"""
        SELECT setseed(0.5);
        INSERT INTO chat_completion_requests (status, created_at, processing_time_ms)
        SELECT 'ok', timestamptz '2025-01-01 00:00Z' + random() * interval '200 days', n
        FROM generate_series(1, 97000) AS n;
        UPDATE chat_completion_requests SET user_id = {user};
        ANALYZE chat_completion_requests
    """)
    await Rollup(requests).enable(ignored)
    rollups = OwnRollups(Rollup(requests), known_dimensions("user_id"))
    wanted = await rollups.declare(name, ["user_id"], percentiles=True)
    expected = await rollups.estimate(wanted)
    await rollups.add(wanted, lambda _done: None)
    groups = await requests.fetchval(f"SELECT count(*) FROM chat_stats_rollup_{name}_lifetime")
    assert expected.groups == pytest.approx(groups, rel=0.4)
    [size] = [each.size_bytes for each in await rollups.list_all() if each.name == name]
    assert size is not None
    assert size / 1.5 < expected.size_bytes < size * at_most
