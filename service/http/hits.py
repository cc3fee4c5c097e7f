"""What the HTTP protocol needs to answer a hit by itself: requests as it can answer them, and their bytes.

Known targets, the key check, the local copy and the rendering are the fast path's (`service.http.fast_path`).

The bytes of a whole request that was answered are remembered: a client sends the same ones again on a
connection that stays open, and they then need no parsing. A request that differs in a byte is parsed.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from chat_stats.service.http import access_log as access
from chat_stats.service.http.auth import Reader
from chat_stats.service.http.envelope import Headers, Rendered
from chat_stats.service.http.fast_path import FastPath, Prepared, Target
from chat_stats.service.http.negotiation import Wishes, wishes_of
from chat_stats.service.http.waiting import Waiter, Waiting
from chat_stats.service.observability import metrics
from chat_stats.service.observability.request_id import HEADER as REQUEST_ID
from chat_stats.service.observability.request_id import made, request_id, sent

#: Bytes of a body that are written at once. The ASGI layer sends a larger one in parts.
LARGEST_AT_ONCE = 256 * 1024
#: Bytes of a body up to which it is joined with the head: above, copying costs more than a second buffer.
LARGEST_JOINED = 8 * 1024

#: Requests that are remembered, their bytes together, and those of one.
REMEMBERED = 2048
REMEMBERED_BYTES = 1_000_000
LONGEST_REMEMBERED = 2048

#: A request with one of these may have a body, or ask for another protocol.
_NOT_PLAIN = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
#: By these uvicorn finds the client that the access log names.
_FORWARDED = frozenset((b"x-forwarded-for", b"x-forwarded-proto"))

_METHODS = {b"GET": "GET", b"HEAD": "HEAD"}


@dataclass(frozen=True, slots=True)
class Request:
    """What the answer of a request depends on."""

    method: str
    url: bytes
    reader: Reader
    target: Target
    wishes: Wishes
    #: The id that the client sent.
    identity: bytes | None


class Hits:
    """The requests that can be answered where they arrive. One per process."""

    def __init__(self, fast_path: FastPath) -> None:
        self._fast_path = fast_path
        self._logs = fast_path.logs
        self._waiting = Waiting(fast_path)
        # Of a plain dict, the first key is slow to find where many before it were deleted.
        self._remembered: OrderedDict[bytes, Request] = OrderedDict()
        self._remembered_bytes = 0

    def read(self, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Request | None:
        """Return the request if it is one for a known target, and brings a key where one is needed."""
        path, _, query_string = url.partition(b"?")
        # Only a target that reads the same in ASGI's scope: no escapes, no fragment, no scheme and host.
        if method not in _METHODS or not path.isascii() or b"%" in path or b"#" in url:
            return None
        for name, _ in headers:
            if name in _NOT_PLAIN or (self._logs and name in _FORWARDED):
                return None
        reader = self._fast_path.reader(headers)
        if reader is None:
            return None
        target = self._fast_path.target((path.decode("ascii"), query_string, reader.scope))
        if target is None:
            return None
        return Request(_METHODS[method], url, reader, target, wishes_of(headers), sent(headers))

    def answer(
        self,
        request: Request,
        transport: asyncio.Transport,
        server_headers: Headers,
        client: tuple[str, int] | None,
    ) -> bool:
        """Write the answer, count and log it; return False if the request has to take the ordinary way."""
        started = time.perf_counter()
        prepared = self._fast_path.hit(request.target, request.wishes)
        if prepared is None:
            return False
        return self.write(request, prepared, started, transport, server_headers, client)

    def write(
        self,
        request: Request,
        prepared: Prepared,
        started: float,
        transport: asyncio.Transport,
        server_headers: Headers,
        client: tuple[str, int] | None,
    ) -> bool:
        """Write a prepared response with one call; return False if it has to take the ordinary way."""
        if prepared.head_with is not server_headers:
            prepared.head, prepared.head_with = _head(prepared.rendered, server_headers), server_headers
        rendered = prepared.rendered
        body = b"" if request.method == "HEAD" else rendered.body
        if not prepared.head or len(body) > LARGEST_AT_ONCE:
            return False
        identity = request.identity or made()
        if len(body) <= LARGEST_JOINED:
            transport.write(b"%b%b\r\n\r\n%b" % (prepared.head, identity, body))
        else:
            transport.writelines((b"%b%b\r\n\r\n" % (prepared.head, identity), body))
        seconds = time.perf_counter() - started
        state = prepared.answer.state
        metrics.answered(request.target.query.aggregation, state, rendered.method, rendered.status, seconds)
        if self._logs:
            named = request_id.set(identity.decode())
            access.log(client, request.method, request.url, state, rendered.method, rendered.status, seconds)
            request_id.reset(named)
        return True

    def enter(self, waiter: Waiter) -> bool:
        """Have a request wait for the answer to another one; return False if it can take no part in that."""
        scope = waiter.scope
        if scope["method"] not in _METHODS.values() or scope["http_version"] != "1.1":
            return False
        if self._logs and any(name in _FORWARDED for name, _ in scope["headers"]):
            return False
        self._waiting.enter(waiter)
        return True

    def remembered(self, data: bytes) -> Request | None:
        """Return the request whose bytes these are, no fewer and no more."""
        request = self._remembered.get(data) if len(data) <= LONGEST_REMEMBERED else None
        if request is not None and not (request.target.is_known and self._fast_path.reads_on(request.reader)):
            del self._remembered[data]
            self._remembered_bytes -= len(data)
            return None
        return request

    def remember(self, data: bytes, request: Request) -> None:
        """Remember the bytes of a whole request. An id is new in each request: those are not kept."""
        if request.identity is not None or len(data) > LONGEST_REMEMBERED or data in self._remembered:
            return
        self._remembered[data] = request
        self._remembered_bytes += len(data)
        while len(self._remembered) > REMEMBERED or self._remembered_bytes > REMEMBERED_BYTES:
            oldest, _ = self._remembered.popitem(last=False)
            self._remembered_bytes -= len(oldest)


def _head(rendered: Rendered, server_headers: Headers) -> bytes:
    """Return the head up to the value of the request's id, its last header; empty if the server drains."""
    if any(name == b"connection" for name, _ in server_headers):
        return b""
    status = HTTPStatus(rendered.status)
    headers = b"".join(b"%b: %b\r\n" % header for header in (*server_headers, *rendered.headers))
    return b"HTTP/1.1 %d %b\r\n%b%b: " % (status, status.phrase.encode(), headers, REQUEST_ID)
