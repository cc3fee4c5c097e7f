"""The catalogue: each aggregation declared once. Route, cache key, refresh and CLI follow from it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from service.catalogue import schemas
from service.catalogue.rows import (
    COST_FIELDS,
    SERIES_COLUMNS,
    SUCCESS_FIELDS,
    TOKEN_AND_TIME_FIELDS,
    Data,
    ModelUsage,
    Row,
    add_percentiles,
    counts_from_usage,
    model_row,
    models_from_rpc,
    models_from_usage,
    plain_row,
    plain_rows,
    providers_from_usage,
    series_points,
    stats_row,
    summary_from_usage,
)
from service.catalogue.timerange import TimeRange
from service.catalogue.timeseries import DEFAULT_SERIES, MAX_POINTS, Series
from service.errors import InvalidParameter

Totals = dict[str, int | str]
Argument = str | int | None


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: one aggregation over one time range, narrowed to a provider and/or a model."""

    aggregation: str
    range: TimeRange = TimeRange()
    provider_id: str | None = None
    model_id: str | None = None
    #: How it is cut, if it is a time series.
    series: Series = DEFAULT_SERIES

    def key(self) -> str:
        """Return the part of the cache key that tells this query from every other."""
        key = f"{self.aggregation}:{self.range.key()}"
        if AGGREGATIONS[self.aggregation].is_series:
            key += f":{self.series.key()}"
        if self.provider_id is not None:
            key += f":provider={self.provider_id}"
        if self.model_id is not None:
            key += f":model={self.model_id}"
        return key

    def metadata(self, data: Data) -> "Totals":
        """Return the answer's metadata beside the common fields."""
        aggregation = AGGREGATIONS[self.aggregation]
        if aggregation.is_series:
            series = self.series
            return {"bucket": series.bucket, "timezone": series.timezone, "group_by": series.group_by}
        return aggregation.totals(data)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One declared statistic."""

    name: str
    #: One line for the API's and the command line's documentation.
    purpose: str
    #: Below /api/monitoring.
    path: str
    answer: type[BaseModel]
    function: str
    #: The RPC statement. $1, $2: the time range; $3: the provider's or model's id as text, if narrowed.
    call: str
    #: What the function returns; other columns mean that it is somebody else's.
    columns: tuple[str, ...]
    narrowed_call: str | None
    #: From the function's rows, with NULL where a number cannot be known.
    from_rpc: Callable[[Sequence[Mapping[str, Any]]], Data]
    #: From usage per model; None: it cannot be made from that, still less from counts.
    from_usage: Callable[[Sequence[ModelUsage]], Data] | None
    #: Then: the statement of `service/database/queries` that returns what the function does, for the same
    #: arguments.
    plain: str | None = None
    #: Metadata beside the common fields.
    totals: Callable[[Any], Totals] = lambda _data: {}
    narrowed_by: Literal["provider_id", "model_id"] | None = None
    #: What its percentiles are grouped by; None: it has none, or its function returns them itself.
    percentiles_by: Literal["none", "model"] | None = None
    #: Fields that a method which only counts requests cannot know.
    unknown_from_counts: tuple[str, ...] = ()
    #: Whether it has a `bucket`, a grouping and a time zone (`Query.series`); then it may be narrowed by both
    #: ids, and its rows are made by `service.catalogue.rows.series_points`.
    is_series: bool = False
    #: Whether the worker keeps it computed; else it does so only when asked for it by name.
    kept_computed: bool = True

    def rpc(self, query: Query) -> tuple[str, tuple[Argument, ...]]:
        """Return the statement for `query` and its arguments after the time range."""
        if self.is_series:
            return self.call, series_arguments(query)
        narrowed = query.model_id if query.provider_id is None else query.provider_id
        if narrowed is None:
            return self.call, ()
        assert self.narrowed_call is not None, f"{self.name} cannot be narrowed"
        return self.narrowed_call, (narrowed,)

    def data(self, query: Query, records: Sequence[Mapping[str, Any]]) -> Data:
        """Return the answer to `query` that the function's rows hold."""
        return series_points(records, query.series.zone) if self.is_series else self.from_rpc(records)


def series_arguments(query: Query) -> tuple[Argument, ...]:
    """Return the arguments after the time range of the statements for a time series."""
    series = query.series
    # One row more than there may be, to see that there are too many.
    limit = MAX_POINTS + 1
    return series.bucket, series.group_by, series.timezone, query.provider_id, query.model_id, limit


def parse_id(parameter: str, text: str) -> str:
    """Return the canonical text of an id: a whole number from 0 to 2^63 - 1, or a UUID."""
    if re.fullmatch(r"[0-9]{1,30}", text) and int(text) < 2**63:
        return str(int(text))
    if re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", text):
        return str(UUID(text))
    raise InvalidParameter(
        parameter, f"{parameter} {text[:60]!r} is neither a whole number from 0 to {2**63 - 1} nor a UUID"
    )


