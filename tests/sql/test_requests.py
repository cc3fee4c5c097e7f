"""The statements over single requests: on the gateways' schemas, and down which index they go."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.database import queries
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.explorer.plot import sample as sample_points
from chat_stats.service.explorer.query import Filters, Position, RequestQuery
from chat_stats.service.explorer.reading import MERGED_MODELS, Reading
from chat_stats.service.explorer.requests import Requests
from tests.sql import sample
from tests.sql.conftest import Gateway, MigratedGateway
from tests.sql.schemas import PRODUCT, SPECIAL, Variant

pytestmark = pytest.mark.every_postgres

OpenDatabase = Callable[[str], Awaitable[Database]]

#: Each type of id, and all that is out of the ordinary.
VARIANTS = [*PRODUCT[::9], *SPECIAL]

#: Newest first; 1 to 12 are those that count, and 4 has no time.
ORDER = [3, 2, 11, 10, 9, 8, 7, 6, 1, 5, 12, 4]
OF_MODEL_2 = [7, 6, 5]
OF_PROVIDER_1 = [3, 2, 7, 6, 1, 5, 4]
UNRESOLVED_ORDER = list(range(26, 12, -1))
OF_RANGE = [2, 11, 10, 9, 8, 7, 6, 1]


async def rows_of(
    snapshot: Snapshot, filters: Filters, *, limit: int = 100, after: Position | None = None
) -> tuple[list[dict[str, Any]], Reading]:
    requests = Requests(timeout=20)
    reading = await requests.open(snapshot, filters, after)
    query = RequestQuery(filters, limit, 0, after)
    fields = reading.columns.shown(nested=True)
    rows = [
        dict(zip(fields, row, strict=True))
        async for batch in requests.batches(reading, query, fields)
        for row in batch
    ]
    if after is None and limit == 100:
        assert (await requests.total(reading))[0] == len(rows)
    return rows, reading


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_rows_filters_and_pages_are_the_same_on_every_schema(
    migrated: MigratedGateway, database_of: OpenDatabase
) -> None:
    variant = migrated.variant
    numbers = {
        str(variant.id("chat_completion_requests", request.id)): request for request in sample.REQUESTS
    }
    database = await database_of(migrated.url)
    async with database.snapshot(wait_seconds=5) as snapshot:

        async def found(filters: Filters) -> list[int]:
            return [numbers[str(row["id"])].id for row in (await rows_of(snapshot, filters))[0]]

        assert await found(Filters()) == ORDER
        assert await found(Filters(model_id=str(variant.id("models", 2)))) == OF_MODEL_2
        assert await found(Filters(provider_id=str(variant.id("providers", 1)))) == OF_PROVIDER_1
        assert await found(Filters(model_name="ALPH")) == [3, 2, 1, 4]
        assert await found(Filters(status="completed")) == [10, 9, 6, 1, 5]
        assert await found(Filters(status="no such status")) == []
        assert await found(Filters(model_id=UNRESOLVED)) == UNRESOLVED_ORDER
        assert await found(Filters(model_id=UNRESOLVED, status="failed")) == []
        assert await found(Filters(TimeRange(None, sample.START, sample.END))) == OF_RANGE

        after, seen = None, []
        while True:
            rows, reading = await rows_of(snapshot, Filters(), limit=5, after=after)
            seen += [numbers[str(row["id"])].id for row in rows]
            after = reading.next
            if after is None:
                break
        assert seen == ORDER

        rows, reading = await rows_of(snapshot, Filters())
        for row in rows:
            check_row(variant, row, numbers[str(row["id"])])
        points = (await sample_points(reading, 1000)).points
        assert [moment for moment, _, _ in points] == sorted(
            request.created_at for request in sample.REQUESTS[:12] if request.created_at
        )


def check_row(variant: Variant, row: dict[str, Any], request: sample.Request) -> None:
    assert row["created_at"] == request.created_at
    assert (row["input_tokens"], row["output_tokens"]) == (request.input_tokens, request.output_tokens)
    assert row["total_tokens"] == (request.input_tokens or 0) + (request.output_tokens or 0)
    assert row["processing_time_ms"] == request.processing_time_ms
    assert row["status"] == request.status
    cost = None if request.cost_usd is None or not variant.has_cost else float(request.cost_usd)
    assert row["cost_usd"] == cost
    assert row["request_id"] is row["error_message"] is row["user_id"] is None


CREATED_AT = "chat_stats_requests_created_at_idx"
MODEL_ID = "chat_stats_requests_model_id_created_at_idx"
STATUS = "chat_stats_requests_status_created_at_idx"

MODELS = MERGED_MODELS + 36
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def large(live: Gateway) -> Gateway:
    """100,000 requests of 100 models, a second apart; one in 1,000 failed."""
    connection = await asyncpg.connect(live.url)
    try:
        await connection.execute(
            f"""
            TRUNCATE chat_completion_requests, models, providers;
            INSERT INTO providers SELECT n, 'Provider', 'p' FROM generate_series(1, 2) AS n;
            INSERT INTO models (id, provider_id, model_name)
            SELECT n, CASE WHEN n <= 5 THEN 1 ELSE 2 END, 'Model ' || n
            FROM generate_series(1, {MODELS}) AS n;
            INSERT INTO chat_completion_requests (id, model_id, created_at, status, input_tokens)
            SELECT
                n, 1 + n % {MODELS}, '2026-03-01Z'::timestamptz - n * interval '1 s',
                CASE WHEN n % 1000 = 0 THEN 'failed' ELSE 'completed' END, n
            FROM generate_series(1, 100000) AS n;
            ANALYZE;
        """
        )
    finally:
        await connection.close()
    return live


PLANS: list[tuple[Filters, str, int]] = [
    (Filters(), CREATED_AT, 1),
    (Filters(model_id="7"), MODEL_ID, 1),
    (Filters(provider_id="1"), MODEL_ID, 5),
    (Filters(model_name="model 1"), MODEL_ID, 12),
    (Filters(status="failed"), STATUS, 1),
    (Filters(TimeRange(None, NOW - timedelta(hours=5), NOW - timedelta(hours=4))), CREATED_AT, 1),
    (Filters(TimeRange(None, NOW - timedelta(hours=5)), provider_id="1"), MODEL_ID, 5),
]


async def test_every_page_reads_a_range_of_an_index_and_no_more(
    large: Gateway, database_of: OpenDatabase
) -> None:
    database = await database_of(large.url)
    near = Position((NOW - timedelta(seconds=10)).isoformat(), 10, NOW)
    deep = Position((NOW - timedelta(seconds=90_000)).isoformat(), 90_000, NOW)
    async with database.snapshot(wait_seconds=5) as snapshot:
        for filters, index, branches in PLANS:
            reading = await Requests(timeout=20).open(snapshot, filters)
            for place in (None, near, deep):
                after = (None, None) if place is None else (place.value, place.id)
                arguments = [*reading.bounds, filters.status, *after, 0, 21]
                statement = reading.statement("requests_timed", arguments, ["r.id"])
                scans, rows = await scans_of(snapshot, statement, arguments)
                assert scans == [index] * branches, (filters, place)
                # Of each model at most the rows of the page; a sort by id looks a little ahead.
                assert rows <= (21 + 3) * branches, (filters, place)


async def test_points_are_read_from_indexes(large: Gateway, database_of: OpenDatabase) -> None:
    database = await database_of(large.url)
    starts = [int((NOW - timedelta(seconds=s)).timestamp() * 1_000_000) for s in range(90_000, 0, -1000)]
    async with database.snapshot(wait_seconds=5) as snapshot:
        for filters, index, branches in PLANS[:5]:
            reading = await Requests(timeout=20).open(snapshot, filters)
            arguments: list[Any] = [filters.status, starts, [at + 10**9 for at in starts], 4]
            statement = reading.statement("plot_slots", arguments, ["r.id", "r.created_at"])
            scans, rows = await scans_of(snapshot, statement, arguments)
            assert scans == [index] * branches
            assert rows <= len(starts) * 5 * branches


async def test_unresolved_requests_are_read_from_the_index_by_model(
    large: Gateway, database_of: OpenDatabase
) -> None:
    connection = await asyncpg.connect(large.url)
    await connection.execute(
        "UPDATE chat_completion_requests SET model_id = CASE model_id WHEN 1 THEN NULL ELSE 1000 END "
        "WHERE model_id <= 2; ANALYZE"
    )
    await connection.close()
    database = await database_of(large.url)
    filters = Filters(model_id=UNRESOLVED)
    deep = Position((NOW - timedelta(seconds=90_000)).isoformat(), 90_000, NOW)
    async with database.snapshot(wait_seconds=5) as snapshot:
        scans, rows = await scans_of(snapshot, queries.load("requests_unresolved"), [])
        assert set(scans) == {MODEL_ID}
        assert rows <= MODELS + 1
        reading = await Requests(timeout=20).open(snapshot, filters)
        for place in ((None, None), (deep.value, deep.id)):
            arguments: list[Any] = [None, None, None, *place, 0, 21]
            statement = reading.statement("requests_timed", arguments, ["r.id"])
            scans, rows = await scans_of(snapshot, statement, arguments)
            assert scans == [MODEL_ID] * 2
            assert rows <= (21 + 3) * 2
        for direction in ("ASC", "DESC"):
            arguments = [None, None, None]
            statement = reading.statement("plot_end", arguments, [direction])
            assert await scans_of(snapshot, statement, arguments) == ([MODEL_ID] * 2, 2)


async def scans_of(snapshot: Snapshot, statement: str, arguments: list[Any]) -> tuple[list[str], int]:
    """Return the indexes by which the requests are read, "whole table" where by none, and how many rows."""
    records = await snapshot.fetch(
        f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {statement}", *arguments, timeout=20
    )
    scans: list[str] = []
    rows = 0
    nodes = [orjson.loads(records[0][0])[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        name = node.get("Index Name", "")
        if node.get("Relation Name") == "chat_completion_requests" or name in (CREATED_AT, MODEL_ID, STATUS):
            scans.append(name or "whole table")
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            rows += round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return scans, rows
