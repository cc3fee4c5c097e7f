"""The sample: a few requests that cover the semantics, and what every method must say about them.

The expected numbers are worked out by hand from `REQUESTS`; nothing here is computed from anything else.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.sql.schemas import Variant

START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 3, 2, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

PROVIDERS = [  # id, name, slug
    (1, "Acme", "acme"),
    (2, "Borealis", None),
    (3, "Cirrus", "cirrus"),  # its model has no requests
    (4, "Dune", "dune"),  # has no models
]

MODELS = [  # id, provider, model_name, provider_model_id, model_id (an optional column)
    (1, 1, "Alpha", "alpha-1", "acme/alpha"),
    (2, 1, "Beta", "beta-1", None),
    (3, 2, "Gamma", None, "borealis/gamma"),
    (4, 2, None, None, None),
    (5, None, "Without provider", "x", "x"),
    (6, 99, "Provider gone", "y", "y"),
    (7, 3, "Idle", "idle-1", "cirrus/idle"),
]

MODEL_WITHOUT_REQUESTS = 7
MODELS_THAT_DO_NOT_COUNT = (5, 6, 98)


@dataclass(frozen=True)
class Request:
    id: int
    model: int | None
    input_tokens: int | None
    output_tokens: int | None
    processing_time_ms: int | None
    status: str | None
    cost_usd: str | None
    created_at: datetime | None


_COUNTED = [
    Request(1, 1, 100, 10, 1000, "completed", "0.01", START),
    Request(2, 1, 200, 20, 2000, "success", "0.02", END - MICROSECOND),
    Request(3, 1, 300, None, None, "failed", None, END),
    Request(4, 1, None, 40, None, "OK", "0.04", None),
    Request(5, 2, 5, 50, 1, "completed", "0.05", START - MICROSECOND),
    Request(6, 2, 6, 60, 2, "completed", "0.06", NOON),
    Request(7, 2, 7, 70, 2, "error", "0.07", NOON),
    Request(8, 3, None, None, None, None, None, NOON),
    Request(9, 3, 9, 1, 0, "completed", "0", NOON),
    Request(10, 4, 10, 0, 3, "completed", "0.1", NOON),
    Request(11, 4, 11, 0, 4, "Succeeded", "0.2", NOON),
    Request(12, 4, 12, None, None, "pending", None, START - timedelta(days=1)),
]

_NOT_COUNTED = [
    Request(number, model, 1000, 1000, 1000, "completed", "9", NOON)
    for number, model in enumerate((5, 5, 5, 5, 6, 6, 6, 6, 6, None, None, 98, 98, 98), start=13)
]

REQUESTS = [*_COUNTED, *_NOT_COUNTED]


def stats(requests: int, input_tokens: int, output_tokens: int, total: int, mean_ms: float) -> dict[str, Any]:
    return {
        "total_requests": requests,
        "total_input_tokens": input_tokens,
        "total_output_tokens": output_tokens,
        "total_tokens": total,
        "avg_processing_time_ms": mean_ms,
    }


#: Without a range, most requests first; models 2 and 4 tie, and go by id.
STATS_OF_ALL = {
    1: stats(4, 600, 70, 670, 1500),  # 100+200+300+0, 10+20+0+40, (1000+2000)/2
    2: stats(3, 18, 180, 198, 1.67),  # 5+6+7, 50+60+70, (1+2+2)/3 = 1.666..
    4: stats(3, 33, 0, 33, 3.5),  # 10+11+12, 0, (3+4)/2
    3: stats(2, 9, 1, 10, 0),  # 0+9, 0+1, the one time there is: 0/1
}

#: From START to END: not request 3 (at the end), 4 (no created_at), 5 and 12 (before). All tie.
STATS_OF_RANGE = {
    1: stats(2, 300, 30, 330, 1500),  # requests 1, 2
    2: stats(2, 13, 130, 143, 2),  # requests 6, 7
    3: stats(2, 9, 1, 10, 0),  # requests 8, 9
    4: stats(2, 21, 0, 21, 3.5),  # requests 10, 11
}

#: models_with_requests, total_requests
PROVIDERS_OF_ALL = {1: (2, 7), 2: (2, 5)}  # 4+3, 3+2
PROVIDERS_OF_RANGE = {1: (2, 4), 2: (2, 4)}  # 2+2, 2+2: a tie

#: Of every request, those without a model and provider that exist too: 13 to 26, all of them in the range.
SUMMARY_OF_ALL = {
    "successful_requests": 22,  # 1, 2, 4, 5, 6, 9, 10, 11, and those 14
    "failed_requests": 3,  # 3, 7, 8 (no status)
    "pending_requests": 1,  # 12
    "success_rate": 0.8462,  # 22/26
    # 600+18+33+9+14000, 70+180+0+1+14000, (1000+2000+1+2+2+0+3+4+14000)/(8+14) = 17012/22
    **stats(26, 14660, 14251, 28911, 773.27),
    "total_cost_usd": 126.55,  # .01+.02+.04+.05+.06+.07+0+.1+.2+14*9
}

SUMMARY_OF_RANGE = {
    "successful_requests": 20,  # 1, 2, 6, 9, 10, 11, and those 14
    "failed_requests": 2,  # 7, 8
    "pending_requests": 0,
    "success_rate": 0.9091,  # 20/22
    # 300+13+9+21+14000, 30+130+1+0+14000, (1000+2000+2+2+0+3+4+14000)/(7+14) = 17011/21
    **stats(22, 14343, 14161, 28504, 810.05),
    "total_cost_usd": 126.46,  # .01+.02+.06+.07+0+.1+.2+14*9
}

SUMMARY_OF_NOTHING = {
    "successful_requests": 0,
    "failed_requests": 0,
    "pending_requests": 0,
    "success_rate": 0,
    **stats(0, 0, 0, 0, 0),
    "total_cost_usd": 0,
}

#: models.model_id, else provider_model_id. Without that column, the latter alone.
IDENTIFIERS = {1: "acme/alpha", 2: "beta-1", 3: "borealis/gamma", 4: None, 7: "cirrus/idle"}
IDENTIFIERS_WITHOUT_COLUMN = {1: "alpha-1", 2: "beta-1", 3: None, 4: None, 7: "idle-1"}

_PROVIDERS = {number: (name, slug) for number, name, slug in PROVIDERS}
_MODELS = {model[0]: model for model in MODELS}

Row = dict[str, Any]


def provider_rows(variant: Variant, expected: dict[int, tuple[int, int]]) -> list[Row]:
    return [
        {
            "provider_id": variant.id("providers", provider),
            "name": _PROVIDERS[provider][0],
            "slug": _PROVIDERS[provider][1],
            "models_with_requests": models,
            "total_requests": requests,
        }
        for provider, (models, requests) in expected.items()
    ]


def model_rows(variant: Variant, expected: dict[int, Row], *, provider: int | None = None) -> list[Row]:
    return [
        model_row(variant, model, stats_of_model)
        for model, stats_of_model in expected.items()
        if provider is None or _MODELS[model][1] == provider
    ]


def model_row(variant: Variant, model: int, stats_of_model: Row) -> Row:
    _, provider, model_name, provider_model_id, _ = _MODELS[model]
    assert provider is not None
    name, slug = _PROVIDERS[provider]
    return {
        "model_id": variant.id("models", model),
        "model_identifier": _identifier(variant, model),
        "model_name": model_name,
        "provider_model_id": provider_model_id,
        "provider": {"id": variant.id("providers", provider), "name": name, "slug": slug},
        "stats": stats_of_model,
    }


def count_rows(variant: Variant, expected: dict[int, Row]) -> list[Row]:
    return [
        {
            "model_id": row["model_id"],
            "model_name": row["model_name"],
            "model_identifier": row["model_identifier"],
            "provider_name": row["provider"]["name"],
            "provider_slug": row["provider"]["slug"],
            "request_count": row["stats"]["total_requests"],
        }
        for row in model_rows(variant, expected)
    ]


def _identifier(variant: Variant, model: int) -> str | None:
    return (IDENTIFIERS if variant.has_model_id else IDENTIFIERS_WITHOUT_COLUMN)[model]


def inserts(variant: Variant) -> str:
    """Return the statements that fill the tables of `variant`."""
    rows: list[tuple[str, Row]] = [
        ("providers", {"id": variant.id("providers", provider), "name": name, "slug": slug})
        for provider, name, slug in PROVIDERS
    ]
    for model, provider, model_name, provider_model_id, identifier in MODELS:
        row = {
            "id": variant.id("models", model),
            "provider_id": None if provider is None else variant.id("providers", provider),
            "model_name": model_name,
            "provider_model_id": provider_model_id,
        }
        rows.append(("models", row | ({"model_id": identifier} if variant.has_model_id else {})))
    rows += [("chat_completion_requests", _request_row(variant, request)) for request in REQUESTS]
    return ";\n".join(_insert(table, row) for table, row in rows)


def _request_row(variant: Variant, request: Request) -> Row:
    time, cost = request.processing_time_ms, request.cost_usd
    row = {
        "id": variant.id("chat_completion_requests", request.id),
        "model_id": None if request.model is None else variant.id("models", request.model),
        "input_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "processing_time_ms": variant.no_time if time is None else time,
        "status": request.status,
        "created_at": request.created_at,
    }
    if variant.has_cost:
        row["cost_usd"] = variant.no_cost if cost is None else cost
    return row


def _insert(table: str, row: Row) -> str:
    # As literals, so that one text serves whatever types the columns have.
    values = ", ".join("NULL" if value is None else f"'{value}'" for value in row.values())
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})"
