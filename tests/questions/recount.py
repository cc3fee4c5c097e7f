"""Answers questions by counting the requests one by one, and makes requests to count."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

SUCCESS = {"completed", "complete", "success", "successful", "succeeded", "ok", "200"}
PENDING = {"pending", "partial"}

#: Values of strangers: what quoting, escaping, sorting or comparing could get wrong.
HOSTILE = (
    "u1", "u2", "u10", "", " ", "u1 ", "U1", "null", "__null__", "\\__null__", "NULL", "unresolved",
    "it's", '"quoted"', "back\\slash", "%", "_", "a,b", "a;b", "a=b", "{}", "[1]", "$1", "$$", "--", "/* */",
    "'; DROP TABLE models; --", "стол", "ß", "İ", "名前", "e\u0301", "é", "\u202eabc", "😀", "tab\there",
    "line\nbreak", "=1+1", "gateway_schema.models", "success_statuses", "x" * 3000,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    model_id: int | None
    input_tokens: int | None
    output_tokens: int | None
    processing_time_ms: Decimal | None
    status: str | None
    error_message: str | None
    user_id: str | None
    key_id: int | None
    team: str | None
    cost_usd: Decimal | None
    created_at: datetime


#: Model, its name, its provider; a model without a provider and one that is gone are unresolved.
MODELS: dict[int, tuple[str, int | None]] = {
    1: ("Alpha", 1), 2: ("Beta", 1), 3: ("Gamma", 2), 10: ("Delta", 2), 4: ("Stray", None), 5: ("Lost", 99),
}  # fmt: skip
PROVIDERS = {1: "One", 2: "Two", 3: "Unused"}

_MESSAGES = (
    None, "", "HTTP 429: Too Many Requests", "rate_limit_exceeded", "upstream timed out after 60 s",
    "Incorrect API key provided", "This model's maximum context length is 8192 tokens", "content_filter",
    "503 Service Unavailable", "something else", "429" * 400, "took 14290 ms", "RATE LIMIT", "%", "\\",
)  # fmt: skip
#: By hand, for each message of a failed request.
_KINDS = (
    "other", "other", "rate_limited", "rate_limited", "timeout", "authentication", "context_length",
    "content_filter", "provider_5xx", "other", "other", "other", "rate_limited", "other", "other",
)  # fmt: skip
KIND_OF = dict(zip(_MESSAGES, _KINDS, strict=True))


def random_requests(rng: random.Random, count: int, start: datetime, days: int) -> list[Request]:
    users = [*HOSTILE, None, *(f"user{number}" for number in range(20))]
    return [
        Request(
            model_id=rng.choice([1, 1, 1, 2, 3, 10, 4, 5, 77, None]),
            input_tokens=rng.choice([None, 0, rng.randrange(5000)]),
            output_tokens=rng.choice([None, 0, rng.randrange(900)]),
            processing_time_ms=rng.choice(
                [None, Decimal(0), Decimal(rng.randrange(1, 10**6)) / 100, Decimal("1e20"), Decimal("NaN")]
            ),
            status=rng.choice(
                [
                    "completed",
                    "completed",
                    "OK",
                    "success ",
                    "failed",
                    "error",
                    "pending",
                    "partial",
                    None,
                    "",
                ]
            ),
            error_message=rng.choice(_MESSAGES),
            user_id=rng.choice(users),
            key_id=rng.choice([None, 1, 2, 10, 11, -3, 2**40]),
            team=rng.choice(["red", "blue", "", None, "it's", "名前"]),
            cost_usd=rng.choice([None, Decimal(0), Decimal(rng.randrange(10**6)) / 10**6]),
            created_at=start
            + timedelta(seconds=rng.randrange(days * 86400), microseconds=rng.randrange(10**6)),
        )
        for _ in range(count)
    ]


def succeeded(request: Request) -> bool:
    return request.status is not None and request.status.rstrip(" ").lower() in SUCCESS


def pending(request: Request) -> bool:
    return request.status is not None and request.status.rstrip(" ").lower() in PENDING


def value(request: Request, dimension: str) -> Any:
    """Return the value of a dimension as an answer shows it."""
    match dimension:
        case "model_id":
            return request.model_id if _provider(request) is not None else "unresolved"
        case "provider_id":
            return _provider(request) or "unresolved"
        case "status":
            return None if request.status is None else request.status.rstrip(" ")
        case "error_kind":
            if succeeded(request) or pending(request):
                return None
            return KIND_OF[request.error_message]
        case "key_id":
            return None if request.key_id is None else str(request.key_id)
        case _:
            return getattr(request, dimension)


def _provider(request: Request) -> int | None:
    _, provider = MODELS.get(request.model_id or 0, ("", None))
    return provider if provider in PROVIDERS else None


def figures(requests: Iterable[Request]) -> dict[str, float]:
    """Return every figure of these requests."""
    counted = list(requests)
    number = len(counted)
    good = sum(map(succeeded, counted))
    waiting = sum(map(pending, counted))
    inputs = sum(request.input_tokens or 0 for request in counted)
    outputs = sum(request.output_tokens or 0 for request in counted)
    cost = sum((request.cost_usd or Decimal(0) for request in counted), Decimal(0))
    times = sorted(
        request.processing_time_ms
        for request in counted
        if request.processing_time_ms is not None
        and not request.processing_time_ms.is_nan()
        and abs(request.processing_time_ms) <= 10**15
    )
    took = sum(times, Decimal(0))
    return {
        "total_requests": number,
        "successful_requests": good,
        "failed_requests": number - good - waiting,
        "pending_requests": waiting,
        "success_rate": _ratio(Decimal(good), number, 4),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "total_tokens": inputs + outputs,
        "avg_input_tokens": _ratio(Decimal(inputs), number, 2),
        "avg_output_tokens": _ratio(Decimal(outputs), number, 2),
        "avg_total_tokens": _ratio(Decimal(inputs + outputs), number, 2),
        "avg_processing_time_ms": _ratio(took, len(times), 2),
        **{f"p{rank}_processing_time_ms": _percentile(times, rank) for rank in (50, 90, 95, 99)},
        "tokens_per_second": _ratio(Decimal(outputs) * 1000, took, 2),
        "total_cost_usd": float(cost),
        "avg_cost_usd": _ratio(cost, number, 10),
    }


def _ratio(total: Decimal, of: Decimal | int, places: int) -> float:
    if of <= 0:
        return 0.0
    return float((total / of).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


def _percentile(times: list[Decimal], rank: int) -> float:
    """Return the middle of the bin that holds the time of nearest rank."""
    if not times:
        return 0.0
    time = float(times[max(0, math.ceil(len(times) * rank / 100) - 1)])
    if time <= 0.001:
        return 0.0
    number = math.ceil(math.log(time) / math.log(1.04))
    return round(2 * 1.04**number / 2.04, 2 if number > 0 else 5)


def grouped(requests: Iterable[Request], dimensions: Iterable[str]) -> dict[tuple[Any, ...], list[Request]]:
    groups: dict[tuple[Any, ...], list[Request]] = defaultdict(list)
    names = list(dimensions)
    for request in requests:
        groups[tuple(value(request, name) for name in names)].append(request)
    return dict(groups)


def between(requests: Iterable[Request], start: datetime, end: datetime) -> list[Request]:
    return [request for request in requests if start <= request.created_at < end]


def at(request: Request, moment: datetime) -> Request:
    return replace(request, created_at=moment.astimezone(UTC))
