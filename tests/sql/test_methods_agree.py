"""Every method of the ladder gives the hand-computed rows; what it cannot know is 0 and named."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import product
from typing import Any

import orjson
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.rows import COST_FIELDS, SUCCESS_FIELDS, TOKEN_AND_TIME_FIELDS
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import Series
from chat_stats.service.compute.ladder import _run
from chat_stats.service.compute.methods import Method
from chat_stats.service.compute.percentiles import with_percentiles
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import NotFound
from tests.sql import sample
from tests.sql.conftest import MigratedGateway
from tests.sql.sample import END, MICROSECOND, START, Row
from tests.sql.schemas import PLAIN, PRODUCT, SPECIAL, VARIANTS, Variant

pytestmark = pytest.mark.every_postgres

EXPECTED = (
    (TimeRange(), sample.STATS_OF_ALL, sample.PROVIDERS_OF_ALL, sample.SUMMARY_OF_ALL),
    (TimeRange(None, START, END), sample.STATS_OF_RANGE, sample.PROVIDERS_OF_RANGE, sample.SUMMARY_OF_RANGE),
)

MEAN = {"avg_processing_time_ms": 0}

ONLY_COUNTS = (Method.WITH_COUNTS, Method.SLICES)


@pytest.fixture
async def snapshot(
    migrated: MigratedGateway, database_of: Callable[[str], Awaitable[Database]]
) -> AsyncIterator[Snapshot]:
    database = await database_of(migrated.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        yield snapshot


async def answer(method: Method, snapshot: Snapshot, query: Query) -> tuple[Any, tuple[str, ...]]:
    """Return what `method` says, as JSON shows it, and the fields that it does not know."""
    data, unavailable = await _run(method, snapshot, query, AGGREGATIONS[query.aggregation], 20)
    return orjson.loads(orjson.dumps(data)), unavailable


def known_by(method: Method, rows: list[Row]) -> list[Row]:
    """Return rows of models with 0 for what `method` does not know."""
    if method not in ONLY_COUNTS:
        return rows
    unknown = dict.fromkeys(TOKEN_AND_TIME_FIELDS, 0)
    return [{**row, "stats": {**row["stats"], **unknown}} for row in rows]


def unknown_of_models(method: Method) -> tuple[str, ...]:
    return TOKEN_AND_TIME_FIELDS if method in ONLY_COUNTS else ()


def known_summary(method: Method, variant: Variant, summary: Row) -> tuple[Row, tuple[str, ...]]:
    unknown: tuple[str, ...] = ()
    if method in ONLY_COUNTS:
        unknown = (*SUCCESS_FIELDS, *TOKEN_AND_TIME_FIELDS, *COST_FIELDS)
    elif not variant.has_cost:
        unknown = COST_FIELDS
    return summary | dict.fromkeys(unknown, 0), unknown


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_all_methods_give_the_expected_rows(snapshot: Snapshot, variant: Variant) -> None:
    for method, (range_, stats, providers, summary) in product(Method, EXPECTED):
        models = known_by(method, sample.model_rows(variant, stats))
        assert await answer(method, snapshot, Query("models", range_)) == (models, unknown_of_models(method))
        assert await answer(method, snapshot, Query("providers", range_)) == (
            sample.provider_rows(variant, providers),
            (),
        )
        assert await answer(method, snapshot, Query("counts", range_)) == (
            sample.count_rows(variant, stats),
            (),
        )
        assert await answer(method, snapshot, Query("summary", range_)) == known_summary(
            method, variant, summary
        )


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_function_and_plain_statement_give_the_expected_percentiles(
    snapshot: Snapshot, variant: Variant
) -> None:
    of_all = (TimeRange(), sample.PERCENTILES_OF_ALL, sample.SUMMARY_PERCENTILES_OF_ALL)
    of_range = (
        TimeRange(None, START, END),
        sample.PERCENTILES_OF_RANGE,
        sample.SUMMARY_PERCENTILES_OF_RANGE,
    )
    for plain, (range_, of_models, of_summary) in product((False, True), (of_all, of_range)):

        async def percentiles(query: Query, data: Any, plain: bool = plain) -> Any:
            aggregation = AGGREGATIONS[query.aggregation]
            data, unknown = await with_percentiles(
                snapshot, query, aggregation, data, plain=plain, timeout=20
            )
            assert unknown == ()
            return data

        rows = [{"model_id": variant.id("models", model), "stats": MEAN} for model in of_models]
        for row, expected in zip(
            await percentiles(Query("models", range_), rows), of_models.values(), strict=True
        ):
            assert row["stats"] == sample.with_percentiles(MEAN, expected)
        assert await percentiles(Query("summary", range_), MEAN) == sample.with_percentiles(MEAN, of_summary)
        one = Query("model", range_, model_id=str(variant.id("models", 4)))
        row = await percentiles(one, rows[3])
        assert row["stats"] == sample.with_percentiles(MEAN, of_models[4])


@pytest.mark.parametrize("variant", [*PRODUCT[::5], *SPECIAL], ids=str)
async def test_function_and_plain_statement_give_the_same_time_series(
    snapshot: Snapshot, variant: Variant
) -> None:
    range_ = TimeRange(None, START - timedelta(days=2), END + MICROSECOND)
    for series in (Series("1d"), Series("1h", "provider", "Asia/Kathmandu"), Series("1d", "model")):
        query = Query("timeseries", range_, series=series)
        points, unknown = await answer(Method.RPC, snapshot, query)
        assert (points, unknown) == await answer(Method.OPTIMIZED, snapshot, query)
        assert sum(point["total_requests"] for point in points) == 11  # all but request 4
    assert [point["p50_processing_time_ms"] for point in points[:4]] == [0, 0, 1014.61, 0]  # of model 1
    assert {point["group_id"] for point in points} == {variant.id("models", model) for model in range(1, 5)}


@pytest.mark.parametrize("variant", [*PRODUCT[::5], *SPECIAL], ids=str)
async def test_all_methods_narrow_to_a_provider_and_to_a_model(snapshot: Snapshot, variant: Variant) -> None:
    for method in Method:
        range_, stats, *_ = EXPECTED[1]
        for provider in (1, 3):
            rows = known_by(method, sample.model_rows(variant, stats, provider=provider))
            query = Query("models", range_, provider_id=str(variant.id("providers", provider)))
            assert await answer(method, snapshot, query) == (rows, unknown_of_models(method))
        for model in (2, sample.MODEL_WITHOUT_REQUESTS):
            row = sample.model_row(variant, model, stats.get(model, sample.stats(0, 0, 0, 0, 0)))
            query = Query("model", range_, model_id=str(variant.id("models", model)))
            assert await answer(method, snapshot, query) == (
                known_by(method, [row])[0],
                unknown_of_models(method),
            )


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
@pytest.mark.parametrize("method", Method)
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
@pytest.mark.parametrize("method", Method)
async def test_a_range_without_requests_gives_no_rows_and_a_summary_of_zeros(
    snapshot: Snapshot, variant: Variant, method: Method
) -> None:
    nothing = TimeRange(None, START, START)
    for name in ("providers", "models", "counts"):
        assert (await answer(method, snapshot, Query(name, nothing)))[0] == []
    assert (await answer(method, snapshot, Query("summary", nothing)))[0] == sample.SUMMARY_OF_NOTHING


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
@pytest.mark.parametrize("method", Method)
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
