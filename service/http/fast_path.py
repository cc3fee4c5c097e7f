"""Answers what is cached ahead of FastAPI, whose work per request costs several times what the answer does.

It bypasses no authentication, limit or validation. It knows only request targets (path and query string,
exactly) whose parameters the ordinary route has checked before, in this process. To keys of different scopes
the same target means different things, so that each learns it for itself. It uses the code of that route to
check keys (`service.http.auth`), get answers (`service.stats`) and render (`service.http.envelope`).
Everything else it hands on: each refusal and each error is the ordinary route's.

Under `chat-stats serve` the HTTP protocol answers hits with what is prepared here (`service.http.hits`). The
ASGI layer is left with hits under other servers, bodies too large to be written at once, and requests that
wait for an answer that is not cached: a thousand requests for one computation cost little.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.scopes import Scope as KeyScope
from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.errors import StillComputing, TooManyRequests
from chat_stats.service.http import access_log as access
from chat_stats.service.http.access_log import STARTED
from chat_stats.service.http.auth import READER, Headers, Reader, ReadKeys
from chat_stats.service.http.envelope import Envelope, Form, Rendered, form_of, is_made
from chat_stats.service.http.negotiation import Wishes, wishes_of
from chat_stats.service.http.rate_limit import RateLimiter, Work
from chat_stats.service.observability import metrics
from chat_stats.service.observability.request_id import HEADER as REQUEST_ID
from chat_stats.service.observability.request_id import IDENTITY, made, name, sent
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Answer, Stats

#: Targets known at a time; the oldest makes way, and is learned again from its next request.
CAPACITY = 4096
#: Longest query string in bytes of a target that is remembered: longer ones hardly come twice.
LONGEST_QUERY_STRING = 1024
#: Seconds for which rendered bytes are sent again: age and timestamp in them are at most that old.
RENDERED_SECONDS = 0.01
#: Rendered responses kept, and from how many bytes of them on no further one is.
RENDERED = 16
RENDERED_BYTES = 1_000_000
#: Bytes of a body that are handed to the server at a time: between two parts it serves other requests.
PART_BYTES = 64 * 1024

#: Key in the scope of a request of the error that the ordinary route is to answer with.
FAILURE = "chat_stats.failure"
#: Key in the scope of a request of the answer that was read for it.
READ = "chat_stats.read"

_METHODS = frozenset(("GET", "HEAD"))

#: What a request asks for: its path and query string, within the scope of its key.
Asked = tuple[str, bytes, KeyScope]


def asked(scope: Scope, reader: Reader) -> Asked:
    """Return what the request with this ASGI scope asks for."""
    return scope["path"], scope["query_string"], reader.scope


@dataclass(slots=True, eq=False)
class Target:
    query: Query
    key: str
    #: False once the fast path has forgotten it.
    is_known: bool = True


@dataclass(slots=True, eq=False)
class Prepared:
    """A rendered answer, sent to all who ask for the same within `RENDERED_SECONDS`."""

    rendered: Rendered
    answer: Answer
    #: The status line and all headers but the request id, as `service.http.hits` writes them.
    head: bytes = b""
    #: The server's own headers that are part of the head.
    head_with: object = None


class FastPath:
    """What the process knows, and the ASGI layer. It hands everything on unless it is open."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        stats: Stats,
        read_keys: ReadKeys,
        limiter: RateLimiter,
        envelope: Envelope,
    ) -> None:
        self._app = app
        self._read_keys = read_keys
        self._stats = stats
        self._limiter = limiter
        self._envelope = envelope
        self.logs = settings.access_log
        self._is_open = False
        self._targets: dict[Asked, Target] = {}
        self._prepared: dict[tuple[str, Form], Prepared] = {}
        self._prepared_until = 0.0
        self._prepared_bytes = 0
        #: Requests that wait for the same answer share one read.
        self._reads = SingleFlight[Answer]()

    def open(self) -> None:
        # Where each request is counted, the route does it.
        self._is_open = not self._limiter.limits(Work.REQUESTS)

    async def close(self) -> None:
        self._is_open = False
        for target in self._targets.values():
            target.is_known = False
        self._targets.clear()
        await self._reads.close()

    def learn(self, scope: Scope, reader: Reader, query: Query) -> None:
        """Remember that this request is valid, and that it asks for `query` within the reader's scope."""
        if not self._is_open or len(scope["query_string"]) > LONGEST_QUERY_STRING:
            return
        self._targets.setdefault(asked(scope, reader), Target(query, query.key()))
        if len(self._targets) > CAPACITY:
            self._targets.pop(next(iter(self._targets))).is_known = False

    def reader(self, headers: Headers) -> Reader | None:
        """Return who reads; None if the ordinary route has to find that out, or refuses it."""
        return self._read_keys.known_reader(headers)

    def reads_on(self, reader: Reader) -> bool:
        """Return whether a reader may still read what it might."""
        return self._read_keys.reads_on(reader)

    def target(self, of: Asked) -> Target | None:
        """Return the target of a GET or HEAD, if it is known."""
        return self._targets.get(of)

    def hit(self, target: Target, wishes: Wishes) -> Prepared | None:
        """Return the response from the local copy, a hit or stale.

        None if the copy is not recent or must be compressed first.
        """
        state, entry = CacheState.HIT, self._stats.recent(target.key)
        if entry is None:
            state, entry = CacheState.STALE, self._stats.recent_stale(target.query)
        if entry is None:
            return None
        form = form_of(wishes, entry)
        known = self._known(target, form, entry, state)
        if known is None and is_made(form, entry):
            return self._render(target, form, Answer(entry, state))
        return known

    def prepared(self, target: Target, wishes: Wishes, answer: Answer) -> Prepared | None:
        """Return the response with an answer that was read; None if that must be compressed first."""
        form = form_of(wishes, answer.entry)
        known = self._known(target, form, answer.entry, answer.state)
        if known is None and is_made(form, answer.entry):
            return self._render(target, form, answer)
        return known

    def read_under_way(self, of: Asked) -> asyncio.Task[Answer] | None:
        """Return the read that requests for this target share now, if they do."""
        target = self._targets.get(of)
        return None if target is None else self._reads.under_way(target.key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = scope.get(STARTED) or time.perf_counter()
        prepared = target = None
        if scope["type"] == "http" and scope["method"] in _METHODS and FAILURE not in scope:
            reader = self.reader(scope["headers"])
            target = None if reader is None else self.target(asked(scope, reader))
            if target is not None:
                scope[READER] = reader  # whom limits are about
                wishes = wishes_of(scope["headers"])
                prepared = self.hit(target, wishes) or await self._read(scope, target, wishes, started)
        if target is None or prepared is None:
            await self._app(scope, receive, send)
            return
        # Every answer of this layer passes here, and nothing else does.
        rendered, answer = prepared.rendered, prepared.answer
        body = b"" if scope["method"] == "HEAD" else rendered.body
        identity = scope.get(IDENTITY) or (name(scope) if self.logs else sent(scope["headers"]) or made())
        # A copy: a layer in front may add headers of its own.
        headers = [*rendered.headers, (REQUEST_ID, identity)]
        await send({"type": "http.response.start", "status": rendered.status, "headers": headers})
        await _send_body(send, body)
        seconds = time.perf_counter() - started
        metrics.answered(target.query.aggregation, answer.state, rendered.method, rendered.status, seconds)
        if self.logs:
            access.log_scope(scope, answer.state, rendered.method, rendered.status, seconds)

    async def _read(self, scope: Scope, target: Target, wishes: Wishes, started: float) -> Prepared | None:
        """Read or compute the answer as the ordinary route does; None if that is to answer with the error."""
        name(scope)  # for the log lines that this causes
        try:
            answer = scope.get(READ) or await self._shared_read(scope, target)
            form = form_of(wishes, answer.entry)
            await self._envelope.make(form, answer.entry)
        except Exception as error:  # noqa: BLE001  whatever it is, the ordinary route tells the client
            scope[FAILURE], scope[STARTED] = error, started
            return None
        known = self._known(target, form, answer.entry, answer.state)
        return known or self._render(target, form, answer)

    async def _shared_read(self, scope: Scope, target: Target) -> Answer:
        """Read for all requests that wait for this answer: a wait of one's own costs 0.1 ms."""

        def read() -> Coroutine[Any, Any, Answer]:
            return self._stats.read(target.query, admit=lambda: self._limiter.spend(Work.MISSES, scope))

        leads = target.key not in self._reads
        try:
            return await self._reads.run(target.key, read)
        except (TooManyRequests, StillComputing):
            if leads:
                raise
            # It was the first client that was over its limit, or has waited longest.
            return await read()

    def _known(self, target: Target, form: Form, entry: Entry, state: CacheState) -> Prepared | None:
        known = self._prepared.get((target.key, form))
        if (
            known is not None
            and known.answer.entry is entry
            and known.answer.state is state
            and time.monotonic() < self._prepared_until
        ):
            return known
        return None

    def _render(self, target: Target, form: Form, answer: Answer) -> Prepared:
        now = time.monotonic()
        is_full = len(self._prepared) >= RENDERED or self._prepared_bytes >= RENDERED_BYTES
        if now >= self._prepared_until or is_full:
            self._prepared.clear()
            self._prepared_until = now + RENDERED_SECONDS
            self._prepared_bytes = 0
        prepared = Prepared(self._envelope.render(form, target.query.range, answer), answer)
        self._prepared_bytes += len(prepared.rendered.body)
        self._prepared[target.key, form] = prepared
        return prepared


async def _send_body(send: Send, body: bytes) -> None:
    """Send a body; a large one in parts, so that other requests are served between them."""
    start = 0
    while len(body) - start > PART_BYTES:
        part = body[start : start + PART_BYTES]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0)
        start += PART_BYTES
    await send({"type": "http.response.body", "body": body[start:]})
