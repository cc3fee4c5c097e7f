"""Purging old requests: they are gone, and no statistic has changed."""

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.compute.methods import LADDER, Method
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.service.rollup import retention
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from tests.conftest import Connection
from tests.processes import chat_stats
from tests.rollup.conftest import ignored
from tests.rollup.exactness import (
    COMPARISON_WITH_MODEL,
    DRIFT,
    MODEL,
    assert_exact,
    differences,
    some_questions,
)
from tests.rollup.purging import (
    MIDNIGHT,
    OLD,
    READY,
    REQUESTS,
    THEN,
    answers,
    histograms,
    purge,
)
from tests.rollup.workload import CATALOGUE, INSERT, TIMES, TOKENS, Row, insert_arguments
from tests.sql import methods

pytestmark = pytest.mark.usefixtures("small_purges")


async def test_the_requests_are_gone_and_every_statistic_has_stayed(rolled_up: Connection) -> None:
    rollup = Rollup(rolled_up)
    await rollup.fold()
    counted, old = await rolled_up.fetchval(REQUESTS), await rolled_up.fetchval(OLD, THEN)
    expected, distribution = await answers(rolled_up), await histograms(rolled_up)

    purged = await purge(rolled_up)
    assert (purged.requests, purged.differing) == (old, 0)
    assert old > 1000
    assert await rolled_up.fetchval(REQUESTS) == counted - old
    assert await rolled_up.fetchval(OLD, THEN) == 0
    assert await answers(rolled_up) == expected
    while await rollup.fold():
        pass
    assert await histograms(rolled_up) == distribution
    assert (await rollup.verify(ignored), await rollup.audit(), await rollup.repair(ignored)) == (0, 0, 0)
    status = await rollup.status()
    assert (status.state, status.purged_requests) == ("on", old)
    assert status.purged_before is not None
    assert THEN - timedelta(days=1) < status.purged_before <= THEN


async def test_no_statistic_changes_if_the_rollup_is_off_or_rebuilt(
    rolled_up: Connection, rollup: Rollup
) -> None:
    expected = await answers(rolled_up)
    await purge(rolled_up)
    await rollup.disable()
    assert await answers(rolled_up) == expected
    await rollup.enable(ignored)
    assert await rolled_up.fetchval(READY)
    assert await answers(rolled_up) == expected
    await assert_exact(rolled_up)

    await rolled_up.execute("DROP TRIGGER chat_stats_delete ON chat_completion_requests")
    assert await answers(rolled_up) == expected
    await rollup.enable(ignored)
    assert await rolled_up.fetchval(READY)
    assert await answers(rolled_up) == expected
    await rolled_up.execute("DELETE FROM chat_stats_rollup_model_days")
    assert await rollup.repair(ignored) > 0
    assert await answers(rolled_up) == expected


