"""Counts every HTTP answer, and logs it where the setting `access_log` says so.

An answer that stays open counts when it begins, with the time until then.

What a layer in front answers by itself passes nothing here: it calls `metrics.answered` itself.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_stats.service.observability import metrics
from chat_stats.service.observability.metrics import NONE

logger = logging.getLogger(__name__)

#: Where in the scope of a request its answer's cache state and method are left.
ANSWER = "chat_stats.answer"
#: Where in it an answer says, before its head, that it stays open.
STREAMED = "chat_stats.streamed"
#: Where a layer in front leaves the time at which the request came (`time.perf_counter`), if it took it.
STARTED = "chat_stats.started"


class Access:
    def __init__(self, app: ASGIApp, *, log: bool) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = scope.get(STARTED) or time.perf_counter()
        status = 500  # when the application fails, the answer is made further out

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if STREAMED in scope:
                    metrics.answered(_endpoint(scope), NONE, NONE, status, time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            seconds = time.perf_counter() - started
            cache, method = scope.get(ANSWER, (NONE, NONE))
            if STREAMED not in scope:
                metrics.answered(_endpoint(scope), cache, method, status, seconds)
            if self._log:
                log_scope(scope, cache, method, status, seconds)


def log_scope(scope: Scope, cache: str, method: str, status: int, seconds: float) -> None:
    """Write the line of one answer to an ASGI request."""
    target = scope.get("raw_path", b"") + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    log(scope.get("client"), scope["method"], target, cache, method, status, seconds)


def log(
    client: tuple[str, int] | None,
    http_method: str,
    target: bytes,
    cache: str,
    method: str,
    status: int,
    seconds: float,
) -> None:
    """Write the line of one answer. Its target is as it came, percent-encoded: it cannot break the line."""
    fields = {
        "client": client[0] if client else "-",
        "http_method": http_method,
        "target": target.decode("ascii", "backslashreplace"),
        "status": status,
        "cache": str(cache),
        "method": str(method),
        "duration_ms": round(seconds * 1000, 3),
    }
    logger.info(
        "%(client)s %(http_method)s %(target)s %(status)d %(cache)s %(duration_ms).3f ms",
        fields,
        extra=fields,
    )


def _endpoint(scope: Scope) -> str:
    """The route's name: there are as many as routes, whatever paths clients try."""
    name = getattr(scope.get("route"), "name", None)
    return str(name) if name else "unmatched"
