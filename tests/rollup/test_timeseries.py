"""get_chat_request_timeseries(): intervals by a time zone's calendar, the same from rollup and scan."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from chat_stats.service.database import queries
from chat_stats.service.database.names import Names
from chat_stats.service.rollup.upkeep import Rollup

pytestmark = pytest.mark.every_postgres

#: The statement to fall back on, as it is without schemas.
PLAIN = Names({}, None).fill(queries.load("timeseries"))

SERIES = "SELECT * FROM get_chat_request_timeseries($1, $2, $3, $4, $5)"

#: 5,000 requests of 6 models over 120 days, the same each time, some without time, tokens or cost.
FILL = """
INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
INSERT INTO models (id, provider_id, model_name)
    SELECT n, 1 + n % 2, 'M' || n FROM generate_series(1, 6) AS n;
INSERT INTO chat_completion_requests
    (model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at)
SELECT
    1 + n % 6, NULLIF(n % 50, 7), n % 11, NULLIF(n % 997, 13),
    CASE WHEN n % 9 = 0 THEN 'failed' ELSE 'completed' END,
    NULLIF(n % 3, 1) * 0.01, '2026-03-01T00:00:00Z'::timestamptz + n * interval '34 minutes 30.5 seconds'
FROM generate_series(1, 5000) AS n
"""


@pytest.fixture
async def filled(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute(FILL)
    await Rollup(connection).enable(lambda _done: None)
    return connection


async def series(
    connection: asyncpg.Connection, interval: str, group_by: str, zone: str, start: datetime, end: datetime
) -> list[asyncpg.Record]:
    """Return the series, the same from the rollup, from a scan and by the plain statement."""
    rolled_up = await connection.fetch(SERIES, interval, group_by, zone, start, end)
    await connection.execute("UPDATE chat_stats_rollup_state SET ready = false")
    scanned = await connection.fetch(SERIES, interval, group_by, zone, start, end)
    await connection.execute("UPDATE chat_stats_rollup_state SET ready = true")
    plain = await connection.fetch(PLAIN, start, end, interval, group_by, zone, *[None] * 3, 100_000)
    assert rolled_up == scanned == plain
    return rolled_up


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York"])
@pytest.mark.parametrize("interval", ["15m", "1h", "1d", "1w", "1mo"])
async def test_rollup_and_scan_agree_and_the_points_add_up(
    filled: asyncpg.Connection, interval: str, zone: str
) -> None:
    start = datetime(2026, 3, 5, 3, 7, 11, 123, tzinfo=UTC)
    end = start + timedelta(days=2 if interval == "15m" else 40, minutes=11)
    total = await filled.fetchval(
        "SELECT sum(total_requests) FROM chat_stats_scan($1, $2, NULL, NULL, NULL)", start, end
    )
    for group_by in ("none", "provider", "model"):
        rows = await series(filled, interval, group_by, zone, start, end)
        assert sum(row["total_requests"] for row in rows) == total


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2026-03-08", 23),  # clocks go forward
        ("America/New_York", "2026-11-01", 25),  # and back
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kathmandu", "2026-04-05", 24),  # 5:45 ahead, all year
    ],
)
async def test_a_day_is_as_long_as_the_calendar_of_its_zone_makes_it(
    filled: asyncpg.Connection, zone: str, day: str, hours: float
) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    # Python adds days by the wall clock, as a calendar does.
    end = start + timedelta(days=1)
    assert (end.astimezone(UTC) - start.astimezone(UTC)) == timedelta(hours=hours)
    days = await series(filled, "1d", "none", zone, start - timedelta(days=1), end + timedelta(days=1))
    assert [row["bucket_start"] for row in days] == [start - timedelta(days=1), start, end]
    by_hour = await series(filled, "1h", "none", zone, start, end)
    starts = [row["bucket_start"] for row in by_hour]
    assert starts[0] == start
    assert starts == sorted(set(starts))
    assert sum(row["total_requests"] for row in by_hour) == days[1]["total_requests"]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/Havana", "America/Los_Angeles", "Asia/Tokyo", "Pacific/Kiritimati"]
)
async def test_days_that_utc_cuts_are_exact_beside_writes_that_are_not_folded(
    filled: asyncpg.Connection, zone: str
) -> None:
    start = datetime(2026, 3, 1, 11, 7, tzinfo=UTC)
    await filled.execute("""
        UPDATE chat_completion_requests SET processing_time_ms = 2 * processing_time_ms WHERE id % 5 = 0;
        DELETE FROM chat_completion_requests WHERE id % 7 = 0 OR created_at::date = '2026-04-02';
        INSERT INTO chat_completion_requests (processing_time_ms, created_at)
            SELECT n, '2026-03-07T22:00:00Z'::timestamptz + n * interval '7 minutes'
            FROM generate_series(1, 300) AS n
    """)
    for _ in range(2):
        days = await series(filled, "1d", "none", zone, start, start + timedelta(days=100))
        weeks = await series(filled, "1w", "none", zone, start, start + timedelta(days=100))
        assert sum(row["total_requests"] for row in days) == sum(row["total_requests"] for row in weeks)
        await Rollup(filled).fold()


@pytest.mark.parametrize("zone", ["Europe/London", "Atlantic/Azores"])
async def test_the_day_on_which_a_zone_comes_back_to_utc_or_leaves_it_has_all_its_requests(
    filled: asyncpg.Connection, zone: str
) -> None:
    await filled.execute("""
        INSERT INTO chat_completion_requests (processing_time_ms, created_at)
            SELECT n, '2026-10-24T00:00:00Z'::timestamptz + n * interval '7 minutes'
            FROM generate_series(1, 800) AS n
    """)
    await Rollup(filled).fold()
    start = datetime(2026, 10, 23, 11, 7, tzinfo=UTC)
    days = await series(filled, "1d", "none", zone, start, start + timedelta(days=6))
    starts = [row["bucket_start"].astimezone(ZoneInfo(zone)).date() for row in days]
    assert starts == [(start + timedelta(days=day)).date() for day in range(7)]
    assert sum(row["total_requests"] for row in days) == 800


async def test_weeks_begin_on_monday_and_months_on_the_first(filled: asyncpg.Connection) -> None:
    zone = ZoneInfo("America/New_York")
    start, end = datetime(2026, 3, 4, tzinfo=zone), datetime(2026, 5, 2, tzinfo=zone)
    weeks = await series(filled, "1w", "none", "America/New_York", start, end)
    months = await series(filled, "1mo", "none", "America/New_York", start, end)
    assert {row["bucket_start"].astimezone(zone).weekday() for row in weeks} == {0}
    assert [row["bucket_start"].astimezone(zone).date().isoformat() for row in months] == [
        "2026-03-01",
        "2026-04-01",
        "2026-05-01",
    ]


async def test_intervals_without_requests_are_zeros(filled: asyncpg.Connection) -> None:
    start = datetime(2025, 12, 30, tzinfo=UTC)
    rows = await series(filled, "1d", "none", "UTC", start, start + timedelta(days=3))
    assert len(rows) == 3
    for row in rows:
        assert [row["total_requests"], row["total_tokens"], row["avg_processing_time_ms"]] == [0, 0, 0]


async def test_the_numbers_of_a_bucket_are_those_of_its_requests(connection: asyncpg.Connection) -> None:
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');
        INSERT INTO chat_completion_requests
            (model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at)
        VALUES
            (1, 10, 1, 100, 'completed', 0.5, '2026-01-01T00:59:59.999999Z'),
            (1, 20, NULL, NULL, 'failed', NULL, '2026-01-01T01:00:00Z'),
            (1, 5, 5, 50, 'completed', 0.25, '2026-01-01T01:59:00Z')
    """)
    await Rollup(connection).enable(lambda _done: None)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = await series(connection, "1h", "model", "UTC", start, start + timedelta(hours=3))
    values = [tuple(row.values())[1:-4] for row in rows]
    assert values == [
        ("1", "Alpha", 1, 0, 0, 10, 1, 11, 100, 0.5),
        ("1", "Alpha", 2, 1, 0, 25, 5, 30, 50, 0.25),
        ("1", "Alpha", 0, 0, 0, 0, 0, 0, 0, 0),
    ]
    percentiles = [list(row.values())[-4:] for row in rows]
    assert percentiles == [[Decimal("100.31")] * 4, [Decimal("49.51")] * 4, [0] * 4]


