"""The answers about single requests, for the OpenAPI document."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from chat_stats.service.catalogue.schemas import CONSISTENCY, CacheState, Id, Method, Provider, Schema


class RequestModel(Schema):
    id: Id
    model_id: str | None = Field(description="Column `model_id` of the models; null where it is missing.")
    model_name: str | None
    model_identifier: str | None
    provider_model_id: str | None
    provider_id: Id
    providers: Provider


class FurtherColumns(Schema):
    """Columns that only some gateways have, typed as in their table: any others than these too."""

    model_config = ConfigDict(extra="allow")

    api_key_id: Any = None
    is_anonymous: Any = None
    metadata: Any = None
    input_cost_usd: Any = None
    output_cost_usd: Any = None


class RequestRow(FurtherColumns):
    id: Id
    request_id: str | None
    model_id: Id | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int = Field(description="Input plus output; what is not known counts as 0.")
    processing_time_ms: float | None
    status: str | None
    error_message: str | None
    user_id: str | None
    cost_usd: float | None
    created_at: datetime | None = Field(
        description="Null also where it is infinite, before year 1 or after 9999."
    )
    models: RequestModel | None = Field(description="Null with `model_id=unresolved`.")


class ChosenRow(FurtherColumns):
    """A row with the columns of `fields=`, in that order."""

    id: Id | None = None
    request_id: str | None = None
    model_id: Id | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    processing_time_ms: float | None = None
    status: str | None = None
    error_message: str | None = None
    user_id: str | None = None
    cost_usd: float | None = None
    created_at: datetime | None = None
    model_name: str | None = None
    model_identifier: str | None = None
    provider_model_id: str | None = None
    provider_id: Id | None = None
    provider_name: str | None = None
    provider_slug: str | None = None
    models: RequestModel | None = None


class RequestFilters(Schema):
    """The filters as they were understood; null: none."""

    model_id: str | None
    provider_id: str | None
    model_name: str | None
    status: str | None
    window: str | None
    start_date: datetime | None
    end_date: datetime | None
    dimensions: dict[str, list[str]] = Field(
        description="All other filters by dimension, with a `!` after the name of those that exclude values."
    )


class CommonMetadata(Schema):
    total_count: int | None = Field(
        description="All requests that the filters mean; null when counting took too long. A count that was "
        "costly is kept for a while, at most a minute."
    )
    returned_count: int
    filters: RequestFilters
    timestamp: datetime = Field(description="When this response was made.")
    computed_at: datetime = Field(description="When the requests were read.")
    method: Method = Field(
        description="How total_count was found: rpc, from the rollup's totals; query, by counting."
    )
    cache: CacheState
    cache_age_seconds: float
    compute_ms: float
    generation: str | None = Field(description="Null: single requests belong to no refresh.")
    window: str | None
    start_date: datetime | None = None
    end_date: datetime | None = None
    unavailable: list[str] = Field(description="Fields that could not be known; they are null.")
    consistency: Literal["shard"] | None = CONSISTENCY


class RequestsMetadata(CommonMetadata):
    limit: int
    offset: int
    next_cursor: str | None = Field(description="For the next page; null when this is the last one.")


class Sampling(Schema):
    method: Literal["all", "time_slots"] = Field(
        description="all: every request is a point. time_slots: the first `per_slot` requests of slots of "
        "time, which are narrower where more happened; slots that had fewer are complete."
    )
    points: int
    max_points: int
    per_slot: int | None


class PlotMetadata(CommonMetadata):
    recent_count: int
    compression: Literal["arrays"]
    format_version: Literal["1.0"]
    sampling: Sampling


class PlotArrays(Schema):
    """Aligned: the same place in each is the same request. Oldest first."""

    tokens: list[int] = Field(description="Input plus output tokens.")
    latency: list[float | None] = Field(description="Milliseconds; null where the request has no time.")
    timestamps: list[datetime | None]


class PlotParts(Schema):
    recent_requests: list[RequestRow] = Field(description="The last 10, newest first.")
    plot_data: PlotArrays


_ROW: dict[str, Any] = {
    "id": 4711,
    "request_id": "req-8f3c",
    "model_id": 7,
    "input_tokens": 1200,
    "output_tokens": 140,
    "total_tokens": 1340,
    "processing_time_ms": 812.45,
    "status": "completed",
    "error_message": None,
    "user_id": "user-12",
    "cost_usd": 0.0057,
    "created_at": "2026-01-04T11:59:58.120000Z",
    "models": {
        "id": 7,
        "model_id": "gpt-4o-mini",
        "model_name": "GPT-4o mini",
        "model_identifier": "gpt-4o-mini",
        "provider_model_id": "openai/gpt-4o-mini",
        "provider_id": 1,
        "providers": {"id": 1, "name": "OpenAI", "slug": "openai"},
    },
}
_FILTERS: dict[str, Any] = {
    "model_id": "7",
    "provider_id": None,
    "model_name": None,
    "status": None,
    "window": "all",
    "start_date": None,
    "end_date": None,
    "dimensions": {},
}
_COMMON: dict[str, Any] = {
    "filters": _FILTERS,
    "timestamp": "2026-01-04T12:00:00.300000Z",
    "method": "rpc",
    "cache_age_seconds": 0.0,
    "computed_at": "2026-01-04T12:00:00.293000Z",
    "compute_ms": 6.1,
    "generation": None,
    "window": "all",
    "unavailable": [],
}
_ARRAYS: dict[str, Any] = {
    "tokens": [1340],
    "latency": [812.45],
    "timestamps": ["2026-01-04T11:59:58.120000Z"],
}


class RequestsAnswer(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "data": [_ROW],
                    "metadata": {
                        "total_count": 1204,
                        "returned_count": 1,
                        "limit": 1,
                        "offset": 0,
                        "next_cursor": "kW3vT1x9d0lmWyIyMDI2...",
                        "cache": "bypass",
                        **_COMMON,
                    },
                }
            ]
        }
    )

    success: Literal[True]
    data: list[RequestRow | ChosenRow]
    metadata: RequestsMetadata


class PlotAnswer(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "data": {"recent_requests": [_ROW], "plot_data": _ARRAYS},
                    "recent_requests": [_ROW],
                    "plot_data": _ARRAYS,
                    "metadata": {
                        "recent_count": 1,
                        "total_count": 1,
                        "returned_count": 1,
                        "compression": "arrays",
                        "format_version": "1.0",
                        "sampling": {"method": "all", "points": 1, "max_points": 2000, "per_slot": None},
                        "cache": "miss",
                        **_COMMON,
                    },
                }
            ]
        }
    )

    success: Literal[True]
    data: PlotParts
    recent_requests: list[RequestRow] = Field(description="As in `data`, for older clients.")
    plot_data: PlotArrays = Field(description="As in `data`, for older clients.")
    metadata: PlotMetadata
