"""get_chat_request_percentiles(): within 2.5 % of the exact ones for any window, after any change."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from random import Random

import asyncpg
import pytest

from chat_stats.service.database import queries
from chat_stats.service.database.names import Names
from chat_stats.service.rollup.upkeep import Rollup
from tests.rollup.conftest import ignored

pytestmark = pytest.mark.every_postgres

#: The statement to fall back on, as it is without schemas.
PLAIN = Names({}, None).fill(queries.load("percentiles"))

CALL = "SELECT * FROM get_chat_request_percentiles($1, $2, $3, $4, $5)"
ALL_LEVELS = "SELECT * FROM chat_stats_level_percentiles($1::text[], $2, $3, $4::text, $5::text, NULL::text)"
LEVELS = ["model", "provider", "none"]

FIRST, DAYS = datetime(2026, 1, 20, 5, 6, 7, 89, tzinfo=UTC), 60

CATALOGUE = """
INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
INSERT INTO models (id, provider_id, model_name)
    SELECT n, CASE WHEN n < 5 THEN 1 + n % 2 END, 'M' || n FROM generate_series(1, 5) AS n;
"""

INSERT = """
INSERT INTO chat_completion_requests (model_id, processing_time_ms, created_at)
SELECT * FROM unnest($1::bigint[], $2::numeric[], $3::timestamptz[])
"""

#: What percentile_disc() says, where times up to a microsecond count as 0, in the order of the function.
EXACT = """
SELECT
    CASE $1::text WHEN 'provider' THEN p.id::text WHEN 'model' THEN m.id::text END AS group_id,
    percentile_disc(ARRAY[0.5, 0.9, 0.95, 0.99]) WITHIN GROUP (
        ORDER BY CASE WHEN r.processing_time_ms > 0.001 THEN r.processing_time_ms ELSE 0 END
    ) AS exact
FROM chat_completion_requests AS r
LEFT JOIN (models AS m JOIN providers AS p ON p.id = m.provider_id) ON m.id = r.model_id
WHERE (p.id IS NOT NULL OR $1 = 'none' AND $4::text IS NULL AND $5::text IS NULL)
  AND r.processing_time_ms BETWEEN -1e15 AND 1e15
  AND ($2::timestamptz IS NULL OR r.created_at >= $2) AND ($3::timestamptz IS NULL OR r.created_at < $3)
  AND ($4::text IS NULL OR p.id::text = $4) AND ($5::text IS NULL OR m.id::text = $5)