async def test_without_a_start_it_begins_with_the_first_request(filled: asyncpg.Connection) -> None:
    rows = await filled.fetch(SERIES, "1mo", "none", "UTC", None, datetime(2026, 4, 15, tzinfo=UTC))
    assert [row["bucket_start"] for row in rows] == [datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4)]


async def test_a_day_that_a_zone_left_out_is_no_interval_of_its_own(filled: asyncpg.Connection) -> None:
    # Samoa went from one side of the date line to the other, without a 30 December.
    zone = ZoneInfo("Pacific/Apia")
    start, end = datetime(2011, 12, 28, tzinfo=zone), datetime(2012, 1, 2, tzinfo=zone)
    days = await series(filled, "1d", "none", "Pacific/Apia", start, end)
    assert [row["bucket_start"].astimezone(zone).day for row in days] == [28, 29, 31, 1]


async def test_a_day_whose_midnight_comes_twice_begins_with_the_first(filled: asyncpg.Connection) -> None:
    # In Havana clocks go back from one o'clock to midnight.
    zone = ZoneInfo("America/Havana")
    start, end = datetime(2026, 10, 31, tzinfo=zone), datetime(2026, 11, 3, tzinfo=zone)
    days = await series(filled, "1d", "none", "America/Havana", start, end)
    assert [row["bucket_start"].isoformat()[:16] for row in days] == [
        "2026-10-31T04:00",
        "2026-11-01T04:00",
        "2026-11-02T05:00",
    ]


async def test_requests_from_before_clocks_kept_to_quarters_of_an_hour_count_with_their_bucket(
    filled: asyncpg.Connection,
) -> None:
    await filled.execute(
        "UPDATE chat_completion_requests SET created_at = '1930-06-27'::timestamptz "
        "+ id * interval '20 seconds'"
    )
    start, end = (datetime(1930, 6, day, 0, 44, 50, tzinfo=UTC) for day in (27, 28))
    counted = await filled.fetchval(
        "SELECT count(*) FROM chat_completion_requests WHERE created_at >= $1 AND created_at < $2", start, end
    )
    for interval in ("1h", "1d", "1mo"):  # Monrovia was 44:30 minutes behind
        rows = await series(filled, interval, "none", "Africa/Monrovia", start, end)
        assert sum(row["total_requests"] for row in rows) == counted


async def test_a_series_that_makes_no_sense_is_refused(filled: asyncpg.Connection) -> None:
    for arguments, named in (
        ("'1y'", "unknown p_bucket 1y"),
        ("NULL", "unknown p_bucket"),
        ("'1d', 'city'", "unknown p_group_by city"),
        ("'1d', 'none', 'Mars/Phobos'", "Mars/Phobos"),
        ("'1d', p_start => '-infinity'", "cannot be infinite"),
        ("'15m', p_end => 'infinity'", "cannot be infinite"),
    ):
        with pytest.raises(asyncpg.DataError, match=named):
            await filled.fetch(f"SELECT * FROM get_chat_request_timeseries({arguments})", timeout=10)
