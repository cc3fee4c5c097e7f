"""The id of a request: from `X-Request-ID` when it is sane, else made; in the answer and in each log line."""

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"

#: Where in the scope of a request its id is, once it has one.
IDENTITY = "chat_stats.request_id"

#: The id of the request that the current task works for.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

#: Printable ASCII without spaces, of a bounded length: safe in a header and in a line of a log.
_SANE = re.compile(rb"[!-~]{1,128}")


class RequestId:
    """Gives each request that passes an id. A layer in front that logs nothing needs none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = name(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, identity)]
            await send(message)

        await self._app(scope, receive, send_with_id)


def name(scope: Scope) -> bytes:
    """Return the id of a request from now on: the one that it has, the client's, else a new one."""
    identity: bytes = scope.get(IDENTITY) or sent(scope["headers"]) or made()
    scope[IDENTITY] = identity
    # Never reset: the server's own lines about this request, in the same task, belong to it too.
    request_id.set(identity.decode())
    return identity


def made() -> bytes:
    return b"%016x" % random.getrandbits(64)


def sent(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the id that the client sent, if it is sane."""
    for header, value in headers:
        if header == HEADER:
            return value if _SANE.fullmatch(value) else None
    return None
