"""The API's answers, for its OpenAPI document. Bodies are rendered by `service.http.envelope` instead."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Id = int | UUID


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ProviderRow(Schema):
    provider_id: Id
    name: str | None
    slug: str | None
    models_with_requests: int = Field(description="Its models that have at least one request.")
    total_requests: int


class Provider(Schema):
    id: Id
    name: str | None
    slug: str | None


def _percentile(number: int) -> Any:
    return Field(
        description=f"Time that {number} % of the requests with one did not exceed, in milliseconds, within "
        "2.5 %; 0 when there are none."
    )


class ModelStats(Schema):
    total_requests: int
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int = Field(description="Input plus output.")
    avg_processing_time_ms: float = Field(
        description="Mean over the requests that have a time, in milliseconds; 0 when there are none."
    )
    p50_processing_time_ms: float = _percentile(50)
    p90_processing_time_ms: float = _percentile(90)
    p95_processing_time_ms: float = _percentile(95)
    p99_processing_time_ms: float = _percentile(99)


class ModelRow(Schema):
    model_id: Id
    model_identifier: str | None
    model_name: str | None
    provider_model_id: str | None
    provider: Provider
    stats: ModelStats


class CountRow(Schema):
    model_id: Id
    model_name: str | None
    model_identifier: str | None
    provider_name: str | None
    provider_slug: str | None
    request_count: int


class Summary(ModelStats):
    successful_requests: int = Field(
        description="Requests whose status is completed, complete, success, successful, succeeded, ok or 200."
    )
    failed_requests: int = Field(description="All other requests.")
    success_rate: float = Field(description="Share of successful requests, from 0 to 1; 0 without requests.")
    total_cost_usd: float


class Point(Schema):
    bucket_start: datetime = Field(description="Start of the bucket, with the offset of the time zone.")
    group_id: Id | None = Field(description="The provider or model; null without grouping.")
    group_name: str | None
    total_requests: int
    failed_requests: int
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int = Field(description="Input plus output.")
    avg_processing_time_ms: float = Field(
        description="Mean over the requests that have a time, in milliseconds; 0 when there are none."
    )
    p50_processing_time_ms: float = _percentile(50)
    p90_processing_time_ms: float = _percentile(90)
    p95_processing_time_ms: float = _percentile(95)
    p99_processing_time_ms: float = _percentile(99)
    total_cost_usd: float


class Metadata(Schema):
    timestamp: datetime = Field(description="When this response was made.")
    computed_at: datetime = Field(description="When its numbers were computed.")
    method: Literal["rpc", "fallback_optimized", "fallback_with_counts", "fallback"]
    cache: Literal["hit", "miss", "stale", "bypass"] = Field(
        description="stale: older than it should be, served anyway. bypass: computed without a cache."
    )
    cache_age_seconds: float
    compute_ms: float = Field(description="What computing the numbers took, in milliseconds.")
    generation: str = Field(
        description="Answers of one generation come from one database snapshot and add up."
    )
    window: str | None = Field(description="The preset window; null when start_date or end_date was given.")
    start_date: datetime | None = Field(None, description="Start of the range, when one was given.")
    end_date: datetime | None = Field(None, description="End of the range (exclusive), when one was given.")
    unavailable: list[str] = Field(description="Fields that this method cannot know; they are 0.")
    precision: Literal["15m"] | None = Field(
        None,
        description="15m: an edge of the range lies within 15 minutes (by the clock, in UTC) of which "
        "requests were purged; these count as a whole if they begin in the range. Absent: it is exact.",
    )


class ProvidersMetadata(Metadata):
    total_providers: int


class ModelsMetadata(Metadata):
    total_models: int


class CountsMetadata(ModelsMetadata):
    total_requests: int


class TimeseriesMetadata(Metadata):
    bucket: Literal["15m", "1h", "1d", "1w", "1mo"]
    timezone: str
    group_by: Literal["none", "provider", "model"]


def _example(data: Any, **totals: int | str) -> ConfigDict:
    """Return the configuration of an answer, with an example of it for the documentation."""
    metadata: dict[str, Any] = {
        **totals,
        "timestamp": "2026-01-04T12:00:12.300000Z",
        "method": "rpc",
        "cache": "hit",
        "cache_age_seconds": 12.3,
        "computed_at": "2026-01-04T12:00:00.000000Z",
        "compute_ms": 3.1,
        "generation": "20260104T120000.000000Z-3f9a1c",
        "window": "all",
        "unavailable": [],
    }
    return ConfigDict(json_schema_extra={"examples": [{"success": True, "data": data, "metadata": metadata}]})


_PERCENTILES = {
    "p50_processing_time_ms": 640.98,
    "p90_processing_time_ms": 1642.71,
    "p95_processing_time_ms": 2247.91,
    "p99_processing_time_ms": 4209.91,
}
_STATS = {
    "total_requests": 1204,
    "total_input_tokens": 2465000,
    "total_output_tokens": 188300,
    "total_tokens": 2653300,
    "avg_processing_time_ms": 812.45,
    **_PERCENTILES,
}
_MODEL = {
    "model_id": 7,
    "model_identifier": "gpt-4o-mini",
    "model_name": "GPT-4o mini",
    "provider_model_id": "openai/gpt-4o-mini",
    "provider": {"id": 1, "name": "OpenAI", "slug": "openai"},
    "stats": _STATS,
}
_PROVIDER = {
    "provider_id": 1,
    "name": "OpenAI",
    "slug": "openai",
    "models_with_requests": 1,
    "total_requests": 1204,
}
_COUNT = {
    "model_id": 7,
    "model_name": "GPT-4o mini",
    "model_identifier": "gpt-4o-mini",
    "provider_name": "OpenAI",
    "provider_slug": "openai",
    "request_count": 1204,
}
_SUMMARY = {
    **_STATS,
    "successful_requests": 1180,
    "failed_requests": 24,
    "success_rate": 0.9801,
    "total_cost_usd": 4.83,
}


_POINT = {
    "bucket_start": "2026-01-04T00:00:00+01:00",
    "group_id": 7,
    "group_name": "GPT-4o mini",
    "total_requests": 1204,
    "failed_requests": 24,
    "total_input_tokens": 2465000,
    "total_output_tokens": 188300,
    "total_tokens": 2653300,
    "avg_processing_time_ms": 812.45,
    **_PERCENTILES,
    "total_cost_usd": 4.83,
}


class ProvidersAnswer(Schema):
    model_config = _example([_PROVIDER], total_providers=1)

    success: Literal[True]
    data: list[ProviderRow]
    metadata: ProvidersMetadata


class ModelsAnswer(Schema):
    model_config = _example([_MODEL], total_models=1)

    success: Literal[True]
    data: list[ModelRow]
    metadata: ModelsMetadata


class ModelAnswer(Schema):
    model_config = _example(_MODEL)

    success: Literal[True]
    data: ModelRow
    metadata: Metadata


class CountsAnswer(Schema):
    model_config = _example([_COUNT], total_models=1, total_requests=1204)

    success: Literal[True]
    data: list[CountRow]
    metadata: CountsMetadata


class SummaryAnswer(Schema):
    model_config = _example(_SUMMARY)

    success: Literal[True]
    data: Summary
    metadata: Metadata


class TimeseriesAnswer(Schema):
    model_config = _example([_POINT], bucket="1d", timezone="Europe/Berlin", group_by="model")

    success: Literal[True]
    data: list[Point]
    metadata: TimeseriesMetadata


class Problem(BaseModel):
    """An error, as application/problem+json (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Invalid parameter",
                    "status": 422,
                    "detail": "unknown window '1y'; known: 1h, 24h, 7d, 30d, 90d, 180d, 365d, all",
                    "success": False,
                    "parameter": "window",
                    "request_id": "9f8e7d6c5b4a3921",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    success: Literal[False] = False
    parameter: str | None = Field(None, description="The parameter that was wrong, if one was.")
    request_id: str | None = Field(None, description="The request's id, which the log has too.")


#: Name of the error's schema in the OpenAPI document, where `service.http.openapi` puts it.
PROBLEM = "Problem"


def problem(description: str) -> dict[str, Any]:
    """Return an error's entry in the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{PROBLEM}"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


class RefreshJob(Schema):
    job_id: str
    status: Literal["queued", "complete"]
    report: dict[str, Any] | None = Field(None, description="What the refresh did, when it was waited for.")


class RefreshAnswer(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "data": {
                        "job_id": "0d702160847e4cd6b8ba4aeda3f7c9a1",
                        "status": "complete",
                        "report": {
                            "generation": "20260104T120000.000000Z-3f9a1c",
                            "computed_at": "2026-01-04T12:00:00+00:00",
                            "results": [
                                {
                                    "aggregation": "counts",
                                    "window": "all",
                                    "method": "rpc",
                                    "rows": 42,
                                    "compute_ms": 3.1,
                                    "error": None,
                                }
                            ],
                            "entries": 57,
                            "duration_ms": 41.2,
                            "published": True,
                        },
                    },
                }
            ]
        }
    )

    success: Literal[True]
    data: RefreshJob


class Component(Schema):
    ok: bool
    detail: str | None = None


class LastRefresh(Schema):
    generation: str
    computed_at: datetime
    age_seconds: float
    duration_ms: float
    entries: int
    failed: int = Field(description="Aggregations that could not be computed in time.")


class Readiness(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "degraded",
                    "redis": {"ok": True, "detail": None},
                    "postgres": {"ok": True, "detail": None},
                    "worker": {"ok": False, "detail": "no worker has reported lately"},
                    "rollup": {"ok": True, "detail": "on"},
                    "last_refresh": {
                        "generation": "20260104T120000.000000Z-3f9a1c",
                        "computed_at": "2026-01-04T12:00:00.000000Z",
                        "age_seconds": 312.3,
                        "duration_ms": 41.2,
                        "entries": 57,
                        "failed": 0,
                    },
                }
            ]
        }
    )

    status: Literal["ready", "degraded", "unavailable"] = Field(
        description="degraded: it answers, but something is down or late."
    )
    redis: Component
    postgres: Component
    worker: Component
    rollup: Component = Field(
        description="What state the rollup is in and why: off, backfilling, on, or damaged, which is not ok."
    )
    last_refresh: LastRefresh | None


class Health(Schema):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]
