"""Partitions come and go: what goes with one is kept in the statistics, and comes back with it."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from chat_stats.service.database import queries
from chat_stats.service.database.names import Names
from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup import retention as purging
from chat_stats.service.rollup.connection import TABLE, UpkeepConnection
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import COMPARISON, assert_exact
from tests.rollup.test_schemas import INSERT, Gateway, tables

pytestmark = pytest.mark.every_postgres

#: How many requests lists have, where the rollup tells.
COUNT_OF_THE_ROLLUP = Names({}, None).fill(queries.load("requests_rolled_up"))

READY = "SELECT chat_stats_rollup_ready()"
COUNTS = "SELECT * FROM get_model_request_counts()"
SUMMARY = "SELECT * FROM get_chat_request_summary($1, $2)"
JANUARY = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
DETACH = "ALTER TABLE chat_completion_requests DETACH PARTITION requests_early"
DROP = "DROP TABLE requests_early"
ATTACH = (
    "ALTER TABLE chat_completion_requests ATTACH PARTITION requests_early "
    "FOR VALUES FROM (MINVALUE) TO ('2024-02-01')"
)


@pytest.fixture
def moment() -> str:
    """The type of created_at."""
    return "timestamptz"


@pytest.fixture
async def partitioned(moment: str, empty_database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to requests in partitions by time, with the rollup on."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(tables(Gateway(moment=moment, partitions="PARTITION BY RANGE (created_at)")))
    await run_migrations(empty_database)
    await connection.execute(COMPARISON)
    await connection.execute(INSERT, 1000)
    await Rollup(connection).enable(ignored)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("goes", "notices"),
    [(DETACH, "audit"), (DROP, "verify"), (DETACH, "repair"), (DROP, "purge")],
)
async def test_what_goes_with_a_partition_is_kept(
    partitioned: asyncpg.Connection, goes: str, notices: str
) -> None:
    rollup = Rollup(partitioned)
    counts, january = await partitioned.fetch(COUNTS), await partitioned.fetchrow(SUMMARY, *JANUARY)
    await partitioned.execute(goes)
    assert await partitioned.fetch(COUNTS) == counts
    if notices == "purge":
        await Retention(partitioned).purge(JANUARY[0], ignored)
    else:
        assert await getattr(rollup, notices)(*([] if notices == "audit" else [ignored])) == 0
    assert (await rollup.status()).state == "on"
    assert await partitioned.fetch(COUNTS) == counts
    assert await partitioned.fetchrow(SUMMARY, *JANUARY) == january
    await assert_exact(partitioned)
    assert await rollup.verify(ignored) == 0

    await rollup.disable()
    assert await partitioned.fetch(COUNTS) == counts
    await rollup.enable(ignored)
    assert await partitioned.fetch(COUNTS) == counts
    await assert_exact(partitioned)


async def test_a_partition_that_goes_while_an_audit_compares_is_no_difference(
    partitioned: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_snapshot, changes = UpkeepConnection.in_snapshot, [DETACH]

    async def after_it_went(self: UpkeepConnection, statement: str, *args: str | None) -> Counter[str]:
        while changes:
            await partitioned.execute(changes.pop())
        return await in_snapshot(self, statement, *args)

    monkeypatch.setattr(UpkeepConnection, "in_snapshot", after_it_went)
    counts = await partitioned.fetch(COUNTS)
    assert await Rollup(partitioned).audit() == 0
    status = await Rollup(partitioned).status()
    assert (status.state, status.purged_requests > 0) == ("on", True)
    assert await partitioned.fetch(COUNTS) == counts


@pytest.mark.parametrize("moment", ["timestamptz", "timestamp"])
async def test_a_partition_that_is_attached_again_counts_once(partitioned: asyncpg.Connection) -> None:
    rollup = Rollup(partitioned)
    counts = await partitioned.fetch(COUNTS)
    for _ in range(2):
        await partitioned.execute(DETACH)
        assert await rollup.verify(ignored) == 0
        assert (await rollup.status()).purged_requests > 0
        await partitioned.execute(ATTACH)
        assert await rollup.verify(ignored) == 0
        assert (await rollup.status()).purged_requests == 0
        assert await partitioned.fetch(COUNTS) == counts
        await assert_exact(partitioned)


@pytest.mark.parametrize("command", ["enable", "repair"])
async def test_a_rollup_is_not_rebuilt_without_the_sums_of_what_went_with_a_partition(
    partitioned: asyncpg.Connection, empty_database: str, command: str
) -> None:
    rollup = Rollup(partitioned)
    await partitioned.execute(DETACH)
    assert await rollup.verify(ignored) == 0
    if command == "repair":  # as one that went under an earlier version
        await partitioned.execute("UPDATE chat_stats_rollup_state SET purged_before = NULL")
        await run_migrations(empty_database)
    counts = await partitioned.fetch(COUNTS)
    await partitioned.execute("DELETE FROM chat_stats_purged_model")
    assert await rollup.verify(ignored) > 0
    state = await rollup.state()
    lost = (
        "chat_stats_purged_model has lost the sums of the requests that were purged, or went with a partition"
    )
    assert (state.trouble, lost in state.reason) == ("drift", True)
    with pytest.raises(SchemaError, match=lost):
        await getattr(rollup, command)(ignored)
    await partitioned.execute("UPDATE chat_stats_rollup_state SET purged_before = NULL")
    await getattr(rollup, command)(ignored)
    assert (await rollup.state()).state == "on"
    assert await partitioned.fetch(COUNTS) != counts
    await assert_exact(partitioned)


async def test_a_partition_that_came_back_leaves_nothing_to_lose(partitioned: asyncpg.Connection) -> None:
    rollup = Rollup(partitioned)
    counted = await partitioned.fetchval(COUNT_OF_THE_ROLLUP, *[None] * 5)
    await partitioned.execute(DETACH)
    assert await rollup.verify(ignored) == 0
    # Lists hold the requests that there are: they must not take their count from the statistics.
    assert await partitioned.fetchval(COUNT_OF_THE_ROLLUP, *[None] * 5) is None
    await partitioned.execute(ATTACH)
    assert await rollup.verify(ignored) == 0
    assert await partitioned.fetchval(COUNT_OF_THE_ROLLUP, *[None] * 5) == counted > 0
    await partitioned.execute("DELETE FROM chat_stats_purged_model; DELETE FROM chat_stats_purged_total")
    assert await rollup.repair(ignored) == 0
    await assert_exact(partitioned)


async def test_a_partition_can_be_purged_in_part_and_then_go(
    partitioned: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "PAUSE", 0)
    counts = await partitioned.fetch(COUNTS)
    purged = await Retention(partitioned).purge(datetime(2024, 1, 15, tzinfo=UTC), ignored)
    assert purged.requests > 100
    await partitioned.execute(DROP)
    assert await Rollup(partitioned).verify(ignored) == 0
    assert await partitioned.fetch(COUNTS) == counts
    await assert_exact(partitioned)


async def test_a_partition_that_ends_within_a_bucket_takes_nothing_of_its_neighbour(
    partitioned: asyncpg.Connection,
) -> None:
    await partitioned.execute("""
        ALTER TABLE chat_completion_requests DETACH PARTITION requests_late;
        CREATE TABLE requests_odd PARTITION OF chat_completion_requests
            FOR VALUES FROM ('2024-05-01 00:07') TO ('2024-05-02 00:07');
        CREATE TABLE requests_after PARTITION OF chat_completion_requests
            FOR VALUES FROM ('2024-05-02 00:07') TO (MAXVALUE);
        INSERT INTO chat_completion_requests (model_id, created_at)
            SELECT (SELECT min(id) FROM models), '2024-04-30 23:00'::timestamptz + n * interval '2 minutes'
            FROM generate_series(1, 1000) AS n
    """)
    rollup = Rollup(partitioned)
    assert await rollup.verify(ignored) == 0
    counts = await partitioned.fetch(COUNTS)
    await partitioned.execute("DROP TABLE requests_odd")
    assert await rollup.verify(ignored) == 0
    assert await partitioned.fetch(COUNTS) == counts
    await assert_exact(partitioned)


async def test_requests_of_no_and_of_infinite_times_stay_in_the_statistics_too(
    empty_database: str,
) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        hashed = tables(Gateway(partitions="PARTITION BY HASH (model_id)")).split(
            "CREATE TABLE requests_early"
        )[0]
        await connection.execute(hashed)
        half = "chat_completion_requests FOR VALUES WITH (MODULUS 2, REMAINDER {0})"
        for n in range(2):
            await connection.execute(f"CREATE TABLE half_{n} PARTITION OF {half.format(n)}")
        await run_migrations(empty_database)
        await connection.execute(COMPARISON)
        await connection.execute(
            "INSERT INTO chat_completion_requests (model_id, processing_time_ms, created_at) "
            "SELECT m.id, 5, t.moment FROM models AS m, (VALUES (NULL::timestamptz), ('infinity'), "
            "('-infinity'), ('0044-03-15 BC'), ('2024-01-01')) AS t (moment)"
        )
        rollup = Rollup(connection)
        await rollup.enable(ignored)
        assert await rollup.verify(ignored) == 0
        counts = await connection.fetch(COUNTS)
        for change in (
            "DETACH PARTITION half_0",
            "ATTACH PARTITION " + half.format(0).replace(TABLE, "half_0"),
        ):
            await connection.execute(f"ALTER TABLE chat_completion_requests {change}")
            assert await rollup.verify(ignored) == 0
            assert await connection.fetch(COUNTS) == counts
            await assert_exact(connection)
        assert (await rollup.status()).purged_requests == 0
    finally:
        await connection.close()


async def test_rows_that_went_past_the_triggers_elsewhere_are_still_drift(
    partitioned: asyncpg.Connection,
) -> None:
    await partitioned.execute(DETACH)
    await partitioned.execute(
        "DELETE FROM requests_late WHERE id % 2 = 0; SET session_replication_role = replica"
    )
    await partitioned.execute("DELETE FROM chat_completion_requests WHERE id % 2 = 1")
    await partitioned.execute("SET session_replication_role = origin")
    assert await Rollup(partitioned).verify(ignored) > 0
    assert (await Rollup(partitioned).status()).state == "damaged"
    assert await Rollup(partitioned).repair(ignored) > 0
    await assert_exact(partitioned)


DIRECTLY = (
    "INSERT INTO requests_early (id, model_id, created_at) "
    "SELECT -i, 1, '2024-01-05' FROM generate_series(1, 9) AS i"
)


async def test_what_is_written_to_a_partition_directly_counts(partitioned: asyncpg.Connection) -> None:
    await partitioned.execute(DIRECTLY)
    await assert_exact(partitioned)
    await partitioned.execute(
        "UPDATE requests_early SET input_tokens = 3 WHERE id < 0; DELETE FROM requests_early WHERE id = -1"
    )
    await assert_exact(partitioned)
    await partitioned.execute("TRUNCATE requests_early")
    await assert_exact(partitioned)
    await partitioned.execute("TRUNCATE chat_completion_requests")
    await assert_exact(partitioned)
    assert await partitioned.fetchval(READY)


async def test_a_new_partition_makes_answers_scan_until_it_has_its_triggers(
    partitioned: asyncpg.Connection,
) -> None:
    rollup = Rollup(partitioned)
    await partitioned.execute(
        "ALTER TABLE chat_completion_requests DETACH PARTITION requests_else; DROP TABLE requests_else; "
        "ALTER TABLE chat_completion_requests DETACH PARTITION requests_late; DROP TABLE requests_late; "
        "CREATE TABLE requests_march PARTITION OF chat_completion_requests "
        "FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')"
    )
    await partitioned.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, '2024-03-03')"
    )
    await partitioned.execute(
        "INSERT INTO requests_march (id, model_id, created_at) VALUES (-5, 2, '2024-03-04')"
    )
    assert not await partitioned.fetchval(READY)
    status = await rollup.status()
    assert status.state == "damaged"
    assert "requests_march of the partitions lack its triggers" in status.reason

    await rollup.cover_partitions()
    assert await partitioned.fetchval(READY)
    assert (await rollup.status()).state == "on"
    await rollup.verify(ignored)
    await assert_exact(partitioned)
    await partitioned.execute(
        "INSERT INTO requests_march (id, model_id, created_at) VALUES (-6, 2, '2024-03-04')"
    )
    await assert_exact(partitioned)


async def test_a_partition_that_is_attached_with_its_rows_is_counted_once_it_is_covered(
    partitioned: asyncpg.Connection,
) -> None:
    await partitioned.execute(
        "ALTER TABLE chat_completion_requests DETACH PARTITION requests_else; DROP TABLE requests_else; "
        "ALTER TABLE chat_completion_requests DETACH PARTITION requests_late; DROP TABLE requests_late; "
        "CREATE TABLE requests_march (LIKE chat_completion_requests); "
        "INSERT INTO requests_march (id, model_id, created_at) "
        "SELECT i, 1 + i % 3, timestamp '2024-03-01' + i * interval '1 hour' "
        "FROM generate_series(1, 500) AS i; "
        "ALTER TABLE chat_completion_requests ATTACH PARTITION requests_march "
        "FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')"
    )
    assert not await partitioned.fetchval(READY)
    await Rollup(partitioned).cover_partitions()
    assert await partitioned.fetchval(READY)
    assert await Rollup(partitioned).verify(ignored) == 0
    await assert_exact(partitioned)


async def test_a_detached_partition_is_written_without_harm_and_recounted_when_it_is_back(
    partitioned: asyncpg.Connection,
) -> None:
    await partitioned.execute(DETACH)
    await Rollup(partitioned).verify(ignored)
    await partitioned.execute(DIRECTLY)
    await partitioned.execute("TRUNCATE requests_early")
    assert await partitioned.fetchval(READY)
    await partitioned.execute(ATTACH)
    assert not await partitioned.fetchval(READY)
    await Rollup(partitioned).repair(ignored)
    assert await partitioned.fetchval(READY)
    await assert_exact(partitioned)


async def test_partitions_of_partitions_count_too(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(
            tables(Gateway(partitions="PARTITION BY RANGE (created_at)")).split(
                "CREATE TABLE requests_early"
            )[0]
        )
        await connection.execute(
            "CREATE TABLE y2024 PARTITION OF chat_completion_requests "
            "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY HASH (model_id); "
            "CREATE TABLE y2024_0 PARTITION OF y2024 FOR VALUES WITH (MODULUS 2, REMAINDER 0); "
            "CREATE TABLE y2024_1 PARTITION OF y2024 FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
        )
        await run_migrations(empty_database)
        await connection.execute(COMPARISON)
        await Rollup(connection).enable(ignored)
        for table in ("chat_completion_requests", "y2024"):
            await connection.execute(
                f"INSERT INTO {table} (id, model_id, created_at) "
                "SELECT i, 1 + i % 5, '2024-05-01' FROM generate_series(1, 9) AS i"
            )
            await assert_exact(connection)
            await connection.execute(f"TRUNCATE {table}")
            await assert_exact(connection)
        assert await connection.fetchval(READY)
    finally:
        await connection.close()
