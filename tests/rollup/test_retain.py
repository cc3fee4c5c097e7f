"""Deletes by others of requests that are old enough keep their statistics, exactly."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from chat_stats.service.catalogue.timerange import parse_age
from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.processes import chat_stats
from tests.rollup.conftest import Connect, ignored
from tests.rollup.exactness import DRIFT, assert_exact
from tests.rollup.purging import ANSWERS, READY, REQUESTS, answers, histograms
from tests.rollup.workload import ORDINARY

pytestmark = pytest.mark.every_postgres

CLEAN_UP = "DELETE FROM chat_completion_requests WHERE created_at < now() - interval '50 days'"
OLD = "SELECT count(*) FROM chat_completion_requests WHERE created_at < now() - interval '50 days'"
KEPT = "SELECT count(*) FROM chat_stats_kept"
SCANNED = "UPDATE chat_stats_rollup_state SET ready = false"


@pytest.fixture
async def retaining(rolled_up: Connection) -> Connection:
    await Rollup(rolled_up).fold()
    await Retention(rolled_up).retain(timedelta(days=50))
    return rolled_up


async def test_a_plain_delete_of_old_requests_changes_no_statistic(
    retaining: Connection, rollup: Rollup
) -> None:
    counted = await retaining.fetchval(REQUESTS)
    expected, distribution = await answers(retaining), await histograms(retaining)
    await retaining.execute(CLEAN_UP)
    old = counted - await retaining.fetchval(REQUESTS)  # one more may have become so meanwhile
    assert old > 1000
    assert await retaining.fetchval(KEPT) == old

    # Not moved yet: by the rollup, by scans, by recounts.
    assert await answers(retaining) == expected
    await retaining.execute(SCANNED)
    assert await answers(retaining) == expected
    await retaining.execute("UPDATE chat_stats_rollup_state SET ready = true")
    assert await retaining.fetchval(DRIFT) == 0
    assert (await rollup.status()).retained_requests == old

    await rollup.fold()
    assert await retaining.fetchval(KEPT) == 0
    assert await answers(retaining) == expected
    assert await histograms(retaining) == distribution
    assert await retaining.fetchval(DRIFT) == 0
    assert await rollup.verify(ignored) == 0
    assert await rollup.repair(ignored) == 0
    assert (await rollup.status()).retained_requests == old
    await assert_exact(retaining)

    # The rollup can be made again from what is left and what was kept.
    await rollup.disable()
    assert await answers(retaining) == expected
    await rollup.enable(ignored)
    assert await answers(retaining) == expected


async def test_younger_requests_and_updates_are_counted_as_ever(retaining: Connection) -> None:
    total = "SELECT total_requests FROM get_chat_request_summary()"
    counted = await retaining.fetchval(total)
    young = await retaining.fetchval(
        "WITH gone AS (DELETE FROM chat_completion_requests WHERE created_at >= now() - interval '10 days' "
        "RETURNING *) SELECT count(*) FROM gone"
    )
    assert await retaining.fetchval(total) == counted - young
    await retaining.execute("INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, NULL)")
    await retaining.execute("DELETE FROM chat_completion_requests WHERE created_at IS NULL")
    await retaining.execute(
        "UPDATE chat_completion_requests SET model_id = 2, created_at = now() "
        "WHERE created_at < now() - interval '80 days'"
    )
    assert await retaining.fetchval(KEPT) == 0
    assert await retaining.fetchval(total) == counted - young
    await assert_exact(retaining)


async def test_switched_off_deletes_take_their_statistics_with_them(
    retaining: Connection, rollup: Rollup
) -> None:
    await retaining.execute(CLEAN_UP + " AND model_id = 1")
    await Retention(retaining).retain(None)
    counted = await retaining.fetchval("SELECT total_requests FROM get_chat_request_summary()")
    old = await retaining.fetchval(OLD)
    await retaining.execute(CLEAN_UP)
    assert await retaining.fetchval("SELECT total_requests FROM get_chat_request_summary()") == counted - old
    assert (await rollup.status()).retained_requests > 0
    await assert_exact(retaining)


async def test_a_purge_beside_it_counts_each_request_once(retaining: Connection, rollup: Rollup) -> None:
    expected = await answers(retaining)
    moment = datetime.now(UTC) - timedelta(days=30)  # some younger, some older than what deletes keep
    assert (await Retention(retaining).purge(moment, ignored)).differing == 0
    assert await answers(retaining) == expected
    assert await retaining.fetchval(READY)
    assert await rollup.verify(ignored) == 0
    await assert_exact(retaining)


async def test_an_edge_in_a_bucket_that_is_not_moved_yet_is_not_exact(retaining: Connection) -> None:
    moment = await retaining.fetchval("SELECT min(created_at) FROM chat_completion_requests")
    edge = moment.replace(minute=moment.minute // 15 * 15, second=7, microsecond=0)
    exact = "SELECT chat_stats_range_is_exact($1, NULL)"
    assert await retaining.fetchval(exact, edge)
    await retaining.execute("DELETE FROM chat_completion_requests WHERE created_at = $1", moment)
    assert not await retaining.fetchval(exact, edge)
    assert await retaining.fetchval("SELECT chat_stats_first_moment()") <= moment


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE chat_stats_kept",
        "ALTER TABLE chat_stats_kept RENAME requests TO other",
        "ALTER TABLE chat_stats_rollup_state DROP COLUMN retain_older_than",
    ],
)
async def test_no_delete_fails_whatever_is_missing(retaining: Connection, damage: str) -> None:
    left = await retaining.fetchval(REQUESTS) - await retaining.fetchval(OLD)
    await retaining.execute(damage)
    await retaining.execute(CLEAN_UP)
    assert await retaining.fetchval(REQUESTS) == left
    assert not await retaining.fetchval(READY)


async def test_a_delete_does_not_wait_for_a_fold_or_a_changed_setting(
    retaining: Connection, connect: Connect
) -> None:
    other = await connect()
    await retaining.execute(CLEAN_UP + " AND model_id = 1")
    await other.execute(
        "BEGIN; SELECT chat_stats_fold(); UPDATE chat_stats_rollup_state SET retain_older_than = NULL"
    )
    await retaining.execute("SET lock_timeout = '10ms'")
    await retaining.execute(CLEAN_UP)
    await other.execute("COMMIT")
    await assert_exact(retaining)


async def test_requests_of_no_model_are_kept_too(retaining: Connection) -> None:
    await retaining.execute(ORDINARY.replace("NULLIF((random() * 7)::int + 1, 8)", "NULL"), 100)
    expected = await answers(retaining, [*ANSWERS, "SELECT * FROM chat_stats_usage(NULL, NULL)"])
    await retaining.execute(CLEAN_UP)
    await Rollup(retaining).fold()
    assert await answers(retaining, [*ANSWERS, "SELECT * FROM chat_stats_usage(NULL, NULL)"]) == expected


async def test_it_needs_the_rollup(requests: asyncpg.Connection) -> None:
    with pytest.raises(SchemaError, match="the rollup must be on"):
        await Retention(requests).retain(timedelta(days=90))


@pytest.mark.parametrize("age", ["", "90", "0d", "-1d", "1y", "90 d", "d", "1.5d", "999999d"])
def test_what_is_no_age_is_refused(age: str) -> None:
    with pytest.raises(InvalidParameter, match="36h, 90d or 13w"):
        parse_age("older-than", age)


@pytest.mark.slow
async def test_the_command_sets_shows_and_ends_it(retaining: Connection, env: dict[str, str]) -> None:
    shown = chat_stats("rollup", "retain", env=env)
    assert (shown.returncode, shown.stdout.strip()) == (
        0,
        "deletes of requests older than 50 days keep their statistics",
    ), shown
    set_ = chat_stats("rollup", "retain", "--older-than", "90d", env=env)
    assert "older than 90 days" in set_.stdout, set_
    await retaining.execute(
        "DELETE FROM chat_completion_requests WHERE created_at < now() - interval '95 days'"
    )
    status = chat_stats("rollup", "status", env=env)
    assert "older than 90 days" in status.stdout
    assert "requests so far" in status.stdout
    ended = chat_stats("rollup", "retain", "--off", env=env)
    assert "deletes take their statistics with them" in ended.stdout
    assert chat_stats("rollup", "retain", "--older-than", "soon", env=env).returncode == 2
