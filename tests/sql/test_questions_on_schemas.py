"""Questions by any dimension on every schema that a gateway may have."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.ladder import compute
from chat_stats.service.database.pool import Database
from tests.sql import sample
from tests.sql.conftest import MigratedGateway
from tests.sql.schemas import VARIANTS, Variant

pytestmark = [
    pytest.mark.every_postgres,
    pytest.mark.parametrize("variant", VARIANTS, ids=str),
]

OpenDatabase = Callable[[str], Awaitable[Database]]


async def ask(database: Database, text: str, dimensions: str = "") -> Computed:
    query = parse_question(parse_qsl(text, keep_blank_values=True), known_dimensions(dimensions))
    async with database.snapshot(wait_seconds=10) as snapshot:
        return await compute(snapshot, query, timeout=30)


def model_of(variant: Variant, request: sample.Request) -> Any:
    known = [number for number, provider, *_ in sample.MODELS if provider in (1, 2, 3)]
    return variant.id("models", request.model) if request.model in known else "unresolved"


async def test_models_statuses_and_times_are_those_of_the_sample(
    variant: Variant, migrated: MigratedGateway, database_of: OpenDatabase
) -> None:
    database = await database_of(migrated.url)
    by_model = await ask(database, f"group_by=model_id&measures={','.join(FIGURES)}")
    assert isinstance(by_model.data, list)
    expected = Counter(model_of(variant, request) for request in sample.REQUESTS)
    assert {row["model_id"]: row["total_requests"] for row in by_model.data} == expected
    names = {variant.id("models", number): name for number, _, name, *_ in sample.MODELS}
    assert all(row["model_name"] == names.get(row["model_id"], "unresolved") for row in by_model.data)
    inputs = sum(request.input_tokens or 0 for request in sample.REQUESTS)
    outputs = sum(request.output_tokens or 0 for request in sample.REQUESTS)
    total = by_model.totals["total"]
    assert (total["total_input_tokens"], total["total_output_tokens"]) == (inputs, outputs)
    times = [each.processing_time_ms for each in sample.REQUESTS if each.processing_time_ms is not None]
    assert total["avg_processing_time_ms"] == pytest.approx(sum(times) / len(times), abs=0.01)
    cost = sum(float(request.cost_usd or 0) for request in sample.REQUESTS)
    assert total["total_cost_usd"] == pytest.approx(cost if variant.has_cost else 0)
    assert by_model.unavailable == (() if variant.has_cost else ("total_cost_usd", "avg_cost_usd"))

    by_status = await ask(database, "group_by=status,error_kind&measures=total_requests")
    assert isinstance(by_status.data, list)
    kinds = Counter(
        (request.status, "other" if request.status in (None, "failed", "error") else None)
        for request in sample.REQUESTS
    )
    found = {(row["status"], row["error_kind"]): row["total_requests"] for row in by_status.data}
    assert found == kinds


async def test_filters_and_series_hold_the_same_requests(
    variant: Variant, migrated: MigratedGateway, database_of: OpenDatabase
) -> None:
    database = await database_of(migrated.url)
    one = variant.id("models", 1)
    provider = variant.id("providers", 1)
    for text in (f"model_id={one}", f"provider_id={provider}&model_id={one}", f"model_id={one}&status!=x"):
        assert (await ask(database, f"{text}&measures=total_requests")).data == [{"total_requests": 4}]
    unresolved = await ask(database, "model_id=unresolved&measures=total_requests")
    assert unresolved.data == [{"total_requests": 14}]
    daily = await ask(database, "bucket=1d&start_date=2026-02-28&end_date=2026-03-02&measures=total_requests")
    assert isinstance(daily.data, list)
    days = Counter(
        request.created_at.date().isoformat() for request in sample.REQUESTS if request.created_at is not None
    )
    assert {row["bucket_start"][:10]: row["total_requests"] for row in daily.data} == days


async def test_a_declared_column_is_read_as_text(
    variant: Variant, migrated: MigratedGateway, database_of: OpenDatabase
) -> None:
    database = await database_of(migrated.url)
    column = "user_id" if variant.has_optional_columns else "input_tokens"
    answer = await ask(
        database, f"group_by=who&who={'__null__' if column == 'user_id' else 7}", f"who={column}"
    )
    assert isinstance(answer.data, list)
    [row] = answer.data
    assert (row["who"], row["total_requests"]) == ((None, 26) if column == "user_id" else ("7", 1))
