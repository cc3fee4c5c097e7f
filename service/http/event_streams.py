"""Server-Sent Events: tells clients of each generation that is published, over answers that stay open.

    retry: 3000

    id: 20260104T120000.000000Z-3f9a1c
    event: generation
    data: {"generation":"20260104T120000.000000Z-3f9a1c","computed_at":"2026-01-04T12:00:00Z"}

    id: 20260104T120001.000000Z-8d20e7
    event: totals
    data: {"generation":"20260104T120001.000000Z-8d20e7", ..., "windows":["24h"]}

    : still here

Five thousand clients of one process must cost no query, no look at Redis and no timer each: the process is
told once (`service.cache.announcements`), makes the bytes of an event once, and wakes its streams, some at a
time. What a stream has not sent yet is not kept for it: it sends the latest generation when its client reads
again, or ends when that takes too long. (The library sse-starlette has a task for heartbeats and a queue for
each client, and finds out about a stop by a timer.)
"""

import asyncio
import random
import re
import time
from contextlib import suppress
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chat_stats.service.cache.entry import Generation
from chat_stats.service.errors import TooManyStreams
from chat_stats.service.http.access_log import STREAMED
from chat_stats.service.observability import metrics

#: Seconds between two comments to a client without events: proxies end answers that are silent for a minute.
HEARTBEAT_SECONDS = 15.0
#: Seconds within which a client must have read what was sent.
SEND_SECONDS = 20.0
#: Seconds after which a stream ends, give or take a fifth. Its client comes back: with a key that is checked
#: again, and perhaps to another process.
LIFETIME_SECONDS = 900.0
#: Milliseconds after which a client that lost its stream comes back; twice that at most, so that all do not
#: come at once.
RETRY_MS = 2000
#: Streams that are woken in one turn of the event loop: other requests are served between two turns.
WOKEN_AT_A_TIME = 50

HEARTBEAT = b": still here\n\n"

#: The events: a refresh was published; totals of some windows were, between two refreshes.
GENERATION, TOTALS = "generation", "totals"

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # no-transform: a proxy that compresses would hold events back.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}

_GENERATION = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{6}")


class EventStreams:
    """All streams of this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[EventStream] = set()
        self._news = asyncio.Event()
        self.beats = 0
        #: The event of the last refresh, and that of the last totals between two: name and bytes of each.
        self.events: dict[str, tuple[str, bytes]] = {}
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def start(self, last_event_id: str | None) -> "EventStream":
        """Return the answer to a client that has seen `last_event_id`; raises `TooManyStreams`."""
        if self.is_stopping or len(self._open) >= self._most:
            raise TooManyStreams("too many clients listen already; ask for the numbers instead")
        return EventStream(self, last_event_id)

    def publish(self, generation: Generation) -> None:
        """Send an event to all clients."""
        name = generation.generation
        data: dict[str, Any] = {"generation": name, "computed_at": generation.computed_at}
        kind = GENERATION
        if generation.totals:
            kind, data["windows"] = TOTALS, generation.totals
        elif self.events.get(TOTALS, (name,))[0] < name:  # a refresh has them too
            del self.events[TOTALS]
        text = orjson.dumps(data, option=orjson.OPT_UTC_Z)
        self.events[kind] = name, b"id: %b\nevent: %b\ndata: %b\n\n" % (name.encode(), kind.encode(), text)
        self._news.set()

    async def keep(self) -> None:
        """Wake the streams for events and heartbeats, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                self.beats += 1
            self._news.clear()
            for number, stream in enumerate(list(self._open)):
                stream.wake.set()
                if number % WOKEN_AT_A_TIME == WOKEN_AT_A_TIME - 1:
                    await asyncio.sleep(0)

    def stop(self) -> None:
        """End all streams, and start no more."""
        self.is_stopping = True
        for stream in self._open:
            stream.wake.set()

    def add(self, stream: "EventStream") -> None:
        self._open.add(stream)

    def discard(self, stream: "EventStream") -> None:
        self._open.discard(stream)


class EventStream(Response):
    """One of them: an ASGI answer."""

    def __init__(self, streams: EventStreams, last_event_id: str | None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self.wake = asyncio.Event()
        self._streams = streams
        self._seen = last_event_id if last_event_id and _GENERATION.fullmatch(last_event_id) else ""
        self._ends_at = time.monotonic() + LIFETIME_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
        self._has_left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[STREAMED] = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        leaving = asyncio.create_task(self._notice_leaving(receive))
        self._streams.add(self)
        try:
            await self._send(send)
        except TimeoutError:
            # Without the end that HTTP asks for: the client does not read it either.
            metrics.event_stream_dropped()
        except OSError:
            pass  # what some servers raise when the client has left
        finally:
            self._streams.discard(self)
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving

    async def _send(self, send: Send) -> None:
        await _within_time(send, b"retry: %d\n\n" % random.randint(RETRY_MS, 2 * RETRY_MS), more=True)  # noqa: S311
        beat = self._streams.beats
        while self._goes_on():
            self.wake.clear()
            due, beat = self._due(beat), self._streams.beats
            if due:
                await _within_time(send, due, more=True)
            await self.wake.wait()
        if not self._has_left:
            await _within_time(send, b"", more=False)

    def _goes_on(self) -> bool:
        return not (self._has_left or self._streams.is_stopping or time.monotonic() > self._ends_at)

    def _due(self, beat: int) -> bytes:
        # Names of generations sort by time: a client may have seen a later one, in another process.
        due = b""
        for name, event in sorted(self._streams.events.values()):
            if self._seen < name:
                self._seen = name
                due += event
        if due:
            return due
        return HEARTBEAT if beat != self._streams.beats else b""

    async def _notice_leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        self.wake.set()


async def _within_time(send: Send, body: bytes, *, more: bool) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": more})
