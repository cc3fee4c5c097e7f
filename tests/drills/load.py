"""Load at a steady rate from a thread of its own, with the outcome of each request.

Requests start on schedule whether or not the ones before were answered, so that a service that hangs is seen
as it would be by its users. Connections are kept alive and used again, as dashboards do.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

#: Seconds after which a request without an answer is abandoned.
GIVE_UP_SECONDS = 15.0

#: Seconds after which an idle connection is not used again: the server may be about to close it.
IDLE_SECONDS = 3.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Reply:
    """One request and its answer; `status` 0: the connection failed, or nothing came."""

    port: int
    target: str
    #: Unix time at which it was sent.
    sent_at: float
    seconds: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    #: Sent over a connection that had to be opened for it.
    first: bool = False

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["metadata"]
        return found


class Client:
    """A minimal HTTP/1.1 client with kept connections; never raises for errors of servers."""

    def __init__(self) -> None:
        self._idle: dict[int, list[tuple[float, Connection]]] = {}

    async def get(self, port: int, target: str) -> Reply:
        reply = Reply(port, target, time.time())
        started = time.perf_counter()
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self._exchange(reply)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            reply.status, reply.error = 0, f"{type(error).__name__}: {error}"
        reply.seconds = time.perf_counter() - started
        return reply

    async def close(self) -> None:
        for _, (_, writer) in itertools.chain.from_iterable(self._idle.values()):
            writer.close()
        await asyncio.sleep(0)

    async def _exchange(self, reply: Reply) -> None:
        reader, writer = await self._connection(reply)
        kept = False
        try:
            writer.write(f"GET {reply.target} HTTP/1.1\r\nHost: drill\r\n\r\n".encode())
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            for line in filter(None, lines[1:]):
                name, _, value = line.partition(":")
                reply.headers[name.lower()] = value.strip()
            reply.body = await reader.readexactly(int(reply.headers.get("content-length", 0)))
            reply.status = int(lines[0].split()[1])
            kept = reply.headers.get("connection", "").lower() != "close"
        finally:
            if kept:
                self._idle[reply.port].append((time.monotonic(), (reader, writer)))
            else:
                writer.close()

    async def _connection(self, reply: Reply) -> Connection:
        idle = self._idle.setdefault(reply.port, [])
        while idle:
            since, (reader, writer) = idle.pop()
            fresh = time.monotonic() - since < IDLE_SECONDS
            if fresh and not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        reply.first = True
        return await asyncio.open_connection("127.0.0.1", reply.port)


class Load:
    """Sends `rate` requests a second until it is stopped; `next_request` says what to send where."""

    def __init__(self, rate: float, next_request: Callable[[], tuple[int, str]]) -> None:
        self._rate = rate
        self._next_request = next_request
        self._stopping = threading.Event()
        self.replies: list[Reply] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[Reply]:
        """End when all sent requests are answered; return all replies."""
        self._stopping.set()
        self._thread.join(GIVE_UP_SECONDS + 5)
        return self.replies

    async def _run(self) -> None:
        client = Client()
        under_way: set[asyncio.Task[None]] = set()
        started = time.perf_counter()
        for number in itertools.count():
            if self._stopping.is_set():
                break
            delay = started + number / self._rate - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(self._send(client))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        await client.close()

    async def _send(self, client: Client) -> None:
        self.replies.append(await client.get(*self._next_request()))


@contextmanager
def load(rate: float, next_request: Callable[[], tuple[int, str]]) -> Iterator[list[Reply]]:
    """Load the services during the block; the replies are complete when it has ended."""
    running = Load(rate, next_request)
    running.start()
    try:
        yield running.replies
    finally:
        running.stop()


async def at_once(requests: list[tuple[int, str]]) -> list[Reply]:
    """Send all requests at the same moment, each over an open connection."""
    client = Client()
    await asyncio.gather(*(client.get(port, "/health") for port, _ in requests))
    replies = await asyncio.gather(*(client.get(*request) for request in requests))
    await client.close()
    return replies


def quantile(replies: list[Reply], share: float) -> float:
    """Return the time in seconds within which that share of the requests was answered."""
    times = sorted(reply.seconds for reply in replies)
    return times[min(len(times) - 1, int(share * len(times)))]
