"""Every method of the ladder gives the hand-computed rows; what it cannot know is 0 and named."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import product
from typing import Any

import orjson
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.rows import COST_FIELDS, PERCENTILE_FIELDS, UNKNOWN_FROM_COUNTS
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import Series
from chat_stats.service.compute.methods import LADDER, ONLY_COUNTS, Method
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import NotFound
from tests.conftest import run_migrations
from tests.sql import methods, sample
from tests.sql import sample_answers as answers
from tests.sql.conftest import BuildGateway, MigratedGateway, connect
from tests.sql.sample import END, MICROSECOND, START, Row
from tests.sql.schemas import PLAIN, PRODUCT, SPECIAL, VARIANTS, Variant

pytestmark = pytest.mark.every_postgres

EXPECTED = (
    (TimeRange(), answers.OF_ALL, answers.PROVIDERS_OF_ALL, answers.SUMMARY_OF_ALL),
    (TimeRange(None, START, END), answers.OF_RANGE, answers.PROVIDERS_OF_RANGE, answers.SUMMARY_OF_RANGE),
)


@pytest.fixture
async def snapshot(
    migrated: MigratedGateway, database_of: Callable[[str], Awaitable[Database]]
) -> AsyncIterator[Snapshot]:
    database = await database_of(migrated.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        yield snapshot


async def answer(method: Method, snapshot: Snapshot, query: Query) -> tuple[Any, tuple[str, ...]]:
    """Return what `method` says, as JSON shows it, and the fields that it does not know."""
    data, unavailable = await methods.run(method, snapshot, query)
    return orjson.loads(orjson.dumps(data)), unavailable


def unknown_to(method: Method, variant: Variant) -> tuple[str, ...]:
    if method in ONLY_COUNTS:
        return (*UNKNOWN_FROM_COUNTS, *PERCENTILE_FIELDS)
    return () if variant.has_cost else COST_FIELDS


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_all_methods_give_the_expected_rows(snapshot: Snapshot, variant: Variant) -> None:
    for method, (range_, stats, providers, summary) in product(LADDER, EXPECTED):
        unknown = unknown_to(method, variant)
        metadata = {"unresolved_requests": 14, "unresolved_failed_requests": 0}
        expected: dict[str, list[Row]] = {
            "models": answers.model_rows(variant, stats),
            "providers": answers.provider_rows(variant, providers),
            "counts": sample.count_rows(variant, stats),
        }
        for name, rows in expected.items():
            data, totals, unavailable = await methods.run_with_metadata(method, snapshot, Query(name, range_))
            assert orjson.loads(orjson.dumps(data)) == [answers.known(row, unknown) for row in rows]
            assert totals.items() >= metadata.items()
            assert unavailable == answers.in_answer(unknown, rows[0], metadata)
        assert await answer(method, snapshot, Query("summary", range_)) == (
            answers.known(summary, unknown),
            answers.in_answer(unknown, summary),
        )


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_rows_and_what_is_unresolved_are_the_total(snapshot: Snapshot, variant: Variant) -> None:
    for method, (range_, *_) in product(LADDER, EXPECTED):
        summary, _ = await answer(method, snapshot, Query("summary", range_))
        for name in ("models", "providers", "counts"):
            data, totals, _ = await methods.run_with_metadata(method, snapshot, Query(name, range_))
            rows = sum(
                row.get("stats", row).get("total_requests", row.get("request_count", 0)) for row in data
            )
            assert rows + int(totals["unresolved_requests"]) == summary["total_requests"]


@pytest.mark.parametrize("variant", [PLAIN, *SPECIAL], ids=str)
async def test_requests_without_a_model_can_be_asked_for_alone(snapshot: Snapshot, variant: Variant) -> None:
    for method in LADDER:
        unknown = unknown_to(method, variant)
        data, unavailable = await answer(method, snapshot, Query("summary", model_id="unresolved"))
        assert (data, unavailable) == (
            answers.known(answers.UNRESOLVED, unknown),
            answers.in_answer(unknown, answers.UNRESOLVED),
        )
        for name in ("models", "providers", "counts"):
            query = Query(name, model_id="unresolved")
            rows, totals, _ = await methods.run_with_metadata(method, snapshot, query)
            assert (rows, totals["unresolved_requests"]) == ([], 14)
        elsewhere = Query("summary", model_id="unresolved", provider_id=str(variant.id("providers", 1)))
        assert (await answer(method, snapshot, elsewhere))[0]["total_requests"] == 0


@pytest.mark.parametrize("variant", [PLAIN, *SPECIAL], ids=str)
async def test_all_methods_narrow_to_models_of_a_name(snapshot: Snapshot, variant: Variant) -> None:
    for method in LADDER:
        for name, models in (("ALPH", [1]), ("a", [1, 2, 3]), ("%", []), ("_", [])):
            rows, _ = await answer(method, snapshot, Query("counts", model_name=name))
            assert [row["model_id"] for row in rows] == [variant.id("models", model) for model in models]
            summary, _ = await answer(method, snapshot, Query("summary", model_name=name))
            assert summary["total_requests"] == sum(row["request_count"] for row in rows)


@pytest.mark.parametrize("variant", [*PRODUCT[::5], *SPECIAL], ids=str)
async def test_function_and_plain_statement_give_the_same_time_series(
    snapshot: Snapshot, variant: Variant
) -> None:
    range_ = TimeRange(None, START - timedelta(days=2), END + MICROSECOND)
    for series in (Series("1d"), Series("1h", "provider", "Asia/Kathmandu"), Series("1d", "model")):
        for model_id in (None, "unresolved", str(variant.id("models", 1))):
            query = Query("timeseries", range_, series=series, model_id=model_id)
            points, unknown = await answer(Method.OPTIMIZED, snapshot, query)
            # All but request 4; 14 without a model; requests 1, 2 and 3.
            expected = {None: 25, "unresolved": 14}.get(model_id, 3)
            assert sum(point["total_requests"] for point in points) == expected
            assert (points, unknown) == await answer(Method.RPC, snapshot, query)
    points, _ = await answer(
        Method.OPTIMIZED, snapshot, Query("timeseries", range_, series=Series("1d", "model"))
    )
    by_group = {point["group_id"]: point["group_name"] for point in points}
    assert set(by_group) == {"unresolved", *(variant.id("models", model) for model in range(1, 5))}
    assert by_group["unresolved"] == "unresolved"
    of_model = [point for point in points if point["group_id"] == variant.id("models", 1)]
    assert [point["p50_processing_time_ms"] for point in of_model] == [0, 0, 1014.61, 0]


@pytest.mark.parametrize("variant", [*PRODUCT[::5], *SPECIAL], ids=str)
async def test_all_methods_narrow_to_a_provider_and_to_a_model(snapshot: Snapshot, variant: Variant) -> None:
    for method in LADDER:
        range_, stats, *_ = EXPECTED[1]
        unknown = unknown_to(method, variant)
        for provider in (1, 3):
            rows = answers.model_rows(variant, stats, provider=provider)
            query = Query("models", range_, provider_id=str(variant.id("providers", provider)))
            data, _ = await answer(method, snapshot, query)
            assert data == [answers.known(row, unknown) for row in rows]
        for model in (2, sample.MODEL_WITHOUT_REQUESTS):
            row = sample.model_row(variant, model, stats.get(model, answers.NOTHING))
            query = Query("model", range_, model_id=str(variant.id("models", model)))
            assert await answer(method, snapshot, query) == (
                answers.known(row, unknown),
                answers.in_answer(unknown, row),
            )


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
@pytest.mark.parametrize("method", LADDER)
async def test_a_model_that_is_gone_or_has_no_provider_is_not_found(
    snapshot: Snapshot, variant: Variant, method: Method
) -> None:
    for model in sample.MODELS_THAT_DO_NOT_COUNT:
        with pytest.raises(NotFound):
            await answer(method, snapshot, Query("model", model_id=str(variant.id("models", model))))
    for other in ("0", "11111111-1111-1111-1111-111111111111", str(2**63 - 1)):
        with pytest.raises(NotFound):
            await answer(method, snapshot, Query("model", model_id=other))


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
@pytest.mark.parametrize("method", LADDER)
async def test_a_range_without_requests_gives_no_rows_and_a_summary_of_zeros(
    snapshot: Snapshot, variant: Variant, method: Method
) -> None:
    nothing = TimeRange(None, START, START)
    for name in ("providers", "models", "counts"):
        assert (await answer(method, snapshot, Query(name, nothing)))[0] == []
    assert (await answer(method, snapshot, Query("summary", nothing)))[0] == answers.NOTHING


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
@pytest.mark.parametrize("method", LADDER)
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (START, START + MICROSECOND, {1: 1}),  # request 1
        (START - MICROSECOND, START, {2: 1}),  # request 5
        (END - MICROSECOND, END, {1: 1}),  # request 2
        (END, END + MICROSECOND, {1: 1}),  # request 3
        (START, None, {1: 3, 2: 2, 3: 2, 4: 2}),  # as the day, and request 3
        (None, END, {2: 3, 4: 3, 1: 2, 3: 2}),  # as the day, and requests 5 and 12
        (END, START, {}),
    ],
)
async def test_a_range_is_half_open_to_the_microsecond(
    snapshot: Snapshot, variant: Variant, method: Method, start: Any, end: Any, expected: dict[int, int]
) -> None:
    rows, _ = await answer(method, snapshot, Query("counts", TimeRange(None, start, end)))
    assert [(row["model_id"], row["request_count"]) for row in rows] == [
        (variant.id("models", model), count) for model, count in expected.items()
    ]


async def test_real_times_and_costs_are_added_up_as_decimal_numbers(
    build_gateway: BuildGateway, database_of: Callable[[str], Awaitable[Database]]
) -> None:
    """Postgres adds them up as real: ten thousand times 0.1 is 999.9029."""
    gateway = await build_gateway(Variant("real times and costs", times="real", costs="real"))
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection:
        await connection.execute(
            "CREATE TEMPORARY TABLE one AS SELECT * FROM chat_completion_requests "
            "WHERE status = 'completed' AND model_id IS NOT NULL LIMIT 1;"
            "UPDATE one SET processing_time_ms = 0.1, cost_usd = 0.1;"
            "DELETE FROM chat_completion_requests;"
            "INSERT INTO chat_completion_requests "
            "SELECT (jsonb_populate_record(o, jsonb_build_object('id', n))).* "
            "FROM one AS o CROSS JOIN generate_series(1, 10000) AS n"
        )
    database = await database_of(gateway.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        for method in (Method.RPC, Method.OPTIMIZED):
            row, _ = await answer(method, snapshot, Query("summary", TimeRange()))
            assert (row["total_requests"], row["total_cost_usd"]) == (10_000, 1000)
            assert row["avg_processing_time_ms"] == 0.1
