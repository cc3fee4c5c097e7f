"""Moments at the ends of the calendar, and intervals where clocks change."""

import shutil
import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import asyncpg
import httpx
import pytest

SERIES = "/chat-requests/timeseries"
FIRST, LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"


@pytest.fixture
async def at_the_ends(connection: asyncpg.Connection) -> asyncpg.Connection:
    """Requests at the infinities, beyond Python's calendar, and at its first and last two moments."""
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');
        INSERT INTO chat_completion_requests (model_id, created_at)
        SELECT 1, unnest(ARRAY[
            '-infinity', '0001-12-31 23:59:59.999999+00 BC', '0001-01-01 00:00:00+00',
            '9999-12-31 23:59:59.999998+00', '9999-12-31 23:59:59.999999+00', '10000-01-01 00:00:00+00',
            'infinity'
        ])::timestamptz
    """)
    return connection


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"start_date": FIRST}, 5),
        ({"start_date": "0001-01-01"}, 5),
        ({"end_date": LAST}, 4),
        ({"start_date": FIRST, "end_date": LAST}, 2),
        ({"start_date": LAST}, 3),
        ({"end_date": FIRST}, 2),
    ],
)
async def test_the_first_and_the_last_moment_are_no_infinities(
    client: httpx.AsyncClient, at_the_ends: asyncpg.Connection, bounds: dict[str, str], expected: int
) -> None:
    summary = (await client.get("/chat-requests/summary", params=bounds)).json()
    assert (summary["data"]["total_requests"], summary["metadata"]["method"]) == (expected, "rpc")
    requests = (await client.get("/chat-requests", params=bounds)).json()
    assert (len(requests["data"]), requests["metadata"]["total_count"]) == (expected, expected)
    await at_the_ends.execute("DROP FUNCTION get_model_request_counts, get_models_with_requests")
    counts = (await client.get("/chat-requests/counts", params=bounds)).json()
    assert counts["metadata"]["total_requests"] == expected
    assert counts["metadata"]["method"] == "fallback_optimized"


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),  # 30 minutes back
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),  # 30 minutes on
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-03-08T07:00:00Z"),
        ("Asia/Kathmandu", "2026-03-08T07:00:00Z"),
    ],
)
async def test_hours_follow_each_other_without_a_gap_where_the_clocks_change(
    client: httpx.AsyncClient, connection: asyncpg.Connection, zone: str, change: str
) -> None:
    await connection.execute(
        """
        INSERT INTO chat_completion_requests (model_id, created_at)
        SELECT 1, $1::timestamptz + n * interval '5 minutes' FROM generate_series(-144, 143) AS n
        """,
        datetime.fromisoformat(change),
    )
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');
    """)
    around = datetime.fromisoformat(change)
    bounds = {
        "start_date": (around - timedelta(hours=6)).isoformat(),
        "end_date": (around + timedelta(hours=6)).isoformat(),
    }
    for method in ("rpc", "fallback_optimized"):
        body = (await client.get(SERIES, params={"bucket": "1h", "timezone": zone, **bounds})).json()
        assert body["metadata"]["method"] == method
        points = body["data"]
        starts = [datetime.fromisoformat(point["bucket_start"]) for point in points]
        assert starts == sorted(set(starts))
        assert max(later - start for start, later in pairwise(starts)) <= timedelta(hours=1)
        for point, start, later in list(zip(points, starts, starts[1:], strict=False))[1:]:
            assert point["total_requests"] == (later - start) // timedelta(minutes=5), point
        assert around in starts or zone == "Asia/Kathmandu"
        await connection.execute("DROP FUNCTION IF EXISTS get_chat_request_timeseries")
        bounds["end_date"] = (around + timedelta(hours=6, seconds=1)).isoformat()


@pytest.fixture
def berlin_of_python_is_tokyo(tmp_path: Path) -> Iterator[None]:
    """Time zone data of Python that differ from those of Postgres, as after an update of one of both."""
    (tmp_path / "Europe").mkdir()
    [tokyo] = [path for path in map(Path, zoneinfo.TZPATH) if (path / "Asia/Tokyo").exists()][:1]
    shutil.copy(tokyo / "Asia/Tokyo", tmp_path / "Europe/Berlin")
    zoneinfo.reset_tzpath([tmp_path, *zoneinfo.TZPATH])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("berlin_of_python_is_tokyo")
async def test_the_clocks_of_a_time_zone_are_those_of_postgres_alone(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    in_python = datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    assert in_python.utcoffset() == timedelta(hours=9)
    for days, method in ((2, "rpc"), (3, "fallback_optimized")):
        bounds = {"start_date": "2026-01-01", "end_date": f"2026-01-0{days}"}
        body = (await client.get(SERIES, params={"timezone": "Europe/Berlin", **bounds})).json()
        assert body["metadata"]["method"] == method
        assert body["data"][0]["bucket_start"] == "2026-01-01T00:00:00+01:00"
        await gateway.execute("DROP FUNCTION IF EXISTS get_chat_request_timeseries")
