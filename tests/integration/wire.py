"""Connections to the service's HTTP protocol in this process, over real sockets, byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from chat_stats.service.http.protocol import BoundedHttpProtocol

API = "/api/monitoring/chat-requests"
#: Targets that `learned` makes known.
KNOWN = (f"{API}/counts", f"{API}/models?window=24h", f"{API}/summary")

#: Turns of the loop without anything to do after which a server is at rest.
TURNS_AT_REST = 4


def stop_time(monkeypatch: pytest.MonkeyPatch, *apps: FastAPI) -> None:
    """Give all answers one time and one request id, so that equal ones are equal to the byte."""
    now = datetime.now(UTC)
    for app in apps:
        monkeypatch.setattr(app.state.services.envelope._clock, "now", lambda: now)
        app.state.services.fast_path._prepared.clear()
    for module in ("http.hits", "http.fast_path", "observability.request_id"):
        monkeypatch.setattr(f"chat_stats.service.{module}.made", lambda: b"0123456789abcdef")


async def learned(client: httpx.AsyncClient) -> FastAPI:
    """Return the client's application once it knows targets and has their answers in its memory."""
    application: FastAPI = client._transport.app  # type: ignore[attr-defined]
    for target in (*KNOWN, f"{API}/models/1") * 2:
        await client.get(f"http://test{target}", headers={"X-API-Key": "first"})
    return application


def request(target: str = KNOWN[0], *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


@dataclass
class Connection:
    """A client's end of a connection."""

    client: socket.socket
    protocol: BoundedHttpProtocol
    answers: bytearray = field(default_factory=bytearray)
    is_closed: bool = False

    async def send(self, *parts: bytes) -> bytes:
        """Send the parts as one piece of data each; return what has come back when the server is at rest."""
        for part in parts:
            if self.is_closed:
                break
            await self._send(part)
            await self._rest()
        return self._taken()

    async def _send(self, part: bytes) -> None:
        while part and not self.is_closed:
            try:
                part = part[self.client.send(part) :]
            except BlockingIOError:
                self.receive()
                await asyncio.sleep(0)
            except ConnectionError:
                self.is_closed = True

    async def rest(self) -> bytes:
        """Read until the server has nothing left to do; return what has come since the last time."""
        await self._rest()
        return self._taken()

    async def _rest(self) -> None:
        turns = 0
        while turns < TURNS_AT_REST:
            await asyncio.sleep(0)
            turns = 0 if self.receive() or self._is_busy() else turns + 1

    def _taken(self) -> bytes:
        answers = bytes(self.answers)
        self.answers.clear()
        return answers

    def receive(self) -> int:
        """Read what is there; return how many bytes that was."""
        try:
            data = self.client.recv(1_000_000)
        except BlockingIOError:
            return 0
        except ConnectionError:
            data = b""
        self.is_closed = self.is_closed or not data
        self.answers += data
        return len(data)

    def _is_busy(self) -> bool:
        protocol = self.protocol
        cycle: RequestResponseCycle | None = protocol.cycle
        waits = cycle is not None and not cycle.response_complete
        return (waits or bool(protocol.pipeline)) and not protocol.transport.is_closing()


class Ports:
    """Opens connections to one application."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none")
        self._config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")]
        self._open: list[Connection] = []

    async def connect(self, *, hits: bool = True) -> Connection:
        """Open a connection; without `hits` all its requests take uvicorn's way."""
        client, server = socket.socketpair()
        client.setblocking(False)
        _, protocol = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: BoundedHttpProtocol(self._config, self.state, {}), server
        )
        if not hits:
            protocol._hits = None
        connection = Connection(client, protocol)
        self._open.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self._open:
            connection.client.close()
            connection.protocol.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@asynccontextmanager
async def ports_of(app: FastAPI) -> AsyncIterator[Ports]:
    ports = Ports(app)
    try:
        yield ports
    finally:
        await ports.close()
