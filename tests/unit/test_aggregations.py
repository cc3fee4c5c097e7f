"""The catalogue, ids and cache keys."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query, parse_id
from chat_stats.service.catalogue.dimensions import Dimension
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.rows import ModelUsage
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import Series
from chat_stats.service.compute.models import most_requests_first
from chat_stats.service.database import queries
from chat_stats.service.database.rendering import declared
from chat_stats.service.errors import InvalidParameter


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_every_aggregation_has_its_sql_file(name: str) -> None:
    function = AGGREGATIONS[name].function
    assert function in declared().functions()


def test_every_function_file_defines_what_it_is_named_for() -> None:
    texts = [declared().render(name) for name in declared().sql() if name.startswith("functions/")]
    for function, text in zip(declared().functions(), sorted(texts, key=_name_of_function), strict=True):
        assert f"CREATE OR REPLACE FUNCTION stats_schema.{function}(" in text


def _name_of_function(text: str) -> str:
    return re.findall(r"CREATE OR REPLACE FUNCTION stats_schema\.(\w+)\(", text)[0]


def from_usage(name: str, models: list[ModelUsage]) -> Any:
    rows = AGGREGATIONS[name].from_usage
    assert rows is not None
    return rows(models)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_every_aggregation_can_be_computed_without_its_function(name: str) -> None:
    aggregation = AGGREGATIONS[name]
    assert (aggregation.from_usage is None) == (aggregation.plain is not None)
    if aggregation.plain is not None:
        assert queries.load(aggregation.plain).strip()


@pytest.mark.parametrize("name", [name for name, each in AGGREGATIONS.items() if each.from_usage])
def test_every_aggregation_of_usage_gives_no_rows_and_no_error_without_usage(name: str) -> None:
    data = from_usage(name, [])
    assert not any(value for value in (data.values() if isinstance(data, dict) else data))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("7", "7"),
        ("007", "7"),
        ("9223372036854775807", "9223372036854775807"),
        ("6F9619FF-8B86-D011-B42D-00CF4FC964FF", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
        ("6f9619ff8b86d011b42d00cf4fc964ff", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    ],
)
def test_an_id_has_one_canonical_form(text: str, canonical: str) -> None:
    assert parse_id("model_id", text) == canonical


@pytest.mark.parametrize(
    "text", ["", "-1", "9223372036854775808", "1.5", "1 OR 1=1", "٣", "{}", "x" * 500, "1\n"]
)
def test_an_invalid_id_is_refused_with_the_name_of_its_parameter(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_id("provider_id", text)
    assert caught.value.parameter == "provider_id"
    assert len(str(caught.value)) < 250


def test_each_query_has_a_key_of_its_own() -> None:
    ranges = [TimeRange("24h"), TimeRange("all"), TimeRange(None, datetime(2026, 1, 1, tzinfo=UTC))]
    status, user = Dimension("status", "status"), Dimension("user_id", "column", "user_id")
    queries = [
        query
        for range_ in ranges
        for query in (
            Query("models", range_),
            Query("models", range_, provider_id="1"),
            Query("model", range_, model_id="1"),
            Query("counts", range_),
            Query("timeseries", range_),
            Query("timeseries", range_, "1"),
            Query("timeseries", range_, None, "1"),
            Query("timeseries", range_, "1", "1"),
            Query("timeseries", range_, series=Series("1h")),
            Query("timeseries", range_, series=Series(group_by="model")),
            Query("timeseries", range_, series=Series(timezone="Europe/Berlin")),
            Query("models", range_, where=(Filter(status, ("x",)),)),
            Query("models", range_, where=(Filter(status, ("x",), negated=True),)),
            Query("models", range_, where=(Filter(status, (None, "x")),)),
            Query("models", range_, where=(Filter(user, ("x",)),)),
            Query("models", range_, where=(Filter(status, ("x",)), Filter(user, ("x",)))),
        )
    ]
    assert len({query.key() for query in queries}) == len(queries)


def test_the_key_of_a_query_is_what_operators_find_in_redis() -> None:
    key = Query("models", TimeRange("24h"), provider_id="3").key()
    assert re.fullmatch(r"models@[0-9a-f]{8}:24h:provider=3", key)


def test_a_query_with_filters_by_dimension_is_cut_from_no_answer_without_them() -> None:
    where = (Filter(Dimension("status", "status"), ("x",)),)
    query = Query("models", model_id="1", limit=1, where=where)
    assert query.base(kept=True) == Query("models", model_id="1", where=where)
    assert Query("models", where=where).base(kept=True) is None
    assert not Query("models", where=where).is_whole


def usage(model_id: int, **fields: Any) -> ModelUsage:
    return ModelUsage(model_id, f"m{model_id}", f"M{model_id}", None, 1, "P", "p", **fields)


def test_a_mean_is_rounded_half_away_from_zero_as_postgres_does() -> None:
    model = usage(1, total_requests=8, timed_requests=8, total_processing_time_ms=Decimal("1.00"))
    rows = from_usage("models", [model])
    assert rows[0]["stats"]["avg_processing_time_ms"] == 0.13  # 0.125


def test_a_sum_beyond_bigint_is_shown_as_its_limit() -> None:
    model = usage(1, total_requests=2, total_input_tokens=Decimal(2**64))
    rows = from_usage("models", [model])
    assert rows[0]["stats"]["total_tokens"] == 2**63 - 1


def test_rows_come_most_requests_first_and_then_by_id() -> None:
    models = [usage(3, total_requests=1), usage(2, total_requests=5), usage(1, total_requests=1)]
    rows = from_usage("counts", most_requests_first(models))
    assert [row["model_id"] for row in rows] == [2, 1, 3]