GROUP BY 1
ORDER BY 1
"""

#: Changes of all kinds; each leaves most rows as they were.
CHANGES = (
    "DELETE FROM chat_completion_requests WHERE id % 7 = 0",
    "UPDATE chat_completion_requests SET processing_time_ms = processing_time_ms * 3 WHERE id % 5 = 0",
    "UPDATE chat_completion_requests SET processing_time_ms = NULL WHERE id % 11 = 0",
    "UPDATE chat_completion_requests SET model_id = 1 + model_id % 5 WHERE id % 3 = 0",
    "UPDATE chat_completion_requests SET created_at = created_at + interval '7 hours' WHERE id % 4 = 0",
)


def some_time(random: Random) -> Decimal:
    """Return a time with a heavy tail, or a peculiar one."""
    match random.randrange(8):
        case 0 | 1 | 2:
            time = random.lognormvariate(6, 2)
        case 3 | 4:
            time = 20 * random.paretovariate(0.7)
        case 5:
            time = random.uniform(0.001, 1.5)
        case 6:
            time = random.choice((0, 0.0005, 0.001, 1, 1.04, 1e15, -3, -1e15))
        case _:
            time = float(random.randint(1, 5000))
    return Decimal(repr(min(time, 1e15)))


def some_moment(random: Random) -> datetime:
    moment = FIRST + timedelta(seconds=random.random() * DAYS * 86400)
    return random.choice(
        (
            moment,
            moment.replace(minute=15, second=0, microsecond=0),
            moment.replace(hour=0, minute=0, second=0, microsecond=0),
        )
    )


async def insert(connection: asyncpg.Connection, random: Random, count: int) -> None:
    rows = [(random.randint(1, 6), some_time(random), some_moment(random)) for _ in range(count)]
    await connection.execute(INSERT, *(list(column) for column in zip(*rows, strict=True)))


async def assert_close(connection: asyncpg.Connection, *arguments: object) -> int:
    """Fail unless rollup, scan and plain statement agree, close to the exact percentiles; return how many."""
    rolled_up = await connection.fetch(CALL, *arguments)
    await connection.execute("UPDATE chat_stats_rollup_state SET ready = false")
    scanned = await connection.fetch(CALL, *arguments)
    await connection.execute("UPDATE chat_stats_rollup_state SET ready = true")
    assert rolled_up == scanned
    plain = await plain_percentiles(connection, arguments[0], *arguments[1:])
    assert plain == [tuple(row) for row in rolled_up if any(tuple(row)[1:]) or row["group_id"] is not None]
    if arguments[0] == "model":
        await assert_levels_agree(connection, *arguments[1:])
    exact = await connection.fetch(EXACT, *arguments)
    if not exact and arguments[0] == "none":
        assert [tuple(row) for row in rolled_up] == [(None, 0, 0, 0, 0)]
        return 0
    assert [row["group_id"] for row in rolled_up] == [row["group_id"] for row in exact]
    for given, wanted in zip(rolled_up, exact, strict=True):
        for value, true in zip(tuple(given)[1:], wanted["exact"], strict=True):
            assert abs(value - true) <= Decimal("0.025") * true, (arguments, given, wanted)
    return len(exact)


async def assert_levels_agree(connection: asyncpg.Connection, *arguments: object) -> None:
    """Fail unless all levels, asked at once, have what each has alone."""
    expected = [
        (level, *row)
        for level in LEVELS
        for row in await connection.fetch(CALL, level, *arguments)
        if any(tuple(row)[1:]) or row["group_id"] is not None  # that of all is there even without times
    ]
    together = await connection.fetch(ALL_LEVELS, LEVELS, *arguments)
    plain = await connection.fetch(PLAIN, *arguments, None, LEVELS)
    for found in (together, plain):
        assert sorted(map(tuple, found), key=str) == sorted(expected, key=str)
    both = await connection.fetch(CALL, "both", *arguments)
    assert sorted(map(tuple, both), key=str) == sorted(
        (row[1:] for row in expected if row[0] != "provider"), key=str
    )


async def plain_percentiles(
    connection: asyncpg.Connection, level: object, *arguments: object
) -> list[tuple[object, ...]]:
    rows = await connection.fetch(PLAIN, *arguments, None, [level])
    return sorted((tuple(row)[1:] for row in rows), key=lambda row: str(row[0]))


async def assert_all_close(connection: asyncpg.Connection, random: Random, count: int) -> None:
    compared = 0
    for _ in range(count):
        start, end = sorted((some_moment(random), some_moment(random)))
        bounds = random.choice(
            ((start, end), (start, end), (start, end), (start, None), (None, end), (None, None))
        )
        narrowed = random.choice(((None, None), ("1", None), (None, "3"), ("2", "3"), ("1", "3")))
        compared += await assert_close(
            connection, random.choice(("none", "provider", "model")), *bounds, *narrowed
        )
    assert compared > count / 2


@pytest.mark.parametrize("seed", range(3))
async def test_percentiles_are_close_for_any_window_after_any_change(
    connection: asyncpg.Connection, seed: int
) -> None:
    random = Random(seed)  # noqa: S311
    await connection.execute(CATALOGUE)
    await insert(connection, random, 1500)
    rollup = Rollup(connection)
    await rollup.enable(ignored)
    await assert_all_close(connection, random, 12)
    changes = list(CHANGES)
    random.shuffle(changes)
    for change in changes:
        await connection.execute(change)
        await insert(connection, random, random.choice((1, 1, 40)))
        if random.random() < 0.5:
            await rollup.fold()
        await assert_all_close(connection, random, 8)
    await connection.execute("TRUNCATE chat_completion_requests")
    assert await assert_close(connection, "none", None, None, None, None) == 0
    assert await assert_close(connection, "model", FIRST, None, None, None) == 0


async def test_a_percentile_is_the_nearest_rank(connection: asyncpg.Connection) -> None:
    await connection.execute(CATALOGUE)
    await Rollup(connection).enable(ignored)
    # Ranks 5, 9, 10 and 10 of 10, 20, ..., 100 ms: bins 100, 115 and 118; 1.04^100 = 50.50, and 50.50 / 1.02
    # is the first. Model 6 does not exist, nor does the provider of model 5, and model 2 has no time.
    await connection.execute(
        "INSERT INTO chat_completion_requests (model_id, processing_time_ms) "
        "SELECT 1, n * 10 FROM generate_series(1, 10) AS n UNION ALL VALUES (5, 1e6), (6, 1e6), (2, NULL)"
    )
    [row] = await connection.fetch(CALL, "model", None, None, None, None)
    assert tuple(row) == ("1", *(Decimal(value) for value in ("49.51", "89.17", "100.31", "100.31")))


async def test_times_up_to_a_microsecond_count_as_0_in_percentiles_and_as_they_are_in_means(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(CATALOGUE)
    await Rollup(connection).enable(ignored)
    await connection.execute(
        "INSERT INTO chat_completion_requests (model_id, processing_time_ms, created_at) "
        "SELECT 1, t, now() FROM unnest(ARRAY[-3, 0, 0.0005, 0.001, 0.0011]::numeric[]) AS t"
    )
    for _ready in ("true", "false"):
        [row] = await connection.fetch(CALL, "none", None, None, None, None)
        assert row["p50_processing_time_ms"] == 0
        assert abs(row["p90_processing_time_ms"] - Decimal("0.0011")) <= Decimal("0.0011") * Decimal("0.025")
        mean = "SELECT avg_processing_time_ms FROM get_model_request_stats(1)"
        assert await connection.fetchval(mean) == Decimal("-0.60")
        await connection.execute("UPDATE chat_stats_rollup_state SET ready = false")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
@pytest.mark.parametrize("interval", ["1h", "1d", "1mo"])
async def test_the_series_has_the_percentiles_of_each_interval(
    connection: asyncpg.Connection, interval: str, zone: str
) -> None:
    random = Random(f"{interval} {zone}")  # noqa: S311
    await connection.execute(CATALOGUE)
    await insert(connection, random, 800)
    await Rollup(connection).enable(ignored)
    await insert(connection, random, 20)
    await connection.execute(CHANGES[0])
    # (Of months, one at least is to lie in the range as a whole.)
    first_day, last_day = (2, 58) if interval == "1mo" else (30, 50)
    start, end = FIRST + timedelta(days=first_day, minutes=3), FIRST + timedelta(days=last_day)
    arguments = (interval, "model", zone, start, end)
    rows = await connection.fetch("SELECT * FROM get_chat_request_timeseries($1, $2, $3, $4, $5)", *arguments)
    await connection.execute("UPDATE chat_stats_rollup_state SET ready = false")
    scanned = await connection.fetch(
        "SELECT * FROM get_chat_request_timeseries($1, $2, $3, $4, $5)", *arguments
    )
    assert rows == scanned
    starts = sorted({row["bucket_start"] for row in rows})
    ends = dict(zip(starts, [*starts[1:], end], strict=True))
    timed = [row for row in rows if row["avg_processing_time_ms"]]
    for row in random.sample(timed, min(25, len(timed))):
        bounds = max(row["bucket_start"], start), ends[row["bucket_start"]]
        group_by = "none" if row["group_id"] == "unresolved" else "model"
        [wanted] = await connection.fetch(CALL, group_by, *bounds, None, row["group_id"])
        assert tuple(row)[-4:] == tuple(wanted)[1:]
    assert timed


@pytest.mark.parametrize("seed", range(5))
async def test_the_bins_of_the_percentiles_are_those_of_the_ranks(
    connection: asyncpg.Connection, seed: int
) -> None:
    random = Random(seed)  # noqa: S311
    for _ in range(40):
        bins = sorted(random.sample(range(-300, 900), random.randint(1, 150)))
        counts = [random.choice((1, 1, 2, 7, 10**6, 10**12)) for _ in bins]
        total = sum(counts)
        wanted = []
        for percent in (50, 90, 95, 99):
            up_to = accumulate(counts)
            wanted.append(next(b for b, n in zip(bins, up_to, strict=True) if n * 100 >= total * percent))
        statement = "SELECT chat_stats_percentile_bins($1, $2, $3)"
        assert await connection.fetchval(statement, bins, counts, total) == wanted
        lowest = random.randint(1, 4)
        statement = "SELECT chat_stats_highest_percentile_bins($1, $2, $3, $4)"
        parts = [(b, part) for b, n in zip(bins, counts, strict=True) for part in (n // 2, n - n // 2)]
        found = await connection.fetchval(statement, *zip(*parts, strict=True), total, lowest)
        assert found == [None] * (lowest - 1) + wanted[lowest - 1 :]
