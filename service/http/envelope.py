"""Renders an answer: the envelope around its data, and the headers that go with it.

The ordinary route (`service.routes.stats`) and the fast path (`service.http.fast_path`) both render here, so
that their responses are the same.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum, auto
from typing import Any, NamedTuple

import orjson

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.database.clock import Clock
from chat_stats.service.http.negotiation import matches_etag, prefers_gzip
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Answer

#: Name of this cache in the Cache-Status header (RFC 9211).
CACHE_NAME = "chat-stats"

#: Headers as ASGI has them: names in lower case.
Headers = list[tuple[bytes, bytes]]

#: Bodies of fewer bytes are not compressed: they fit in one packet anyway.
SMALLEST_COMPRESSED = 1024


class Form(Enum):
    """What a request gets of an answer."""

    PLAIN = auto()
    GZIP = auto()
    NOT_MODIFIED = auto()


class Rendered(NamedTuple):
    """A response as ASGI sends it. To HEAD the same headers are sent, and no body."""

    status: int
    headers: Headers
    body: bytes
    #: As in the metadata; for the metrics.
    state: CacheState
    method: str


class Envelope:
    """Renders answers; one per process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._fresh_seconds = int(settings.fresh_seconds)
        # Until the next refresh is due: a client behind a cache then sees its numbers at once.
        self._shortest = int(min(settings.refresh_interval_seconds, settings.fresh_seconds))
        self._cache_control = (
            f"{'private' if settings.api_keys else 'public'}, max-age=%d, "
            f"stale-while-revalidate={int(settings.fresh_seconds)}, "
            f"stale-if-error={int(settings.stale_seconds)}"
        ).encode()
        # What an answer depends on. CORSMiddleware adds Origin where origins are configured.
        self._vary = b"Accept-Encoding, Authorization, X-API-Key" if settings.api_keys else b"Accept-Encoding"

    def respond(
        self, request_headers: Iterable[tuple[bytes, bytes]], range_: TimeRange, answer: Answer
    ) -> Rendered:
        """Return the response to a GET or HEAD with these headers."""
        return self.render(form_of(request_headers, answer.entry), range_, answer)

    def render(self, form: Form, range_: TimeRange, answer: Answer) -> Rendered:
        entry = answer.entry
        now = self._clock.now()
        headers = self._headers(answer, int(entry.age_seconds(now)))
        if form is Form.NOT_MODIFIED:
            return Rendered(304, headers, b"", answer.state, entry.method)
        end = _end(answer, range_, now)
        if form is Form.GZIP:
            body = entry.compressed.ended_with(end)
            headers.append((b"content-encoding", b"gzip"))
        else:
            body = b"".join((Entry.OPENING, entry.body, end))
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", b"%d" % len(body)))
        return Rendered(200, headers, body, answer.state, entry.method)

    def _headers(self, answer: Answer, age: int) -> Headers:
        return [
            (b"etag", answer.entry.etag),
            (b"age", b"%d" % age),
            (b"cache-control", self._cache_control % self._max_age(age)),
            (b"cache-status", cache_status(answer.state, self._fresh_seconds - age, stored=answer.stored)),
            (b"vary", self._vary),
        ]

    def _max_age(self, age: int) -> int:
        """Return for how many seconds since it was computed a cache may use the answer without asking.

        Caches subtract `Age`. When a refresh is late, one second is left, so that they go on sparing us all
        requests but one a second. The limit is for those that ignore `Age`, such as nginx.
        """
        return min(max(self._shortest, age + 1), self._fresh_seconds)


def form_of(request_headers: Iterable[tuple[bytes, bytes]], entry: Entry) -> Form:
    """Read what the client has already and which encodings it accepts."""
    accept_encoding = if_none_match = b""
    for name, value in request_headers:  # one pass, on the path of each hit: `header_value` twice costs more
        if name == b"accept-encoding":
            accept_encoding = b"%b,%b" % (accept_encoding, value) if accept_encoding else value
        elif name == b"if-none-match":
            if_none_match = b"%b,%b" % (if_none_match, value) if if_none_match else value
    if if_none_match and matches_etag(if_none_match, entry.etag):
        return Form.NOT_MODIFIED
    if accept_encoding and len(entry.body) >= SMALLEST_COMPRESSED and prefers_gzip(accept_encoding):
        return Form.GZIP
    return Form.PLAIN


def _end(answer: Answer, range_: TimeRange, now: datetime) -> bytes:
    """Return what follows the data: the metadata, alone different in every response."""
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
    return b',"metadata":%b}' % orjson.dumps(metadata, option=orjson.OPT_UTC_Z)


def cache_status(state: CacheState, ttl: int, *, stored: bool = True) -> bytes:
    """Return the state of an answer as RFC 9211 has it; `ttl`: seconds for which it stays fresh."""
    match state:
        case CacheState.MISS:
            return f"{CACHE_NAME}; fwd=miss{'; stored' if stored else ''}".encode()
        case CacheState.BYPASS:
            return f"{CACHE_NAME}; fwd=bypass".encode()
        case CacheState.HIT | CacheState.STALE:
            return f"{CACHE_NAME}; hit; ttl={ttl}".encode()
