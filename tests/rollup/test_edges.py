"""The ragged edges of ranges: exact, and at most half of what lies in a bucket is read for them."""

from datetime import datetime, timedelta
from random import Random

import asyncpg
import pytest

from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.rollup.conftest import ignored
from tests.rollup.exactness import COMPARISON_WITH_MODEL, DRIFT, MODEL, Asked, differences
from tests.rollup.purging import purge
from tests.rollup.workload import CATALOGUE

pytestmark = pytest.mark.every_postgres

QUARTER = timedelta(minutes=15)

#: Some 400 requests an hour, from three hours before now to one hour after.
AROUND_NOW = """
INSERT INTO chat_completion_requests
    (model_id, input_tokens, processing_time_ms, status, cost_usd, created_at)
SELECT
    (random() * 6)::int + 1, (random() * 1000)::int, round(exp(random() * 9)::numeric, 2), 'ok', 0.01,
    now() + (random() * 4 - 3) * interval '1 hour'
FROM generate_series(1, $1::int)
"""

EDGES = "SELECT * FROM chat_stats_edges($1::timestamptz, $2::timestamptz)"

END = "now() + interval '1 microsecond'"

#: The rows of the requests that the transaction has read so far.
READ = """
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'chat_completion_requests'
"""


def some_bounds(random: Random, now: datetime) -> list[Asked]:
    """Return ranges within a bucket, over two beside each other or over many; some are one-sided."""
    asked = []
    for _ in range(40):
        start = now + timedelta(seconds=random.uniform(-3.2, 1.2) * 3600)
        end = start + random.choice((1, 4, 16, 200)) * timedelta(minutes=random.random())
        quarter = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
        first = random.choice((str(start), str(quarter), None))
        last = random.choice((str(end), str(quarter + 2 * QUARTER), None, "now", "infinity"))
        asked.append(Asked(first, last, random.choice((None, None, "1")), random.choice((None, None, "3"))))
    return asked


@pytest.mark.parametrize("purged", [False, True])
async def test_the_rollup_gives_what_a_scan_gives_at_any_bounds_around_now(
    connection: Connection, *, purged: bool
) -> None:
    random = Random(purged)  # noqa: S311
    await connection.execute(MODEL + COMPARISON_WITH_MODEL + CATALOGUE)
    rollup = Rollup(connection)
    await rollup.enable(ignored)
    await connection.execute(AROUND_NOW, 1200)
    await rollup.fold()
    await connection.execute(AROUND_NOW, 400)  # not folded
    now = await connection.fetchval("SELECT now()")
    if purged:
        before = now - timedelta(hours=1)
        await connection.execute("INSERT INTO purged_requests SELECT * FROM chat_completion_requests")
        assert (await purge(connection, before)).requests > 100
        await connection.execute(
            "DELETE FROM purged_requests WHERE id IN (SELECT id FROM chat_completion_requests)"
        )
        await connection.execute(  # come late, into buckets that were purged
            "INSERT INTO chat_completion_requests (model_id, created_at) "
            "SELECT 2, $1::timestamptz - n * interval '40 seconds' FROM generate_series(1, 200) AS n",
            before,
        )
    for _ in range(4):
        assert await differences(connection, [Asked(), *some_bounds(random, now)]) == []
    assert await connection.fetchval(DRIFT) == 0


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("00:00:01", "00:14:59"),  # most of one bucket
        ("00:01", "00:03"),
        ("00:02", "00:31"),
        ("00:12", "00:44:59"),
        ("00:07:30", "00:22:30"),
        ("00:00", "00:14"),
        ("00:01", "00:15"),
    ],
)
async def test_of_a_bucket_with_an_edge_at_most_half_is_read(
    connection: Connection, start: str, end: str
) -> None:
    bounds = [datetime.fromisoformat(f"2026-01-05 {clock}+00:00") for clock in (start, end)]
    pieces = await connection.fetch(EDGES, *bounds)
    read: dict[datetime, timedelta] = {}
    for piece in pieces:
        if piece["tier"] == "requests":
            bucket = piece["starts"].replace(minute=piece["starts"].minute // 15 * 15, second=0)
            read[bucket] = read.get(bucket, timedelta()) + piece["ends"] - piece["starts"]
    assert read
    assert max(read.values()) <= QUARTER / 2
    signed = sum((piece["sign"] * (piece["ends"] - piece["starts"]) for piece in pieces), timedelta())
    assert signed == bounds[1] - bounds[0]


async def test_the_bucket_that_is_being_written_is_not_read_up_to_now(connection: Connection) -> None:
    await connection.execute(CATALOGUE)
    await Rollup(connection).enable(ignored)
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO chat_completion_requests (model_id, processing_time_ms, created_at) "
            "SELECT 1, n, now() FROM generate_series(1, 5000) AS n"
        )
        await connection.execute("SELECT chat_stats_fold()")
        for answer in (
            f"total_requests = 5000 FROM get_model_request_stats(1, now() - interval '1 day', {END})",
            f"p99_processing_time_ms > 4000 FROM get_chat_request_percentiles('model', NULL, {END})",
        ):
            before = await connection.fetchval(READ)
            assert await connection.fetchval(f"SELECT {answer}")
            assert await connection.fetchval(READ) - before < 100


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("-infinity", "infinity", [("buckets", 1, "-infinity", "infinity")]),
        (None, "-infinity", []),
        ("infinity", None, [("buckets", 1, "infinity", None)]),
        (
            "294276-12-31 23:50:00+00",
            None,
            [
                ("requests", 1, "294276-12-31 23:50:00+00", "infinity"),
                ("buckets", 1, "infinity", None),
            ],
        ),
        (
            "294276-12-31 23:46:00+00",
            "294276-12-31 23:59:59+00",
            [("requests", 1, "294276-12-31 23:46:00+00", "294276-12-31 23:59:59+00")],
        ),
        (
            "4714-11-24 00:00:00+00 BC",
            "4714-11-24 00:14:00+00 BC",
            [
                ("requests", -1, "4714-11-24 00:14:00+00 BC", "4714-11-24 00:15:00+00 BC"),
                ("buckets", 1, "4714-11-24 00:00:00+00 BC", "4714-11-24 00:15:00+00 BC"),
            ],
        ),
    ],
)
async def test_the_ends_of_time_have_edges_too(
    connection: asyncpg.Connection, start: str | None, end: str | None, expected: list[tuple[object, ...]]
) -> None:
    await connection.execute("SET timezone = 'UTC'")
    pieces = await connection.fetch(
        "SELECT tier, sign, starts::text, ends::text "
        "FROM chat_stats_edges($1::text::timestamptz, $2::text::timestamptz)",
        start,
        end,
    )
    assert [tuple(piece) for piece in pieces] == expected
