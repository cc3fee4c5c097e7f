"""The rows of the answers, made from what the methods of the ladder return.

The RPC functions return rows as they are; the fallback methods return usage per model (`ModelUsage`), from
which the same rows are made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import orjson

Row = dict[str, Any]
Data = list[Row] | Row

TOKEN_AND_TIME_FIELDS = (
    "total_input_tokens",
    "total_output_tokens",
    "total_tokens",
    "avg_processing_time_ms",
)
PERCENTILE_FIELDS = (
    "p50_processing_time_ms",
    "p90_processing_time_ms",
    "p95_processing_time_ms",
    "p99_processing_time_ms",
)
SUCCESS_FIELDS = ("successful_requests", "failed_requests", "pending_requests", "success_rate")
COST_FIELDS = ("total_cost_usd",)


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
    pending_requests: int = 0
    total_input_tokens: Decimal = Decimal(0)
    total_output_tokens: Decimal = Decimal(0)
    timed_requests: int = 0
    total_processing_time_ms: Decimal = Decimal(0)
    total_cost_usd: Decimal = Decimal(0)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ModelUsage":
        return cls(**{name: _text_of_uuid(record[name]) for name in cls.__slots__ if name in record})


def model_row(model: ModelUsage, stats: Row | None = None) -> Row:
    """Return a row of `models`, with `stats` if given, else with those of `model` itself."""
    return {
        "model_id": model.model_id,
        "model_identifier": model.model_identifier,
        "model_name": model.model_name,
        "provider_model_id": model.provider_model_id,
        "provider": {"id": model.provider_id, "name": model.provider_name, "slug": model.provider_slug},
        "stats": stats_row(model) if stats is None else stats,
    }


def stats_row(model: ModelUsage) -> Row:
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


def providers_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
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


def models_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    return [model_row(model) for model in _most_requests_first(models)]


def counts_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    return [count_row(row) for row in models_from_usage(models)]


def count_row(row: Row) -> Row:
    """Return the row of `counts` of a row of `models`."""
    return {
        "model_id": row["model_id"],
        "model_name": row["model_name"],
        "model_identifier": row["model_identifier"],
        "provider_name": row["provider"]["name"],
        "provider_slug": row["provider"]["slug"],
        "request_count": row["stats"]["total_requests"],
    }


def summary_from_usage(models: Sequence[ModelUsage]) -> Row:
    requests = sum(model.total_requests for model in models)
    successful = sum(model.successful_requests for model in models)
    pending = sum(model.pending_requests for model in models)
    input_tokens = sum((model.total_input_tokens for model in models), Decimal(0))
    output_tokens = sum((model.total_output_tokens for model in models), Decimal(0))
    share = Decimal(successful) / requests if requests else Decimal(0)
    return {
        "total_requests": requests,
        "successful_requests": successful,
        "failed_requests": requests - successful - pending,
        "pending_requests": pending,
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


def value_of(row: Row, field: str) -> Any:
    """Return a field of a row, or of its statistics."""
    return row[field] if field in row else row["stats"][field]


def wants_model(row: Row, provider_id: str | None, model_id: str | None, model_name: str | None) -> bool:
    """Return whether filters let a row of `models` through."""
    return (
        (provider_id is None or str(row["provider"]["id"]) == provider_id)
        and (model_id is None or str(row["model_id"]) == model_id)
        and (model_name is None or model_name.lower() in (row["model_name"] or "").lower())
    )


def _text_of_uuid(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _plain(value: Any) -> Any:
    """Return a value of a function's row as JSON shows it."""
    return float(value) if isinstance(value, Decimal) else _text_of_uuid(value)


def plain_rows(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [{name: _plain(value) for name, value in record.items()} for record in records]


def plain_row(records: Sequence[Mapping[str, Any]]) -> Row:
    """Return the only row; {} when there is none."""
    rows = plain_rows(records)
    return rows[0] if rows else {}


def models_from_rpc(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows with their objects' fields in the declared order, in which jsonb does not keep them."""
    rows = []
    for row in plain_rows(records):
        provider, stats = orjson.loads(row["provider"]), orjson.loads(row["stats"])
        row["provider"] = {name: provider[name] for name in ("id", "name", "slug")}
        row["stats"] = {name: stats[name] for name in ("total_requests", *TOKEN_AND_TIME_FIELDS)}
        row["stats"]["avg_processing_time_ms"] = float(stats["avg_processing_time_ms"])
        rows.append(row)
    return rows


def add_percentiles(data: Data, groups: Mapping[str | None, Row]) -> Data:
    """Return `data` with the percentiles of each group, by id as text (None: of all), 0 for groups without.

    `data` is the rows of models, the row of one, or a summary.
    """
    if isinstance(data, list):
        return [
            {**row, "stats": _percentiles_after_mean(row["stats"], groups.get(str(row["model_id"])))}
            for row in data
        ]
    if "stats" in data:
        return {**data, "stats": _percentiles_after_mean(data["stats"], groups.get(str(data["model_id"])))}
    return _percentiles_after_mean(data, groups.get(None))


def _percentiles_after_mean(stats: Row, percentiles: Row | None) -> Row:
    added = dict.fromkeys(PERCENTILE_FIELDS, 0.0) if percentiles is None else percentiles
    row: Row = {}
    for name, value in stats.items():
        row[name] = value
        if name == "avg_processing_time_ms":
            row |= added
    return row


def series_points(records: Sequence[Mapping[str, Any]], fields: Iterable[str], zone: tzinfo) -> list[Row]:
    """Return the points of a time series with these fields, each with its start in the time of `zone`."""
    return [
        {
            **{name: _plain(record[name]) for name in fields},
            "bucket_start": record["bucket_start"].astimezone(zone).isoformat(),
            "group_id": _id_of_text(record["group_id"]),
        }
        for record in records
    ]


def _id_of_text(text: str | None) -> int | str | None:
    """Return an id as the other answers show it, whether it is a number or a UUID."""
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else text
