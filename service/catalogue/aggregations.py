"""The catalogue: each aggregation declared once. Route, cache key, refresh and CLI follow from it.

Each stands beside the schema of its rows, an example of one for the OpenAPI document, and the metadata
beside the common fields. A refresh computes them in this order: `models` first, whose scan gives `summary`
its percentiles.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from chat_stats.service.catalogue import schemas
from chat_stats.service.catalogue.aggregation import (
    AGGREGATIONS,
    Aggregation,
    Query,
    Totals,
    key_names,
    parse_id,
    parse_order_by,
    register,
)
from chat_stats.service.catalogue.rows import (
    NOTHING_UNRESOLVED,
    UNRESOLVED,
    Row,
    count_of_model,
    counts_from_usage,
    models_from_usage,
    provider_of_model,
    providers_from_usage,
    stats_row,
    summary_from_usage,
    wants_model,
)
from chat_stats.service.catalogue.schemas import Id, Metadata, RowsMetadata, Schema, Stats, percentile

__all__ = ["AGGREGATIONS", "Aggregation", "Query", "Totals", "key_names", "parse_id", "parse_order_by"]


def _of_one(query: Query) -> str | None:
    """Return from what answers of one model, or else one provider, are cut: percentiles do not add up."""
    if query.model_name is not None or query.model_id == UNRESOLVED:
        return None
    return "providers" if query.model_id is None else "models"


def _select_models(query: Query, rows: list[Row]) -> list[Row]:
    """Return the rows of `models` that the filters of a query want."""
    return [row for row in rows if wants_model(row, query.provider_id, query.model_id, query.model_name)]


_PERCENTILES = {
    "p50_processing_time_ms": 640.98,
    "p90_processing_time_ms": 1642.71,
    "p95_processing_time_ms": 2247.91,
    "p99_processing_time_ms": 4209.91,
}

_STATS = {
    "total_requests": 1204,
    "successful_requests": 1180,
    "failed_requests": 24,
    "pending_requests": 0,
    "success_rate": 0.9801,
    "total_input_tokens": 2465000,
    "total_output_tokens": 188300,
    "total_tokens": 2653300,
    "avg_processing_time_ms": 812.45,
    **_PERCENTILES,
    "total_cost_usd": 4.83,
}

_OF_ROWS: Totals = {
    "unresolved_requests": 3,
    "unresolved_failed_requests": 3,
    "next_cursor": "WyItdG90YWxfcmVxdWVzdHMiLDEyMDQsIjciXQ",
}


class ProviderRow(Stats):
    provider_id: Id
    name: str | None
    slug: str | None
    models_with_requests: int = Field(description="Its models that have at least one request.")


class ProvidersMetadata(RowsMetadata):
    total_providers: int


_PROVIDER = {
    "provider_id": 1,
    "name": "OpenAI",
    "slug": "openai",
    "models_with_requests": 1,
    **_STATS,
}


def _select_providers(query: Query, rows: list[Row]) -> list[Row]:
    """Select from the rows of `providers`, or from those of `models` when a model is asked for."""
    if query.model_id is not None:
        return [provider_of_model(row) for row in _select_models(query, rows)]
    return [row for row in rows if str(row["provider_id"]) == query.provider_id]


PROVIDERS = register(
    Aggregation(
        name="providers",
        purpose="Requests of each provider that has any, most first.",
        path="/chat-requests/providers",
        function="get_provider_request_stats",
        data=list[ProviderRow],
        example=([_PROVIDER], {"total_providers": 1, **_OF_ROWS}),
        from_usage=providers_from_usage,
        metadata=ProvidersMetadata,
        totals=lambda rows: {"total_providers": len(rows)},
        percentiles_by="provider",
        cut_from=_of_one,
        select=_select_providers,
    )
)


class ModelsMetadata(RowsMetadata):
    total_models: int


_MODEL = {
    "model_id": 7,
    "model_identifier": "gpt-4o-mini",
    "model_name": "GPT-4o mini",
    "provider_model_id": "openai/gpt-4o-mini",
    "provider": {"id": 1, "name": "OpenAI", "slug": "openai"},
    "stats": _STATS,
}

MODELS = register(
    Aggregation(
        name="models",
        purpose="Models that have requests, with their provider and statistics, most requests first.",
        path="/chat-requests/models",
        function="get_models_with_requests",
        data=list[schemas.ModelRow],
        example=([_MODEL], {"total_models": 1, **_OF_ROWS}),
        narrowed_call=(
            "SELECT * FROM stats_schema.get_models_with_requests_by_provider("
            "(SELECT id FROM gateway_schema.providers WHERE id::text = $3), $1::timestamptz, $2::timestamptz)"
        ),
        from_usage=models_from_usage,
        metadata=ModelsMetadata,
        totals=lambda rows: {"total_models": len(rows)},
        cut_from=lambda _: "models",
        select=_select_models,
        narrowed_by="provider_id",
        percentiles_by="model",
    )
)

#: The row of one model; `service.compute` makes that of one without requests.
MODEL = register(
    Aggregation(
        name="model",
        purpose="One model with its provider and statistics.",
        path="/chat-requests/models/{model_id}",
        function="get_model_request_stats",
        data=schemas.ModelRow,
        example=(_MODEL, {}),
        narrowed_call=(
            "SELECT * FROM stats_schema.get_model_request_stats("
            "(SELECT id FROM gateway_schema.models WHERE id::text = $3), $1::timestamptz, $2::timestamptz)"
        ),
        from_usage=lambda models: next(iter(models_from_usage(models)), {}),
        cut_from=lambda _: "models",
        # That it has no row may mean that it has no requests, or that it does not exist.
        select=lambda query, rows: next(iter(_select_models(query, rows)), None),
        narrowed_by="model_id",
        percentiles_by="model",
    )
)


class CountRow(Schema):
    model_id: Id
    model_name: str | None
    model_identifier: str | None
    provider_name: str | None
    provider_slug: str | None
    request_count: int


class CountsMetadata(ModelsMetadata):
    total_requests: int


_COUNT = {
    "model_id": 7,
    "model_name": "GPT-4o mini",
    "model_identifier": "gpt-4o-mini",
    "provider_name": "OpenAI",
    "provider_slug": "openai",
    "request_count": 1204,
}

COUNTS = register(
    Aggregation(
        name="counts",
        purpose="Number of requests of each model that has any, most first.",
        path="/chat-requests/counts",
        function="get_model_request_counts",
        data=list[CountRow],
        example=([_COUNT], {"total_models": 1, "total_requests": 1204, **_OF_ROWS}),
        from_usage=counts_from_usage,
        metadata=CountsMetadata,
        totals=lambda rows: {
            "total_models": len(rows),
            "total_requests": sum(row["request_count"] for row in rows),
        },
        cut_from=lambda _: "models",
        select=lambda query, rows: [count_of_model(row) for row in _select_models(query, rows)],
    )
)


def _select_summary(query: Query, rows: list[Row]) -> Row:
    """Select the statistics of one provider or model from the rows of `providers` or `models`."""
    if query.model_id is None:
        row = next((row for row in rows if str(row["provider_id"]) == query.provider_id), {})
    else:
        row = next((row["stats"] for row in _select_models(query, rows)), {})
    return {name: row.get(name, zero) for name, zero in stats_row(NOTHING_UNRESOLVED).items()}


SUMMARY = register(
    Aggregation(
        name="summary",
        purpose="Totals of all requests: successes, failures, tokens, times with percentiles, cost.",
        path="/chat-requests/summary",
        function="get_chat_request_summary",
        data=Stats,
        example=(_STATS, {}),
        from_usage=summary_from_usage,
        of_all_requests=True,
        of_each_model=False,
        percentiles_by="none",
        cut_from=_of_one,
        select=_select_summary,
    )
)


class Point(Schema):
    bucket_start: datetime = Field(description="Start of the bucket, with the offset of the time zone.")
    group_id: Id | str | None = Field(
        description="The provider or model, or `unresolved`: without one that exists. Of another "
        "dimension: its value, null for requests without one. Null without grouping."
    )
    group_name: str | None = Field(description="Name of the provider or model; else as group_id.")
    total_requests: int
    failed_requests: int
    pending_requests: int
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int = Field(description="Input plus output.")
    avg_processing_time_ms: float = Field(
        description="Mean over the requests that have a time, in milliseconds; 0 when there are none."
    )
    p50_processing_time_ms: float = percentile(50)
    p90_processing_time_ms: float = percentile(90)
    p95_processing_time_ms: float = percentile(95)
    p99_processing_time_ms: float = percentile(99)
    total_cost_usd: float


class TimeseriesMetadata(Metadata):
    bucket: Literal["15m", "1h", "1d", "1w", "1mo"]
    timezone: str
    group_by: str = Field(description="`none`, `provider`, `model`, or the name of another dimension.")


_POINT = {
    "bucket_start": "2026-01-04T00:00:00+01:00",
    "group_id": 7,
    "group_name": "GPT-4o mini",
    "total_requests": 1204,
    "failed_requests": 24,
    "pending_requests": 0,
    "total_input_tokens": 2465000,
    "total_output_tokens": 188300,
    "total_tokens": 2653300,
    "avg_processing_time_ms": 812.45,
    **_PERCENTILES,
    "total_cost_usd": 4.83,
}

TIMESERIES = register(
    Aggregation(
        name="timeseries",
        purpose="Requests, failures, tokens, times and cost by intervals of a time zone's calendar.",
        path="/chat-requests/timeseries",
        function="get_chat_request_timeseries",
        data=list[Point],
        example=([_POINT], {"bucket": "1d", "timezone": "Europe/Berlin", "group_by": "model"}),
        call=(
            "SELECT * FROM stats_schema.get_chat_request_timeseries($3::text, $4::text, $5::text, "
            "$1::timestamptz, $2::timestamptz, $6::text, $7::text, $8::text) LIMIT $9"
        ),
        from_usage=None,
        plain="timeseries",
        is_series=True,
        # There are too many buckets, groups and time zones to compute them ahead.
        kept_computed=False,
        metadata=TimeseriesMetadata,
    )
)
