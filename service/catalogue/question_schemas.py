"""The answers to questions, for the OpenAPI document: their rows have the dimensions that are declared."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from chat_stats.service.catalogue.dimensions import Dimensions
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.schemas import Id, Metadata, Method, Schema

_TYPES = {"int": int, "float": float}


def _optional(type_: Any, meaning: str) -> Any:
    return (type_, Field(None, description=meaning))


Figures = create_model(
    "Figures",
    __base__=Schema,
    **{name: _optional(_TYPES[figure.type], figure.meaning) for name, figure in FIGURES.items()},
)

Change = create_model(
    "Change",
    __base__=Schema,
    **{name: _optional(float | None, f"Change of `{name}`.") for name in FIGURES},
)


class ComparedFigures(Figures):
    previous: Figures | None = Field(None, description="With `compare`: the same over the earlier range.")
    change: Change | None = Field(
        None,
        description="With `compare`: by what share of the earlier figure it changed; null where that was 0.",
    )


class _QuestionMetadata(Metadata):
    method: Method = Field(
        description="rpc: by functions. fallback_optimized: without them, since they failed. query: by one "
        "statement over the requests, since no function knows the dimensions."
    )
    source: str = Field(
        description="`rollup:` and the name of the rollup that the figures come from; or `scan`."
    )
    total: ComparedFigures = Field(description="The figures of all requests that the filters mean.")
    others: ComparedFigures = Field(
        description="Those of the groups that are no rows of this answer: rows plus others is the total."
    )
    total_groups: int = Field(description="Groups that there are; at most `limit` of them are rows.")
    incomplete_before: datetime | None = Field(
        description="Not null: some requests of the range before this moment were purged, and the source does "
        "not know them; the figures lack them."
    )


class QueryMetadata(_QuestionMetadata):
    measures: list[str]
    group_by: list[str]
    filters: dict[str, list[str]] = Field(description="The filters, as they were understood.")
    bucket: Literal["15m", "1h", "1d", "1w", "1mo"] | None
    timezone: str | None
    order_by: str
    limit: int
    compare: str | None
    next_cursor: str | None = Field(description="For the next groups; null when these are the last.")
    suggested_rollup: str | None = Field(
        description="Of a scan: the command that adds a rollup for such questions; null: there is one, or none "
        "can be."
    )


class DimensionValue(Schema):
    value: Id | str | None = Field(description="Null: requests without it.")
    name: str | None = Field(None, description="Of a model or provider.")
    total_requests: int


class DimensionRow(Schema):
    name: str
    type: str | None = Field(description="The column's type in the database; null when it cannot be used.")
    rollups: list[str] = Field(description="The rollups that have it and are ready.")
    trouble: str | None = Field(description="Why it cannot be used.")


class DimensionsMetadata(Metadata):
    method: Method = Field(description="As in answers to questions.")
    total: Figures | None = None
    others: Figures | None = None
    total_groups: int | None = Field(None, description="Values that there are.")


_COMMON = {
    "timestamp": "2026-01-04T12:00:12.300000Z",
    "method": "query",
    "cache": "hit",
    "cache_age_seconds": 12.3,
    "computed_at": "2026-01-04T12:00:00.000000Z",
    "compute_ms": 31.2,
    "generation": "20260104T120000.000000Z-3f9a1c",
    "window": "7d",
    "unavailable": [],
}
_EXAMPLE = {
    "success": True,
    "data": [{"status": "completed", "total_requests": 1180, "total_cost_usd": 4.83}],
    "metadata": {
        "source": "scan",
        "measures": ["total_requests", "total_cost_usd"],
        "group_by": ["status"],
        "filters": {},
        "bucket": None,
        "timezone": None,
        "order_by": "-total_cost_usd",
        "limit": 1,
        "compare": None,
        "total": {"total_requests": 1204, "total_cost_usd": 4.83},
        "others": {"total_requests": 24, "total_cost_usd": 0.0},
        "total_groups": 2,
        "next_cursor": "kW3vT1x9d0lmWyIyMDI2",
        "incomplete_before": None,
        "suggested_rollup": "chat-stats rollup add user_id --by user_id",
        **_COMMON,
    },
}
_DIMENSIONS_EXAMPLE = {
    "success": True,
    "data": [{"name": "status", "type": "text", "rollups": [], "trouble": None}],
    "metadata": {**_COMMON, "window": "all"},
}


def query_answer(known: Dimensions) -> type[BaseModel]:
    """Return the schema of the answer to a question, with these dimensions."""
    fields: dict[str, Any] = {
        "bucket_start": _optional(
            datetime, "Of a series: the start of the bucket, with the time zone's offset."
        )
    }
    for name, dimension in known.items():
        if dimension.is_id:
            fields[name] = _optional(
                Id | Literal["unresolved"],
                f"`{UNRESOLVED}`: of requests whose model or provider does not exist.",
            )
            fields[dimension.name_field] = _optional(str | None, "Its name.")
        else:
            fields[name] = _optional(
                str | None, f"The value of the dimension `{name}`; null: they have none."
            )
    row = create_model("QueryRow", __base__=ComparedFigures, **fields)
    return _answer("QueryAnswer", list[row], QueryMetadata, _EXAMPLE)


def dimensions_answer() -> type[BaseModel]:
    data = list[DimensionRow] | list[DimensionValue]
    return _answer("DimensionsAnswer", data, DimensionsMetadata, _DIMENSIONS_EXAMPLE)


def _answer(name: str, data: Any, metadata: type[Metadata], example: dict[str, Any]) -> type[BaseModel]:
    return create_model(
        name,
        __base__=Schema,
        __cls_kwargs__={"json_schema_extra": {"examples": [example]}},
        success=(Literal[True], ...),
        data=(data, ...),
        metadata=(metadata, ...),
    )