async def test_rows_of_every_kind_are_kept_as_the_rollup_counted_them(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute(MODEL + COMPARISON_WITH_MODEL + CATALOGUE)
    moments = (
        "-infinity",
        "4714-11-24 00:00:00+00 BC",
        "0044-03-15 12:34:56+00 BC",
        "2024-01-31 23:59:59.999999+00",
        "2024-02-28 11:14:59.999999+00",
        "2024-02-28 11:15:00+00",
        None,
        "2200-01-01 00:00:00+00",
    )
    random = Random(1)  # noqa: S311
    rows: list[Row] = [
        (str(model), tokens, None, time, "ok", "17.5", moment)
        for moment in moments
        for model in (1, 2, 99)
        for time in random.sample(TIMES, 8)
        for tokens in random.sample(TOKENS, 2)
    ]
    await Rollup(connection).enable(ignored)
    await connection.execute(INSERT, *insert_arguments(rows))
    before = datetime(2024, 2, 28, 11, 29, tzinfo=UTC)  # cut down to 11:15
    await connection.execute("INSERT INTO purged_requests SELECT * FROM chat_completion_requests")
    monkeypatch.setattr(retention, "BATCH_REQUESTS", 20)
    purged = await purge(connection, before)
    assert purged.requests == 5 * 48
    await connection.execute(
        "DELETE FROM purged_requests WHERE id IN (SELECT id FROM chat_completion_requests)"
    )
    for seed in range(5):
        assert await differences(connection, some_questions(Random(seed), 20)) == []  # noqa: S311
    assert await connection.fetchval(DRIFT) == 0
    await Rollup(connection).disable()
    questions = some_questions(Random(7), 50)  # noqa: S311
    fields = zip(*((each.start, each.end, each.provider, each.model) for each in questions), strict=True)
    assert await connection.fetch("SELECT compare_scan_with_model($1, $2, $3, $4)", *map(list, fields)) == []


async def test_a_range_counts_a_purged_bucket_as_a_whole_if_it_begins_in_it_and_says_so(
    rolled_up: Connection,
) -> None:
    await rolled_up.execute("TRUNCATE chat_completion_requests")
    await rolled_up.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at) SELECT 1, $1::timestamptz + i * "
        "interval '1 minute' FROM generate_series(0, 44) AS i",
        THEN,
    )
    await purge(rolled_up, THEN + timedelta(minutes=44))  # the first two of three buckets

    async def counted(start: int, end: int) -> tuple[int, bool]:
        bounds = THEN + timedelta(minutes=start), THEN + timedelta(minutes=end)
        summary = await rolled_up.fetchrow("SELECT * FROM get_chat_request_summary($1, $2)", *bounds)
        series = await rolled_up.fetch(
            "SELECT * FROM get_chat_request_timeseries('15m', 'none', 'UTC', $1, $2)", *bounds
        )
        assert summary is not None
        assert sum(point["total_requests"] for point in series) == summary["total_requests"]
        exact = await rolled_up.fetchval("SELECT chat_stats_range_is_exact($1, $2)", *bounds)
        return summary["total_requests"], exact

    assert await counted(0, 15) == (15, True)
    assert await counted(0, 30) == (30, True)
    assert await counted(15, 45) == (30, True)
    assert await counted(1, 30) == (15, False)
    assert await counted(0, 16) == (30, False)
    assert await counted(3, 9) == (0, False)
    assert await counted(0, 1) == (15, False)
    assert await counted(30, 37) == (7, True)
    assert await counted(-7, 30) == (30, True)
    assert [await counted(*edges) for edges in ((-60, 7), (7, 21), (21, 60))] == [
        (15, False),
        (15, False),
        (15, False),
    ]


async def test_a_series_without_a_start_begins_with_what_was_purged(rolled_up: Connection) -> None:
    first = "SELECT min(bucket_start) FROM get_chat_request_timeseries('1d')"
    expected = await rolled_up.fetchval(first)
    await purge(rolled_up)
    assert await rolled_up.fetchval(first) == expected


async def test_a_dry_run_changes_nothing_and_says_what_a_run_then_does(rolled_up: Connection) -> None:
    counted = await rolled_up.fetchval(REQUESTS)
    planned = await purge(rolled_up, dry_run=True)
    assert await rolled_up.fetchval(REQUESTS) == counted
    assert (await Rollup(rolled_up).status()).purged_before is None
    done = await purge(rolled_up)
    assert (planned.requests, planned.buckets, planned.oldest, planned.newest) == (
        done.requests,
        done.buckets,
        done.oldest,
        done.newest,
    )


async def test_where_the_rollup_differs_nothing_is_deleted_and_it_is_not_read_any_more(
    rolled_up: Connection,
) -> None:
    await rolled_up.execute("SET session_replication_role = replica")
    await rolled_up.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, $1)",
        THEN - timedelta(days=30),
    )
    await rolled_up.execute("SET session_replication_role = origin")
    planned = await purge(rolled_up, dry_run=True)
    assert planned.differing == 1
    assert await rolled_up.fetchval(READY)
    done = await purge(rolled_up)
    assert done.differing == 1
    assert await rolled_up.fetchval(OLD, THEN - timedelta(days=29)) > 0
    assert (await Rollup(rolled_up).status()).state == "damaged"
    with pytest.raises(SchemaError, match="the rollup must be on"):
        await purge(rolled_up)
    assert await Rollup(rolled_up).repair(ignored) == 1
    assert (await purge(rolled_up)).differing == 0
    assert await rolled_up.fetchval(OLD, THEN) == 0
    await assert_exact(rolled_up)


