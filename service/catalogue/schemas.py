"""The API's answers, for its OpenAPI document. Bodies are rendered by `service.http.envelope` instead."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

Id = int | UUID
Method = Literal["rpc", "fallback_optimized", "fallback_with_counts", "fallback", "query"]
CacheState = Literal["hit", "miss", "stale", "bypass"]


CONSISTENCY: Any = Field(
    None,
    description="shard: Citus holds the requests. The numbers of each of its shards, and so of each model "
    "where the requests are distributed by model, are those of one moment; a transaction that wrote to "
    "several shards may be counted on some of them only. Absent: all numbers are those of one moment.",
)


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Provider(Schema):
    id: Id
    name: str | None
    slug: str | None


def percentile(number: int) -> Any:
    return Field(
        description=f"Time that {number} % of the requests with one did not exceed, in milliseconds, within "
        "2.5 %; 0 when there are none."
    )


class Stats(Schema):
    total_requests: int
    successful_requests: int = Field(
        description="Requests whose status is one of `CHAT_STATS_SUCCESS_STATUSES`."
    )
    failed_requests: int = Field(description="Requests that neither succeeded nor are pending.")
    pending_requests: int = Field(
        description="Requests whose status is one of `CHAT_STATS_PENDING_STATUSES`."
    )
    success_rate: float = Field(description="Share of successful requests, from 0 to 1; 0 without requests.")
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


class ModelRow(Schema):
    model_id: Id
    model_identifier: str | None
    model_name: str | None
    provider_model_id: str | None
    provider: Provider
    stats: Stats


class Metadata(Schema):
    timestamp: datetime = Field(description="When this response was made.")
    computed_at: datetime = Field(description="When its numbers were computed.")
    method: Method = Field(
        description="How the numbers were computed; query: by one statement over the requests, since no "
        "function knows the dimensions."
    )
    cache: CacheState = Field(
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
    source: str | None = Field(
        None,
        description="Of answers by dimensions: `rollup:` and the name of the rollup that the figures come "
        "from; or `scan`.",
    )
    incomplete_before: datetime | None = Field(
        None,
        description="Not null: some requests of the range before this moment were purged, and no rollup has "
        "the dimensions; the figures lack them. Of answers by dimensions alone.",
    )
    suggested_rollup: str | None = Field(
        None,
        description="Of a scan: the command that adds a rollup for such requests; null: there is one, or "
        "none can be. Of answers by dimensions alone.",
    )
    precision: Literal["15m"] | None = Field(
        None,
        description="15m: an edge of the range lies within 15 minutes (by the clock, in UTC) of which "
        "requests were purged; these count as a whole if they begin in the range. Absent: it is exact.",
    )
    consistency: Literal["shard"] | None = CONSISTENCY


class RowsMetadata(Metadata):
    """Of rows by model or provider, which with these are all requests of the range."""

    unresolved_requests: int = Field(
        description="Requests without a model and provider that exist: they are in no row. 0 where filters "
        "do not want them."
    )
    unresolved_failed_requests: int = Field(description="Those of them that failed.")
    next_cursor: str | None = Field(description="For the next rows; null when these are the last.")


def answer(
    name: str, data: Any, metadata: type[Metadata], example: Any, totals: Mapping[str, int | str]
) -> type[BaseModel]:
    """Return the schema of an answer with this `data` and metadata, and with an example of both."""
    common = {
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
    whole = {"success": True, "data": example, "metadata": {**totals, **common}}
    config = ConfigDict(**Schema.model_config, json_schema_extra={"examples": [whole]})
    return create_model(
        name, __config__=config, success=(Literal[True], ...), data=(data, ...), metadata=(metadata, ...)
    )


def shape(model: type[BaseModel]) -> Any:
    """Return the fields of an answer that an entry holds: names and types, without what documents them."""
    schema = model.model_json_schema()
    shape = _shape(schema, schema["$defs"])
    for common in Metadata.model_fields:
        del shape["properties"]["metadata"]["properties"][common]
    return shape


def _shape(part: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in part:
        return _shape(definitions[part["$ref"].rpartition("/")[2]], definitions)
    shape = {name: part[name] for name in ("type", "format", "enum", "const") if name in part}
    if "properties" in part:
        shape["properties"] = {name: _shape(each, definitions) for name, each in part["properties"].items()}
    if "items" in part:
        shape["items"] = _shape(part["items"], definitions)
    if "anyOf" in part:
        shape["anyOf"] = [_shape(each, definitions) for each in part["anyOf"]]
    return shape


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


class Standby(Component):
    lag_seconds: float | None = Field(None, description="Seconds by which it is behind; null: unknown.")


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
                    "standbys": [{"ok": True, "detail": None, "lag_seconds": 0.02}],
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
    standbys: list[Standby] = Field(description="Those of CHAT_STATS_READ_DATABASE_URL, in its order.")
    last_refresh: LastRefresh | None


class Health(Schema):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]
