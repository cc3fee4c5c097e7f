"""Answers what is cached ahead of FastAPI, whose machinery costs several times what the answer does.

It is no second door. It knows only request targets (path and query string, to the letter) for which the
ordinary route has checked the parameters and given an answer before, in this process; it asks for the same
keys (`service.auth`) and renders with the same code (`service.envelope`). Whatever else comes, or has no
answer here, is handed on: every refusal and every error is the ordinary route's.
"""

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from service.aggregations import Query
from service.auth import brings_key
from service.envelope import Envelope, Form, Rendered, form_of
from service.freshness import CacheState
from service.observability import access, metrics
from service.observability.request_id import HEADER as REQUEST_ID
from service.observability.request_id import made, name, sent
from service.settings import Settings
from service.stats import Answer, Stats

#: Targets known at a time; the oldest makes way, and is learned again when it is next asked for.
CAPACITY = 4096
#: Bytes of a query string beyond which a target is not remembered: nobody asks for it twice.
LONGEST_QUERY_STRING = 256


#: For so long the same bytes answer whoever asks the same: age and timestamp are no older than that.
RENDERED_SECONDS = 0.01
#: Responses kept for that.
RENDERED = 16

_METHODS = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Target:
    query: Query
    key: str


class FastPath:
    """The ASGI layer. It hands everything on until `open` has been called."""

    def __init__(self, app: ASGIApp, settings: Settings, envelope: Envelope) -> None:
        self._app = app
        self._api_keys = settings.api_keys
        self._envelope = envelope
        self._log = settings.access_log
        self._stats: Stats | None = None
        self._targets: dict[tuple[str, bytes], Target] = {}
        self._rendered: dict[tuple[str, Form], tuple[Rendered, Answer]] = {}
        self._rendered_until = 0.0

    def open(self, stats: Stats) -> None:
        self._stats = stats

    def close(self) -> None:
        self._stats = None
        self._targets.clear()

    def learn(self, scope: Scope, query: Query) -> None:
        """Remember that the ordinary route has answered this request, and that it asks for `query`."""
        if self._stats is None or len(scope["query_string"]) > LONGEST_QUERY_STRING:
            return
        self._targets[scope["path"], scope["query_string"]] = Target(query, query.key())
        if len(self._targets) > CAPACITY:
            del self._targets[next(iter(self._targets))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        target, found = None, None
        if scope["type"] == "http" and scope["method"] in _METHODS:
            target = self._targets.get((scope["path"], scope["query_string"]))
            if target is not None and (not self._api_keys or brings_key(scope["headers"], self._api_keys)):
                found = self._recent(scope, target) or await self._known(scope, target)
        if target is None or found is None:
            await self._app(scope, receive, send)
            return
        # Every answer of the fast path passes here, and nothing else does.
        rendered, answer = found
        body = b"" if scope["method"] == "HEAD" else rendered.body
        identity = name(scope) if self._log else sent(scope) or made()
        # A copy: who stands before us may add headers of its own.
        headers = [*rendered.headers, (REQUEST_ID, identity)]
        await send({"type": "http.response.start", "status": rendered.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        seconds = time.perf_counter() - started
        method = answer.entry.method
        metrics.answered(target.query.aggregation, answer.state, method, rendered.status, seconds)
        if self._log:
            access.log(scope, answer.state, method, rendered.status, seconds)

    def _recent(self, scope: Scope, target: Target) -> tuple[Rendered, Answer] | None:
        """Answer from this process's own copy, without waiting; None if it is not recent enough."""
        assert self._stats is not None
        entry = self._stats.recent(target.key)
        if entry is None:
            return None
        form = form_of(scope["headers"], entry)
        now = time.monotonic()
        if now >= self._rendered_until or len(self._rendered) >= RENDERED:
            self._rendered.clear()
            self._rendered_until = now + RENDERED_SECONDS
        known = self._rendered.get((target.key, form))
        if known is not None and known[1].entry is entry:
            return known
        answer = Answer(entry, CacheState.HIT)
        found = self._envelope.render(form, target.query.range, answer), answer
        self._rendered[target.key, form] = found
        return found

    async def _known(self, scope: Scope, target: Target) -> tuple[Rendered, Answer] | None:
        """Look into Redis, once for all who ask at the same time; None if it is not there either."""
        assert self._stats is not None
        answer = await self._stats.known(target.query)
        if answer is None:
            return None
        return self._envelope.respond(scope["headers"], target.query.range, answer), answer
