"""What one connection may ask of a server process: a bounded head, in bounded time, and no large body.

uvicorn's protocol on httptools has no such bounds: a head that never ends would be kept in memory. The errors
are problem+json like all others, also where uvicorn by itself would answer in plain text.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from chat_stats.service.http.hit_protocol import HitProtocol

#: Longest request line and headers together, in bytes.
MAX_HEAD_BYTES = 32 * 1024
#: Longest body in bytes: no endpoint takes one, clients may send an empty JSON document all the same.
MAX_BODY_BYTES = 64 * 1024
#: Seconds that a client may take for the head of a request.
HEAD_SECONDS = 10.0


class _Refused(Exception):
    """The request is out of bounds; the parser reports it like a request that cannot be parsed."""


class BoundedHttpProtocol(HitProtocol):
    """The protocol with bounds: 431 for a long head, 413 for a large body, closed when too slow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaiting_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[HTTPStatus, str] | None = None
        #: The request that is being answered: with pipelining, `cycle` is the last one that was read.
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells the last one that was read
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self.answers_again(data):
            self._head_bytes = 0
            self._stop_timer()
            return
        if self._awaiting_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._awaiting_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
            self.send_400_response("")
        elif self._awaiting_head and self._head_bytes and self._timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        self._awaiting_head = True
        self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # What arrived together with the head may be a body: only a large arrival is worth a look.
        if self._head_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
            self._refuse_head()
            raise _Refused
        self._awaiting_head = False
        self._head_bytes = 0
        self._stop_timer()  # here: the next head is awaited from the end of this very piece of data on
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refusal = (
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body is longer than {MAX_BODY_BYTES} bytes; no endpoint takes one",
            )
            raise _Refused
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._awaiting_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be served and close; in the midst of another answer, only close."""
        if self.transport.is_closing():
            return
        running = self._running
        if running is None or running.response_complete or not running.response_started:
            status, detail = self._refusal or (HTTPStatus.BAD_REQUEST, msg)
            self.transport.write(problem_response(status, detail))
        # No client reads the answers to what came before.
        for cycle in (running, self.cycle):
            if cycle is not None:
                cycle.disconnected = True
        self.transport.close()

    def _refuse_head(self) -> None:
        self._refusal = (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request line and headers are longer than {MAX_HEAD_BYTES} bytes together",
        )

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._head_took_too_long)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_took_too_long(self) -> None:
        self._timer = None
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._start_timer()  # the answer before it is under way still
        elif self._awaiting_head and not self.transport.is_closing():
            self.transport.close()


def problem_response(status: HTTPStatus, detail: str) -> bytes:
    """Return a whole response, after which the connection closes."""
    body = orjson.dumps(
        {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
            "success": False,
        }
    )
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "content-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\n"
        "cache-control: no-store\r\n"
        "connection: close\r\n"
        "\r\n"
    )
    return head.encode() + body
