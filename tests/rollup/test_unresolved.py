"""Requests without a model that exists are counted: rows and unresolved ones together are the total."""

import asyncpg
import pytest

from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.rollup.conftest import ignored
from tests.rollup.exactness import DRIFT

pytestmark = pytest.mark.every_postgres

TOTAL = "SELECT * FROM get_chat_request_summary($1, $2)"
USAGE = "SELECT * FROM chat_stats_usage($1, $2, $3, $4, $5)"
SERIES = "SELECT * FROM get_chat_request_timeseries('1d', $3, 'UTC', $1, $2, NULL, $4)"
PERCENTILES = "SELECT * FROM get_chat_request_percentiles($3, $1, $2, NULL, $4)"
#: Ranges: all, whole days, ragged.
RANGES = (
    "SELECT NULL::timestamptz, NULL::timestamptz",
    "SELECT date_trunc('day', now()) - interval '40 days', date_trunc('day', now()) - interval '3 days'",
    "SELECT now() - interval '63 days 5 hours 7 minutes', now()",
)
SUMS = ("total_requests", "successful_requests", "pending_requests")


@pytest.fixture(params=["rolled up", "scanned"])
async def counted(requests: Connection, request: pytest.FixtureRequest) -> Connection:
    if request.param == "rolled up":
        await Rollup(requests).enable(ignored)
        await requests.execute("DELETE FROM chat_completion_requests WHERE id % 7 = 1")  # not folded
    return requests


async def usage(connection: Connection, bounds: asyncpg.Record, *filters: str | None) -> list[asyncpg.Record]:
    return await connection.fetch(USAGE, *bounds, *filters, *[None] * (3 - len(filters)))


async def ranges(connection: Connection) -> list[asyncpg.Record]:
    return [row for statement in RANGES for row in await connection.fetch(statement)]


async def test_rows_and_the_unresolved_one_are_the_total(counted: Connection) -> None:
    for bounds in await ranges(counted):
        [total] = await counted.fetch(TOTAL, *bounds)
        *rows, last = await usage(counted, bounds)
        assert all(row["model_id"] is not None for row in rows)
        assert [row["total_requests"] for row in rows] == sorted(
            (row["total_requests"] for row in rows), reverse=True
        )
        assert list(last.values())[:7] == [None] * 7
        for name in SUMS:
            assert sum(row[name] for row in (*rows, last)) == total[name], name
        assert total["failed_requests"] > 0
        assert await usage(counted, bounds, None, "unresolved") == [last]
        assert await usage(counted, bounds, "1", "unresolved") == []
        assert await usage(counted, bounds, None, "unresolved", "m") == []


async def test_filters_leave_the_unresolved_ones_out(counted: Connection) -> None:
    await counted.execute("UPDATE models SET model_name = 'A_100%' WHERE id = 2")
    for bounds in await ranges(counted):
        rows = await usage(counted, bounds)
        of_provider = [row for row in rows if row["provider_id"] == 2]
        assert of_provider
        assert await usage(counted, bounds, "2") == of_provider
        assert await usage(counted, bounds, None, "3") == [row for row in rows if row["model_id"] == 3]
        assert await usage(counted, bounds, None, None, "a_10") == [
            row for row in rows if row["model_id"] == 2
        ]
        assert [row["model_id"] for row in await usage(counted, bounds, None, None, "%")] == [2]
        assert await usage(counted, bounds, None, None, "nothing") == []


async def test_deleting_a_model_moves_its_numbers_there(counted: Connection) -> None:
    [bounds, *_] = await ranges(counted)
    before = await usage(counted, bounds)
    total = await counted.fetch(TOTAL, *bounds)
    await counted.execute("DELETE FROM models WHERE id = 4")
    after = await usage(counted, bounds)
    assert await counted.fetch(TOTAL, *bounds) == total
    moved = next(row for row in before if row["model_id"] == 4)
    assert len(after) == len(before) - 1
    for name in SUMS:
        assert after[-1][name] == before[-1][name] + moved[name]
    await counted.execute("DELETE FROM providers")
    [only] = await usage(counted, bounds)
    assert only["total_requests"] == total[0]["total_requests"]
    assert await counted.fetch("SELECT * FROM get_models_with_requests()") == []
    assert await counted.fetch("SELECT * FROM get_provider_request_stats()") == []


async def test_a_grouped_series_has_one_for_them_and_adds_up_to_the_ungrouped(counted: Connection) -> None:
    for bounds in await ranges(counted):
        ungrouped = await counted.fetch(SERIES, *bounds, "none", None)
        [total] = await counted.fetch(TOTAL, *bounds)
        assert sum(row["total_requests"] for row in ungrouped) == total["total_requests"]
        alone = await counted.fetch(SERIES, *bounds, "none", "unresolved")
        for group_by in ("model", "provider"):
            grouped = await counted.fetch(SERIES, *bounds, group_by, None)
            for point in ungrouped:
                parts = [row for row in grouped if row["bucket_start"] == point["bucket_start"]]
                for name in ("total_requests", "failed_requests", "pending_requests"):
                    assert sum(row[name] for row in parts) == point[name]
            unresolved = [row for row in grouped if row["group_id"] == "unresolved"]
            assert {row["group_name"] for row in unresolved} == {"unresolved"}
            assert [list(row.values())[3:] for row in unresolved] == [list(row.values())[3:] for row in alone]
            assert await counted.fetch(SERIES, *bounds, group_by, "unresolved") == unresolved


async def test_percentiles_of_all_requests_are_those_of_every_request(counted: Connection) -> None:
    for bounds in await ranges(counted):
        [of_all] = await counted.fetch(PERCENTILES, *bounds, "none", None)
        [alone] = await counted.fetch(PERCENTILES, *bounds, "none", "unresolved")
        by_model = await counted.fetch(PERCENTILES, *bounds, "model", None)
        assert "unresolved" not in {row["group_id"] for row in by_model}
        both = await counted.fetch(PERCENTILES, *bounds, "both", None)
        assert [row for row in both if row["group_id"] is None] == [of_all]
        assert alone["p50_processing_time_ms"] > 0
        exact = await counted.fetchval(
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY processing_time_ms) "
            "FROM chat_completion_requests WHERE ($1::timestamptz IS NULL OR created_at >= $1) "
            "AND ($2::timestamptz IS NULL OR created_at < $2)",
            *bounds,
        )
        assert abs(of_all["p50_processing_time_ms"] - exact) <= exact / 40


async def test_nothing_drifts_when_requests_lose_their_model(rolled_up: Connection) -> None:
    await rolled_up.execute("UPDATE chat_completion_requests SET model_id = NULL WHERE id % 3 = 0")
    await rolled_up.execute(
        "UPDATE chat_completion_requests SET model_id = 1 WHERE model_id IS NULL AND id % 2 = 0"
    )
    assert await rolled_up.fetchval(DRIFT) == 0
    await Rollup(rolled_up).fold()
    assert await rolled_up.fetchval(DRIFT) == 0
