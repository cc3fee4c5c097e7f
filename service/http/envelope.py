"""Renders an answer: the envelope around its data, and the headers that go with it.

The ordinary route (`service.routes.stats`) and the fast path (`service.http.fast_path`) both render here, so
that their responses are the same.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database.clock import Clock
from chat_stats.service.http.negotiation import Wishes, matches_etag, wishes_of
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Answer

#: Name of this cache in the Cache-Status header (RFC 9211).
CACHE_NAME = "chat-stats"

#: Headers as ASGI has them: names in lower case.
Headers = list[tuple[bytes, bytes]]

#: Bodies of fewer bytes are not compressed: they fit in one packet anyway.
SMALLEST_COMPRESSED = 1024
#: Bodies from this many bytes on take so long to compress (gzip: 1 ms) that a thread does it, and are sent as
#: zstd to clients that accept it.
LARGE = 16 * 1024


class Form(StrEnum):
    """What a request gets of an answer."""

    PLAIN = "plain"
    GZIP = "gzip"
    ZSTD = "zstd"
    NOT_MODIFIED = "not modified"


_CODINGS = {form.value: form for form in (Form.GZIP, Form.ZSTD)}


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
            f"{'private' if settings.needs_key else 'public'}, max-age=%d, "
            f"stale-while-revalidate={int(settings.fresh_seconds)}, "
            f"stale-if-error={int(settings.stale_seconds)}"
        ).encode()
        # What an answer depends on. CORSMiddleware adds Origin where origins are configured.
        self._vary = (
            b"Accept-Encoding, Authorization, X-API-Key" if settings.needs_key else b"Accept-Encoding"
        )
        self._compressions = SingleFlight[object]()

    async def respond(
        self, request_headers: Iterable[tuple[bytes, bytes]], range_: TimeRange, answer: Answer
    ) -> Rendered:
        """Return the response to a GET or HEAD with these headers."""
        form = form_of(wishes_of(request_headers), answer.entry)
        await self.make(form, answer.entry)
        return self.render(form, range_, answer)

    async def make(self, form: Form, entry: Entry) -> None:
        """Compress a large body in a thread, so that other requests do not wait."""
        if not is_made(form, entry):
            await self._compressions.run(
                (id(entry), form), lambda: asyncio.to_thread(getattr, entry, form.value)
            )

    def render(self, form: Form, range_: TimeRange, answer: Answer) -> Rendered:
        entry = answer.entry
        now = self._clock.now()
        headers = self._headers(answer, int(entry.age_seconds(now)))
        if form is Form.NOT_MODIFIED:
            return Rendered(304, headers, b"", answer.state, entry.method)
        end = _end(answer, range_, now)
        if form is Form.PLAIN:
            body = b"".join((Entry.OPENING, entry.body, end))
        else:
            body = (entry.gzip if form is Form.GZIP else entry.zstd).ended_with(end)
            headers.append((b"content-encoding", form.encode()))
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


def form_of(wishes: Wishes, entry: Entry) -> Form:
    """Choose by what the client has already and which encodings it accepts."""
    if wishes.if_none_match and matches_etag(wishes.if_none_match, entry.etag):
        return Form.NOT_MODIFIED
    size = len(entry.body)
    if wishes.codings and size >= SMALLEST_COMPRESSED:
        if size >= LARGE:
            return _CODINGS[wishes.codings[0]]
        if "gzip" in wishes.codings:
            return Form.GZIP
    return Form.PLAIN


def is_made(form: Form, entry: Entry) -> bool:
    """Return whether the entry can be rendered in this form without delay."""
    return form in (Form.PLAIN, Form.NOT_MODIFIED) or len(entry.body) < LARGE or entry.has_made(form)


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
    if entry.consistency is not None:
        metadata["consistency"] = entry.consistency
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
