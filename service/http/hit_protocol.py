"""uvicorn's protocol, with hits answered where their bytes arrive: no task, no ASGI scope, one write.

That is decided when the parser reports the end of a request's headers: GET or HEAD, HTTP/1.1, a connection
that stays open, no body, come as one piece of data with nothing before and behind it, and no answer before it
that is not sent yet. Everything else takes uvicorn's way.
"""

import asyncio
import time
from typing import Any

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chat_stats.service.http.auth import READER
from chat_stats.service.http.fast_path import Prepared, Target
from chat_stats.service.http.hits import Hits, Request
from chat_stats.service.http.negotiation import Wishes
from chat_stats.service.observability.request_id import sent


class HitProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: None: all requests of this connection take uvicorn's way, as where its own limit or log is in use.
        self._hits = None if self.limit_concurrency or self.config.access_log else _hits_of(self.app)
        #: Whether the parser stands between two messages.
        self._between = True
        #: Whether the data that the parser is fed is one head, no more and no less.
        self._is_whole = False
        #: The message that the parser is in, or was in last, if it was answered here.
        self._request: Request | None = None
        #: When a hit was the last that was received, in the loop's time.
        self._hit_at: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def answers_again(self, data: bytes) -> bool:
        """Answer these bytes if they are a request that was answered here before; else return False."""
        if not self._between or self._hits is None:
            return False
        request = self._hits.remembered(data)
        if request is None or not self._answers(request):
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        return True

    def data_received(self, data: bytes) -> None:
        # The only empty line is the last one, in whatever way lines may end.
        self._is_whole = self._between and data.find(b"\n\r\n") == len(data) - 3 and b"\n\n" not in data
        self._request = None
        self._hit_at = None
        super().data_received(data)
        if self._request is not None and self._hits is not None:
            self._hits.remember(data, self._request)

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._hits is not None:
            if not self.parser.should_keep_alive() or self.parser.should_upgrade():
                self._hits = None  # what follows on this connection is left to uvicorn
            elif self._is_whole and self.parser.get_http_version() == "1.1":
                request = self._hits.read(self.parser.get_method(), self.url, self.headers)
                if request is not None and self._answers(request):
                    self._request = request
                    return
        self._hit_at = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._between = True
        if self._request is None:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._hits is None or not self._hits.enter(WaitingCycle(self, cycle, self._hits)):
            self.start_asgi_task(cycle)

    def start_asgi_task(self, cycle: RequestResponseCycle) -> None:
        """Have uvicorn answer."""
        super()._start_asgi_task(cycle, self.app)

    def _answers(self, request: Request) -> bool:
        """Answer the request, unless it has to wait or to take uvicorn's way."""
        cycle: RequestResponseCycle | None = self.cycle
        if (
            self._hits is None
            or (cycle is not None and not cycle.response_complete)
            or not self.can_write()
            or not self._hits.answer(request, self.transport, self.server_state.default_headers, self.client)
        ):
            return False
        self.server_state.total_requests += 1
        self._hit_at = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)
        return True

    def can_write(self) -> bool:
        """Return whether the client reads what it gets."""
        return not (self.flow.write_paused or self.transport.is_closing())

    def _close_if_idle(self) -> None:
        """Close when nothing came after a hit for as long as a connection may lie idle.

        One timer sees to many hits: to set one for each would cost more than all else that is done here.
        """
        self._idle_timer = None
        if self._hit_at is None or self.transport.is_closing():
            return
        seconds = self._hit_at + self.timeout_keep_alive - self.loop.time()
        if seconds > 0:
            self._idle_timer = self.loop.call_later(seconds, self._close_if_idle)
        else:
            self.transport.close()


class WaitingCycle:
    """A request that waits for the answer to another one, for which it needs no task."""

    __slots__ = ("_cycle", "_hits", "_protocol", "began_at", "scope")

    def __init__(self, protocol: HitProtocol, cycle: RequestResponseCycle, hits: Hits) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._hits = hits
        self.scope: Scope = cycle.scope  # type: ignore[assignment]
        self.began_at = time.perf_counter()

    def start(self) -> None:
        self._protocol.start_asgi_task(self._cycle)

    def answer(self, target: Target, wishes: Wishes, prepared: Prepared) -> bool:
        cycle, protocol, scope = self._cycle, self._protocol, self.scope
        if not cycle.keep_alive or cycle.disconnected or not protocol.can_write():
            return False
        url = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        request = Request(scope["method"], url, scope[READER], target, wishes, sent(scope["headers"]))
        headers = protocol.server_state.default_headers
        if not self._hits.write(
            request, prepared, self.began_at, protocol.transport, headers, protocol.client
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        cycle.on_response = lambda: None  # so that nothing holds the connection when it has ended
        return True


def _hits_of(app: Any) -> Hits | None:
    """Return the hits of the application that a request would reach next, and of no other.

    A layer around it that is not known here, such as one that checks something of its own, must see every
    request.
    """
    if isinstance(app, ProxyHeadersMiddleware):  # it only finds out the client
        app = app.app
    hits = getattr(app, "hits", None)
    return hits if isinstance(hits, Hits) else None
