"""Answers what is cached ahead of FastAPI, whose machinery costs several times what the answer does.

It is no second door. It knows only request targets (path and query string, to the letter) for which the
ordinary route has checked the parameters and given an answer before, in this process; it asks for the same
keys (`service.auth`) and renders with the same code (`service.envelope`). Whatever else comes, or has no
answer here, is handed on: every refusal and every error is the ordinary route's.
"""

from collections import OrderedDict
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from service.aggregations import Query
from service.auth import brings_key
from service.envelope import Envelope
from service.settings import Settings
from service.stats import Answer, Stats

#: Targets known at a time; the one not asked for the longest makes way.
CAPACITY = 4096
#: Bytes of a query string beyond which a target is not remembered: nobody asks for it twice.
LONGEST_QUERY_STRING = 256


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
        self._stats: Stats | None = None
        self._targets: OrderedDict[tuple[str, bytes], Target] = OrderedDict()

    def open(self, stats: Stats) -> None:
        self._stats = stats

    def close(self) -> None:
        self._stats = None

    def learn(self, scope: Scope, query: Query) -> None:
        """Remember that the ordinary route has answered this request, and that it asks for `query`."""
        if len(scope["query_string"]) > LONGEST_QUERY_STRING:
            return
        self._targets[scope["path"], scope["query_string"]] = Target(query, query.key())
        if len(self._targets) > CAPACITY:
            self._targets.popitem(last=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._stats is not None and scope["method"] in ("GET", "HEAD"):
            name = (scope["path"], scope["query_string"])
            target = self._targets.get(name)
            if target is not None and (not self._api_keys or brings_key(scope["headers"], self._api_keys)):
                self._targets.move_to_end(name)
                # Most often without waiting; else one look into Redis for all who ask at the same time.
                answer = self._stats.recent(target.key) or await self._stats.known(target.query)
                if answer is not None:
                    await self._send(scope, send, target, answer)
                    return
        await self._app(scope, receive, send)

    async def _send(self, scope: Scope, send: Send, target: Target, answer: Answer) -> None:
        status, headers, body = self._envelope.respond(
            scope["method"], scope["headers"], target.query.range, answer
        )
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
