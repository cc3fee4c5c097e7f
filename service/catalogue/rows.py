"""The rows of the answers, made from the usage of each model that the methods of the ladder return."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

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
UNRESOLVED_FIELDS = ("unresolved_requests", "unresolved_failed_requests")
#: What the metadata of answers by dimensions have: from where they come, and what is missing there.
SOURCE_FIELDS = ("source", "incomplete_before", "suggested_rollup")

#: What a method that only counts requests cannot know.
UNKNOWN_FROM_COUNTS = (*SUCCESS_FIELDS, *TOKEN_AND_TIME_FIELDS, *COST_FIELDS, "unresolved_failed_requests")

#: The id by which clients ask for requests without a model that exists.
UNRESOLVED = "unresolved"

_ZERO = Decimal(0)
_CENT = Decimal("0.01")


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
    total_input_tokens: Decimal = _ZERO
    total_output_tokens: Decimal = _ZERO
    timed_requests: int = 0
    total_processing_time_ms: Decimal = _ZERO
    total_cost_usd: Decimal = _ZERO

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ModelUsage":
        """Read a model, without or with its totals; NULL counts as 0."""
        return cls(
            *map(_text_of_uuid, _identity_of(record)),
            *[record.get(name) or zero for name, zero in _ZEROS.items()],
        )

    @property
    def failed_requests(self) -> int:
        return self.total_requests - self.successful_requests - self.pending_requests


_NAMES = tuple(field.name for field in fields(ModelUsage))
_IDENTITY = _NAMES[:7]
_identity_of = itemgetter(*_IDENTITY)
#: What is added up.
TOTALS = _NAMES[7:]
_ZEROS: dict[str, Any] = {field.name: field.default for field in fields(ModelUsage)[7:]}

#: Requests without a model and provider that exist.
NOTHING_UNRESOLVED = ModelUsage(UNRESOLVED, None, None, None, UNRESOLVED, None, None)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one statement says of a range: models with requests, most requests first, and all the rest."""

    models: list[ModelUsage]
    unresolved: ModelUsage = NOTHING_UNRESOLVED


def added(models: Sequence[ModelUsage]) -> ModelUsage:
    """Return the totals of several models, under the names of the first."""
    if len(models) == 1:
        return models[0]
    first = models[0] if models else NOTHING_UNRESOLVED
    totals = [sum(map(attrgetter(name), models), zero) for name, zero in _ZEROS.items()]
    return ModelUsage(*[getattr(first, name) for name in _IDENTITY], *totals)


def stats_row(usage: ModelUsage) -> Row:
    """Return the statistics of some requests, with 0 for the percentiles, which are no sums."""
    requests, successful = usage.total_requests, usage.successful_requests
    return {
        "total_requests": requests,
        "successful_requests": successful,
        "failed_requests": usage.failed_requests,
        "pending_requests": usage.pending_requests,
        # Rounded half up to 4 places, in whole numbers.
        "success_rate": (20_000 * successful + requests) // (2 * requests) / 10_000 if requests else 0.0,
        "total_input_tokens": _saturate(usage.total_input_tokens),
        "total_output_tokens": _saturate(usage.total_output_tokens),
        "total_tokens": _saturate(usage.total_input_tokens + usage.total_output_tokens),
        "avg_processing_time_ms": _mean(usage.total_processing_time_ms, usage.timed_requests),
        "p50_processing_time_ms": 0.0,
        "p90_processing_time_ms": 0.0,
        "p95_processing_time_ms": 0.0,
        "p99_processing_time_ms": 0.0,
        "total_cost_usd": float(usage.total_cost_usd),
    }


def _saturate(total: Decimal) -> int:
    """Return a sum within bigint's range, as chat_stats_saturate() does."""
    number = int(total)
    return number if -(2**63) <= number < 2**63 else min(max(number, -(2**63)), 2**63 - 1)


def _mean(total: Decimal, count: int) -> float:
    """Return a mean with two places, 0 when there is nothing to take it from, as chat_stats_mean() does."""
    return float((total / count).quantize(_CENT, ROUND_HALF_UP)) if count else 0.0


def model_row(model: ModelUsage) -> Row:
    return {
        "model_id": model.model_id,
        "model_identifier": model.model_identifier,
        "model_name": model.model_name,
        "provider_model_id": model.provider_model_id,
        "provider": {"id": model.provider_id, "name": model.provider_name, "slug": model.provider_slug},
        "stats": stats_row(model),
    }


def models_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    return [model_row(model) for model in models]


def providers_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    by_provider: dict[Any, list[ModelUsage]] = {}
    for model in models:
        by_provider.setdefault(model.provider_id, []).append(model)
    rows = [
        _provider_row(id_, its[0].provider_name, its[0].provider_slug, len(its), stats_row(added(its)))
        for id_, its in by_provider.items()
    ]
    return sorted(rows, key=lambda row: (-row["total_requests"], row["provider_id"]))


def provider_of_model(row: Row) -> Row:
    """Return the row of `providers` that has one row of `models` alone."""
    provider = row["provider"]
    return _provider_row(provider["id"], provider["name"], provider["slug"], 1, row["stats"])


def _provider_row(id_: int | str, name: str | None, slug: str | None, models: int, stats: Row) -> Row:
    return {"provider_id": id_, "name": name, "slug": slug, "models_with_requests": models, **stats}


def counts_from_usage(models: Sequence[ModelUsage]) -> list[Row]:
    return [
        {
            "model_id": model.model_id,
            "model_name": model.model_name,
            "model_identifier": model.model_identifier,
            "provider_name": model.provider_name,
            "provider_slug": model.provider_slug,
            "request_count": model.total_requests,
        }
        for model in models
    ]


def count_of_model(row: Row) -> Row:
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
    return stats_row(added(models))


def add_percentiles(data: Data, groups: Mapping[str | None, Row]) -> None:
    """Put the percentiles of each group in, by id as text (None: of all); groups without keep 0.

    `data` is the rows of models or providers, the row of one model, or a summary.
    """
    for row in rows_of(data):
        if "stats" in row:
            row["stats"] |= groups.get(str(row["model_id"]), {})
        else:
            row |= groups.get(str(row["provider_id"]) if "provider_id" in row else None, {})


def rows_of(data: Data) -> list[Row]:
    return data if isinstance(data, list) else [data]


def set_unknown(data: Data, names: Sequence[str]) -> None:
    """Put 0 in fields that are not known, of rows and of their statistics."""
    for row in rows_of(data) if names else ():
        for part in (row, row.get("stats", {})):
            part |= {name: 0 for name in names if name in part}


def value_of(row: Row, field: str) -> Any:
    """Return a field of a row, or of its statistics."""
    return row[field] if field in row else row["stats"][field]


def wants_model(row: Row, provider_id: str | None, model_id: str | None, model_name: str | None) -> bool:
    """Return whether filters want a row of `models`."""
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


def series_points(records: Sequence[Mapping[str, Any]], fields: Iterable[str]) -> list[Row]:
    """Return the points of a time series with these fields; `bucket_start` is still a datetime."""
    return [
        {
            **{name: _plain(record[name]) for name in fields},
            "bucket_start": record["bucket_start"],
            "group_id": _id_of_text(record["group_id"]),
        }
        for record in records
    ]


def _id_of_text(text: str | None) -> int | str | None:
    """Return an id as the other answers show it, whether it is a number or a UUID."""
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else text
