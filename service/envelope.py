"""Renders an answer: the envelope around its data, and the headers that go with it."""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Request, Response

from service.aggregations import Query
from service.settings import Settings
from service.stats import Answer, CacheState
from service.timerange import TimeRange

#: Name of this cache in the Cache-Status header (RFC 9211).
CACHE_NAME = "chat-stats"


def respond(request: Request, settings: Settings, query: Query, answer: Answer) -> Response:
    """Return the response to a GET, or 304 when the client has these numbers already."""
    now = datetime.now(UTC)
    headers = _headers(settings, answer, now)
    if _matches(request.headers.get("if-none-match"), answer.entry.etag):
        return Response(status_code=304, headers=headers)
    return Response(render(answer, query.range, now), media_type="application/json", headers=headers)


def render(answer: Answer, range_: TimeRange, now: datetime) -> bytes:
    """Return the body as JSON; `data` is spliced in as the bytes that it was cached as."""
    entry = answer.entry
    metadata: dict[str, Any] = {
        **entry.totals,
        "timestamp": now,
        "method": entry.method,
        "cache": answer.state,
        "cache_age_seconds": round(entry.age_seconds(now), 3),
        "computed_at": entry.computed_at,
        "compute_ms": entry.compute_ms,
        "generation": entry.generation,
        "window": range_.window,
        "unavailable": entry.unavailable,
    }
    if range_.window is None:
        metadata |= {"start_date": range_.start, "end_date": range_.end}
    if entry.precision is not None:
        metadata["precision"] = entry.precision
    encoded = orjson.dumps(metadata, option=orjson.OPT_UTC_Z)
    return b"".join((b'{"success":true,"data":', entry.body, b',"metadata":', encoded, b"}"))


def _headers(settings: Settings, answer: Answer, now: datetime) -> dict[str, str]:
    entry = answer.entry
    age = int(entry.age_seconds(now))
    visibility = "private" if settings.api_keys else "public"
    return {
        "ETag": entry.etag,
        "Age": str(age),
        "Cache-Control": (
            # Until the next refresh is due: a browser that polls then sees its numbers at once.
            f"{visibility}, max-age={int(min(settings.refresh_interval_seconds, settings.fresh_seconds))}, "
            f"stale-while-revalidate={int(settings.fresh_seconds)}, "
            f"stale-if-error={int(settings.stale_seconds)}"
        ),
        "Cache-Status": _cache_status(settings, answer, age),
        "Vary": "Authorization, X-API-Key, Origin",
    }


def _cache_status(settings: Settings, answer: Answer, age: int) -> str:
    match answer.state:
        case CacheState.MISS:
            return f"{CACHE_NAME}; fwd=miss{'; stored' if answer.stored else ''}"
        case CacheState.BYPASS:
            return f"{CACHE_NAME}; fwd=bypass"
        case CacheState.HIT | CacheState.STALE:
            return f"{CACHE_NAME}; hit; ttl={int(settings.fresh_seconds) - age}"


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Compare weakly, as RFC 9110 asks for If-None-Match."""
    if if_none_match is None:
        return False
    candidates = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in candidates or etag.removeprefix("W/") in candidates