def without_percentiles(data: Any) -> Any:
    if isinstance(data, list):
        return [without_percentiles(row) for row in data]
    if isinstance(data, dict):
        return {
            name: without_percentiles(value)
            for name, value in data.items()
            if not name.endswith("_processing_time_ms") or name.startswith("avg")
        }
    return data


@pytest.mark.parametrize("method", LADDER)
async def test_every_method_counts_what_was_purged(
    rolled_up: Connection, database_url: str, method: Method
) -> None:
    bounds = TimeRange(None, MIDNIGHT - timedelta(days=70), MIDNIGHT - timedelta(days=30))
    queries = [
        query
        for range_ in (TimeRange(), bounds)
        for query in (
            Query("providers", range_),
            Query("models", range_),
            Query("models", range_, provider_id="2"),
            Query("model", range_, model_id="3"),
            Query("counts", range_),
            Query("summary", range_),
        )
    ]
    database = Database(Settings(database_url=database_url, _env_file=None), application_name="tests")
    await database.open()
    try:

        async def ask() -> list[Any]:
            async with database.snapshot(wait_seconds=5) as snapshot:
                found = [await methods.run(method, snapshot, query) for query in queries]
                # (Percentiles of purged requests are known to their function alone.)
                return [without_percentiles(data) for data, _ in found]

        expected = await ask()
        await purge(rolled_up)
        assert await ask() == expected
    finally:
        await database.close()


async def test_requests_that_come_late_count_and_are_purged_in_their_turn(rolled_up: Connection) -> None:
    await purge(rolled_up)
    total = await rolled_up.fetchval("SELECT total_requests FROM get_chat_request_summary()")
    late = (
        "INSERT INTO chat_completion_requests (model_id, created_at) SELECT 1, $1 FROM generate_series(1, 9)"
    )
    await rolled_up.execute(late, THEN - timedelta(days=20))
    await rolled_up.execute("UPDATE chat_completion_requests SET model_id = 2 WHERE created_at < $1", THEN)
    await assert_exact(rolled_up)
    assert (await purge(rolled_up)).requests == 9
    assert await rolled_up.fetchval("SELECT total_requests FROM get_chat_request_summary()") == total + 9
    await assert_exact(rolled_up)


async def test_deleting_and_truncating_by_hand_subtract_what_is_there_and_no_more(
    rolled_up: Connection,
) -> None:
    summary = "SELECT total_requests FROM get_chat_request_summary()"
    purged = (await purge(rolled_up)).requests
    await rolled_up.execute("DELETE FROM chat_completion_requests WHERE id % 2 = 0")
    await assert_exact(rolled_up)
    await rolled_up.execute("TRUNCATE chat_completion_requests")
    assert await rolled_up.fetchval(summary) == purged
    await assert_exact(rolled_up)


@pytest.mark.slow
async def test_the_command_says_what_it_did_and_refuses_what_makes_no_sense(
    rolled_up: Connection, env: dict[str, str]
) -> None:
    old = await rolled_up.fetchval(OLD, THEN)
    before = f"--before={THEN:%Y-%m-%d}"
    planned = chat_stats("rollup", "purge", before, "--dry-run", "--json", env=env)
    assert (planned.returncode, json.loads(planned.stdout)["requests"]) == (0, old), planned
    done = chat_stats("rollup", "purge", before, env=env)
    assert (done.returncode, f"{old:,}" in done.stdout) == (0, True), done
    status = chat_stats("rollup", "status", env=env)
    assert f"{old:,} requests before" in status.stdout
    refused = chat_stats("rollup", "purge", "--before", "yesterday", env=env)
    assert (refused.returncode, "not an ISO 8601 date" in refused.stderr) == (2, True), refused
    with pytest.raises(InvalidParameter):
        await purge(rolled_up, datetime.now(UTC) + timedelta(minutes=1))


async def test_a_repair_misses_nothing_where_only_requests_without_a_model_were_purged(
    rolled_up: Connection,
) -> None:
    await rolled_up.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (NULL, '2001-01-01T00:00:00Z')"
    )
    await Retention(rolled_up).purge(datetime(2002, 1, 1, tzinfo=UTC), ignored)
    assert await rolled_up.fetchval(REQUESTS + " WHERE created_at < '2002-01-01'") == 0
    assert await Rollup(rolled_up).repair(ignored) == 0