PROVIDERS = Aggregation(
    name="providers",
    purpose="Requests of each provider that has any, most first.",
    path="/chat-requests/providers",
    answer=schemas.ProvidersAnswer,
    function="get_provider_request_stats",
    call="SELECT * FROM stats_schema.get_provider_request_stats($1::timestamptz, $2::timestamptz)",
    columns=("provider_id", "name", "slug", "models_with_requests", "total_requests"),
    narrowed_call=None,
    from_rpc=plain_rows,
    from_usage=providers_from_usage,
    totals=lambda rows: {"total_providers": len(rows)},
)

MODELS = Aggregation(
    name="models",
    purpose="Models that have requests, with their provider and statistics, most requests first.",
    path="/chat-requests/models",
    answer=schemas.ModelsAnswer,
    function="get_models_with_requests",
    call="SELECT * FROM stats_schema.get_models_with_requests($1::timestamptz, $2::timestamptz)",
    columns=("model_id", "model_identifier", "model_name", "provider_model_id", "provider", "stats"),
    narrowed_call=(
        "SELECT * FROM stats_schema.get_models_with_requests_by_provider("
        "(SELECT id FROM gateway_schema.providers WHERE id::text = $3), $1::timestamptz, $2::timestamptz)"
    ),
    from_rpc=models_from_rpc,
    from_usage=models_from_usage,
    totals=lambda rows: {"total_models": len(rows)},
    narrowed_by="provider_id",
    percentiles_by="model",
    unknown_from_counts=TOKEN_AND_TIME_FIELDS,
)

COUNTS = Aggregation(
    name="counts",
    purpose="Number of requests of each model that has any, most first.",
    path="/chat-requests/counts",
    answer=schemas.CountsAnswer,
    function="get_model_request_counts",
    call="SELECT * FROM stats_schema.get_model_request_counts($1::timestamptz, $2::timestamptz)",
    columns=("model_id", "model_name", "model_identifier", "provider_name", "provider_slug", "request_count"),
    narrowed_call=None,
    from_rpc=plain_rows,
    from_usage=counts_from_usage,
    totals=lambda rows: {
        "total_models": len(rows),
        "total_requests": sum(row["request_count"] for row in rows),
    },
)

SUMMARY = Aggregation(
    name="summary",
    purpose="Totals over all models: requests, success rate, tokens, times with percentiles, cost.",
    path="/chat-requests/summary",
    answer=schemas.SummaryAnswer,
    function="get_chat_request_summary",
    call="SELECT * FROM stats_schema.get_chat_request_summary($1::timestamptz, $2::timestamptz)",
    columns=("total_requests", *SUCCESS_FIELDS, *TOKEN_AND_TIME_FIELDS, *COST_FIELDS),
    narrowed_call=None,
    from_rpc=plain_row,
    from_usage=summary_from_usage,
    percentiles_by="none",
    unknown_from_counts=(*SUCCESS_FIELDS, *TOKEN_AND_TIME_FIELDS, *COST_FIELDS),
)

#: Statistics of one model. Its rows hold the statistics alone; `service.compute` adds who the model is.
MODEL = Aggregation(
    name="model",
    purpose="One model with its provider and statistics.",
    path="/chat-requests/models/{model_id}",
    answer=schemas.ModelAnswer,
    function="get_model_request_stats",
    call="",
    columns=("total_requests", *TOKEN_AND_TIME_FIELDS),
    narrowed_call=(
        "SELECT * FROM stats_schema.get_model_request_stats("
        "(SELECT id FROM gateway_schema.models WHERE id::text = $3), $1::timestamptz, $2::timestamptz)"
    ),
    from_rpc=plain_row,
    from_usage=lambda models: stats_row(models[0]) if models else {},
    narrowed_by="model_id",
    percentiles_by="model",
    unknown_from_counts=TOKEN_AND_TIME_FIELDS,
)

TIMESERIES = Aggregation(
    name="timeseries",
    purpose="Requests, failures, tokens, times and cost by intervals of a time zone's calendar.",
    path="/chat-requests/timeseries",
    answer=schemas.TimeseriesAnswer,
    function="get_chat_request_timeseries",
    call=(
        "SELECT * FROM stats_schema.get_chat_request_timeseries($3::text, $4::text, $5::text, "
        "$1::timestamptz, $2::timestamptz, $6::text, $7::text) LIMIT $8"
    ),
    columns=SERIES_COLUMNS,
    narrowed_call=None,
    from_rpc=plain_rows,
    from_usage=None,
    plain="timeseries",
    is_series=True,
    # Which buckets, groups and time zones somebody will look at, nobody knows.
    kept_computed=False,
)

AGGREGATIONS = {
    aggregation.name: aggregation for aggregation in (PROVIDERS, MODELS, COUNTS, SUMMARY, TIMESERIES, MODEL)
}


def narrowed(
    range_: TimeRange, rows: list[Row], known: list[ModelUsage], providers: list[str]
) -> dict[Query, Data]:
    """Take from the full `models` rows the answer for each provider and for each model that exists."""
    derived: dict[Query, Data] = {}
    for provider_id in providers:
        derived[Query(MODELS.name, range_, provider_id=provider_id)] = [
            row for row in rows if str(row["provider"]["id"]) == provider_id
        ]
    by_model = {row["model_id"]: row for row in rows}
    for model in known:
        row = by_model.get(model.model_id) or add_percentiles(model_row(model), {})
        derived[Query(MODEL.name, range_, model_id=str(model.model_id))] = row
    return derived
