"""The catalogue: each aggregation declared once. Route, cache key, refresh and CLI follow from it.

Every method of the ladder ends in the same rows. The RPC functions return them as they are; the fallback
methods return usage per model (`ModelUsage`), from which `from_usage` makes them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel

from service import schemas
from service.errors import InvalidParameter
from service.timerange import TimeRange

Row = dict[str, Any]
Data = list[Row] | Row

TOKEN_AND_TIME_FIELDS = (
    "total_input_tokens",
    "total_output_tokens",
    "total_tokens",
    "avg_processing_time_ms",
)
SUCCESS_FIELDS = ("successful_requests", "failed_requests", "success_rate")
COST_FIELDS = ("total_cost_usd",)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: one aggregation over one time range, narrowed to a provider or a model."""

    aggregation: str
    range: TimeRange = TimeRange()
    provider_id: str | None = None
    model_id: str | None = None

    def key(self) -> str:
        """Return the part of the cache key that tells this query from every other."""
        key = f"{self.aggregation}:{self.range.key()}"
        if self.provider_id is not None:
            key += f":provider={self.provider_id}"
        if self.model_id is not None:
            key += f":model={self.model_id}"
        return key


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """A model with its provider and its totals; from counts alone, all but `total_requests` is 0.

    An id that is a UUID is held as its text, as JSON shows it.
    """

    model_id: int | str
    model_identifier: str | None
    model_name: str | None
    provider_model_id: str | None
    provider_id: int | str
    provider_name: str | None
    provider_slug: str | None
    total_requests: int = 0
    successful_requests: int = 0
    total_input_tokens: Decimal = Decimal(0)
    total_output_tokens: Decimal = Decimal(0)
    timed_requests: int = 0
    total_processing_time_ms: Decimal = Decimal(0)
    total_cost_usd: Decimal = Decimal(0)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ModelUsage":
        return cls(**{name: _text_of_uuid(value) for name, value in record.items()})


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
    from_usage: Callable[[Sequence[ModelUsage]], Data]
    #: Metadata beside the common fields.
    totals: Callable[[Any], dict[str, int]]
    narrowed_by: Literal["provider_id", "model_id"] | None = None
    #: Fields that a method which only counts requests cannot know.
    unknown_from_counts: tuple[str, ...] = ()

    def rpc(self, query: Query) -> tuple[str, tuple[str, ...]]:
        """Return the statement for `query` and its arguments after the time range."""
        narrowed = query.model_id if query.provider_id is None else query.provider_id
        if narrowed is None:
            return self.call, ()
        assert self.narrowed_call is not None, f"{self.name} cannot be narrowed"
        return self.narrowed_call, (narrowed,)


def parse_id(parameter: str, text: str) -> str:
    """Return the canonical text of an id: a whole number from 0 to 2^63 - 1, or a UUID."""
    if re.fullmatch(r"[0-9]{1,30}", text) and int(text) < 2**63:
        return str(int(text))
    if re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", text):
        return str(UUID(text))
    raise InvalidParameter(
        parameter, f"{parameter} {text[:60]!r} is neither a whole number from 0 to {2**63 - 1} nor a UUID"
    )


def model_row(model: ModelUsage, stats: Row | None = None) -> Row:
    """Return a row of `models`, with `stats` if given, else with those of `model` itself."""
    return {
        "model_id": model.model_id,
        "model_identifier": model.model_identifier,
        "model_name": model.model_name,
        "provider_model_id": model.provider_model_id,
        "provider": {"id": model.provider_id, "name": model.provider_name, "slug": model.provider_slug},
        "stats": _stats(model) if stats is None else stats,
    }


def _stats(model: ModelUsage) -> Row:
    return {
        "total_requests": model.total_requests,
        "total_input_tokens": _saturate(model.total_input_tokens),
        "total_output_tokens": _saturate(model.total_output_tokens),
        "total_tokens": _saturate(model.total_input_tokens + model.total_output_tokens),
        "avg_processing_time_ms": _mean(model.total_processing_time_ms, model.timed_requests),
    }


def _saturate(total: Decimal) -> int:
    """Return a sum within bigint's range, as chat_stats_saturate() does."""
    return int(min(max(total, Decimal(-(2**63))), Decimal(2**63 - 1)))


def _mean(total: Decimal, count: int) -> float:
    """Return a mean with two places, 0 when there is nothing to take it from, as chat_stats_mean() does."""
    return float((total / count).quantize(Decimal("0.01"), ROUND_HALF_UP)) if count else 0.0


def _most_requests_first(models: Iterable[ModelUsage]) -> list[ModelUsage]:
    # The text of a UUID orders like its bytes, by which Postgres orders it.
    return sorted(models, key=lambda model: (-model.total_requests, model.model_id))


def _providers_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    rows: dict[Any, Row] = {}
    for model in models:
        row = rows.setdefault(
            model.provider_id,
            {
                "provider_id": model.provider_id,
                "name": model.provider_name,
                "slug": model.provider_slug,
                "models_with_requests": 0,
                "total_requests": 0,
            },
        )
        row["models_with_requests"] += 1
        row["total_requests"] += model.total_requests
    return sorted(rows.values(), key=lambda row: (-row["total_requests"], row["provider_id"]))


def _models_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    return [model_row(model) for model in _most_requests_first(models)]


def _counts_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    return [
        {
            "model_id": model.model_id,
            "model_name": model.model_name,
            "model_identifier": model.model_identifier,
            "provider_name": model.provider_name,
            "provider_slug": model.provider_slug,
            "request_count": model.total_requests,
        }
        for model in _most_requests_first(models)
    ]


