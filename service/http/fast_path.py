"""Answers what is cached ahead of FastAPI, whose work per request costs several times what the answer does.

It bypasses no authentication, limit or validation. It knows only request targets (path and query string,
exactly) whose parameters the ordinary route has checked before, in this process. It uses the code of that
route to check keys (`service.http.auth`), get answers (`service.stats`) and render (`service.http.envelope`).
It also waits for answers that are not cached, so that a thousand requests for one computation cost little.
Everything else it hands on: each refusal and each error is the ordinary route's.
"""

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.http import access_log as access
from chat_stats.service.http.access_log import STARTED
from chat_stats.service.http.auth import brings_key
from chat_stats.service.http.envelope import Envelope, Form, Rendered, form_of
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
#: Rendered responses kept.
RENDERED = 16

#: Key in the scope of a request of the error that the ordinary route is to answer with.
FAILURE = "chat_stats.failure"

_METHODS = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Target:
    query: Query
    key: str


class FastPath:
    """The ASGI layer. It hands everything on unless it is open: it then knows no target."""

    def __init__(
        self, app: ASGIApp, settings: Settings, stats: Stats, limiter: RateLimiter, envelope: Envelope
    ) -> None:
        self._app = app
        self._api_keys = settings.api_keys
        self._stats = stats
        self._limiter = limiter
        self._envelope = envelope
        self._log = settings.access_log
        self._is_open = False
        self._targets: dict[tuple[str, bytes], Target] = {}
        self._rendered: dict[tuple[str, Form], tuple[Rendered, Answer]] = {}
        self._rendered_until = 0.0

    def open(self) -> None:
        # Where each request is counted, the route does it.
        self._is_open = not self._limiter.limits(Work.REQUESTS)

    def close(self) -> None:
        self._is_open = False
        self._targets.clear()

    def learn(self, scope: Scope, query: Query) -> None:
        """Remember that this request is valid, and that it asks for `query`."""
        if not self._is_open or len(scope["query_string"]) > LONGEST_QUERY_STRING:
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
                found = self._recent(scope, target) or await self._read(scope, target, started)
        if target is None or found is None:
            await self._app(scope, receive, send)
            return
        # Every answer of the fast path passes here, and nothing else does.
        rendered, answer = found
        body = b"" if scope["method"] == "HEAD" else rendered.body
        identity = scope.get(IDENTITY) or (name(scope) if self._log else sent(scope) or made())
        # A copy: a layer in front may add headers of its own.
        headers = [*rendered.headers, (REQUEST_ID, identity)]
        await send({"type": "http.response.start", "status": rendered.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        seconds = time.perf_counter() - started
        method = answer.entry.method
        metrics.answered(target.query.aggregation, answer.state, method, rendered.status, seconds)
        if self._log:
            access.log(scope, answer.state, method, rendered.status, seconds)

    def _recent(self, scope: Scope, target: Target) -> tuple[Rendered, Answer] | None:
        """Answer from the local copy, without waiting; None if it is not recent enough."""
        entry = self._stats.recent(target.key)
        if entry is None:
            return None
        return self._render(scope, target, Answer(entry, CacheState.HIT))

    async def _read(self, scope: Scope, target: Target, started: float) -> tuple[Rendered, Answer] | None:
        """Read or compute the answer as the ordinary route does; None if that is to answer with the error."""
        name(scope)  # for the log lines that this causes
        try:
            answer = await self._stats.read(
                target.query, admit=lambda: self._limiter.spend(Work.MISSES, scope)
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the ordinary route tells the client
            scope[FAILURE], scope[STARTED] = error, started
            return None
        return self._render(scope, target, answer)

    def _render(self, scope: Scope, target: Target, answer: Answer) -> tuple[Rendered, Answer]:
        form = form_of(scope["headers"], answer.entry)
        now = time.monotonic()
        if now >= self._rendered_until or len(self._rendered) >= RENDERED:
            self._rendered.clear()
            self._rendered_until = now + RENDERED_SECONDS
        known = self._rendered.get((target.key, form))
        if known is not None and known[1].entry is answer.entry and known[1].state is answer.state:
            return known
        found = self._envelope.render(form, target.query.range, answer), answer
        self._rendered[target.key, form] = found
        return found