def _summary_from_usage(models: Sequence[ModelUsage]) -> Row:
    requests = sum(model.total_requests for model in models)
    successful = sum(model.successful_requests for model in models)
    input_tokens = sum((model.total_input_tokens for model in models), Decimal(0))
    output_tokens = sum((model.total_output_tokens for model in models), Decimal(0))
    share = Decimal(successful) / requests if requests else Decimal(0)
    return {
        "total_requests": requests,
        "successful_requests": successful,
        "failed_requests": requests - successful,
        "success_rate": float(share.quantize(Decimal("0.0001"), ROUND_HALF_UP)),
        "total_input_tokens": _saturate(input_tokens),
        "total_output_tokens": _saturate(output_tokens),
        "total_tokens": _saturate(input_tokens + output_tokens),
        "avg_processing_time_ms": _mean(
            sum((model.total_processing_time_ms for model in models), Decimal(0)),
            sum(model.timed_requests for model in models),
        ),
        "total_cost_usd": float(sum((model.total_cost_usd for model in models), Decimal(0))),
    }


def _text_of_uuid(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _plain(value: Any) -> Any:
    """Return a value of a function's row as JSON shows it."""
    return float(value) if isinstance(value, Decimal) else _text_of_uuid(value)


def _rows(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [{name: _plain(value) for name, value in record.items()} for record in records]


def _row(records: Sequence[Mapping[str, Any]]) -> Row:
    """Return the only row; {} when there is none."""
    rows = _rows(records)
    return rows[0] if rows else {}


def _models_from_rpc(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows with their objects' fields in the declared order, in which jsonb does not keep them."""
    rows = []
    for row in _rows(records):
        provider, stats = orjson.loads(row["provider"]), orjson.loads(row["stats"])
        row["provider"] = {name: provider[name] for name in ("id", "name", "slug")}
        row["stats"] = {name: stats[name] for name in ("total_requests", *TOKEN_AND_TIME_FIELDS)}
        row["stats"]["avg_processing_time_ms"] = float(stats["avg_processing_time_ms"])
        rows.append(row)
    return rows


PROVIDERS = Aggregation(
    name="providers",
    purpose="Requests of each provider that has any, most first.",
    path="/chat-requests/providers",
    answer=schemas.ProvidersAnswer,
    function="get_provider_request_stats",
    call="SELECT * FROM get_provider_request_stats($1, $2)",
    columns=("provider_id", "name", "slug", "models_with_requests", "total_requests"),
    narrowed_call=None,
    from_rpc=_rows,
    from_usage=_providers_from_usage,
    totals=lambda rows: {"total_providers": len(rows)},
)

MODELS = Aggregation(
    name="models",
    purpose="Models that have requests, with their provider and statistics, most requests first.",
    path="/chat-requests/models",
    answer=schemas.ModelsAnswer,
    function="get_models_with_requests",
    call="SELECT * FROM get_models_with_requests($1, $2)",
    columns=("model_id", "model_identifier", "model_name", "provider_model_id", "provider", "stats"),
    narrowed_call=(
        "SELECT * FROM get_models_with_requests_by_provider("
        "(SELECT id FROM providers WHERE id::text = $3), $1, $2)"
    ),
    from_rpc=_models_from_rpc,
    from_usage=_models_from_usage,
    totals=lambda rows: {"total_models": len(rows)},
    narrowed_by="provider_id",
    unknown_from_counts=TOKEN_AND_TIME_FIELDS,
)

COUNTS = Aggregation(
    name="counts",
    purpose="Number of requests of each model that has any, most first.",
    path="/chat-requests/counts",
    answer=schemas.CountsAnswer,
    function="get_model_request_counts",
    call="SELECT * FROM get_model_request_counts($1, $2)",
    columns=("model_id", "model_name", "model_identifier", "provider_name", "provider_slug", "request_count"),
    narrowed_call=None,
    from_rpc=_rows,
    from_usage=_counts_from_usage,
    totals=lambda rows: {
        "total_models": len(rows),
        "total_requests": sum(row["request_count"] for row in rows),
    },
)

SUMMARY = Aggregation(
    name="summary",
    purpose="Totals over all models: requests, success rate, tokens, average time, cost.",
    path="/chat-requests/summary",
    answer=schemas.SummaryAnswer,
    function="get_chat_request_summary",
    call="SELECT * FROM get_chat_request_summary($1, $2)",
    columns=("total_requests", *SUCCESS_FIELDS, *TOKEN_AND_TIME_FIELDS, *COST_FIELDS),
    narrowed_call=None,
    from_rpc=_row,
    from_usage=_summary_from_usage,
    totals=lambda _row: {},
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
        "SELECT * FROM get_model_request_stats((SELECT id FROM models WHERE id::text = $3), $1, $2)"
    ),
    from_rpc=_row,
    from_usage=lambda models: _stats(models[0]) if models else {},
    totals=lambda _row: {},
    narrowed_by="model_id",
    unknown_from_counts=TOKEN_AND_TIME_FIELDS,
)

AGGREGATIONS = {aggregation.name: aggregation for aggregation in (PROVIDERS, MODELS, COUNTS, SUMMARY, MODEL)}


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
        row = by_model.get(model.model_id) or model_row(model)
        derived[Query(MODEL.name, range_, model_id=str(model.model_id))] = row
    return derived
