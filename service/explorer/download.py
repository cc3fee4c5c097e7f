"""Sends a body while it is being made, however slowly the client reads.

What the client has not read yet waits in a spool: in memory while it is short, else in a temporary file. So
the database's connection is given back when the rows are read, not when the client has them.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from chat_stats.service.errors import DatabaseBusy

logger = logging.getLogger(__name__)

#: Bytes kept in memory for one client.
SPOOL_MEMORY_BYTES = 1_000_000
CHUNK_BYTES = 65_536

#: Downloads that may wait for their clients, for each that may read the database.
DOWNLOADS_PER_EXPORT = 8

T = TypeVar("T")


class Download:
    """A body that a task of its own makes; it begins at once. `close` ends it, at whatever point."""

    def __init__(self, body: AsyncIterator[bytes], closed: Callable[["Download"], None]) -> None:
        self._closed = closed
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115  closed in close()
        self._written = 0
        self._progress = asyncio.Event()
        self._making = asyncio.create_task(self._make(body))

    async def _make(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in body:
                self._file.seek(self._written)
                self._file.write(chunk)
                self._written += len(chunk)
                self._progress.set()
        finally:
            self._progress.set()

    async def started(self) -> bool:
        """Wait for the first bytes; raise what went wrong before them."""
        await self._progress.wait()
        if self._making.done():
            self._making.result()
        return True

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it grows; raise what went wrong while it was made."""
        read = 0
        while True:
            done = self._making.done()
            self._progress.clear()
            if read < self._written:
                self._file.seek(read)
                chunk = self._file.read(CHUNK_BYTES)
                read += len(chunk)
                yield chunk
            elif done:
                self._making.result()
                return
            else:
                await asyncio.wait(
                    (self._making, waiting := asyncio.ensure_future(self._progress.wait())),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                waiting.cancel()

    async def close(self) -> None:
        self._making.cancel()
        with suppress(asyncio.CancelledError, Exception):  # readers of the body got its error
            await self._making
        self._file.close()
        self._closed(self)


class Downloads:
    """Those under way; at most `most`, since each may hold a file."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Download] = set()

    def start(self, body: AsyncIterator[bytes]) -> Download:
        """Start making a body; `DatabaseBusy` when too many are under way."""
        if len(self._open) >= self._most:
            raise DatabaseBusy("too many downloads are under way")
        download = Download(body, self._open.discard)
        self._open.add(download)
        return download

    async def close(self) -> None:
        for download in list(self._open):
            await download.close()


class DownloadResponse(Response):
    """Sends a `Download`. It is cut off after `seconds`, and when it fails half-way: without the end of the
    body that HTTP asks for, so that no client takes it for complete."""

    def __init__(
        self, download: Download, *, content_type: str, headers: Mapping[str, str], seconds: float
    ) -> None:
        self.status_code = 200
        self.background = None
        self._download = download
        self._seconds = seconds
        self.init_headers({"Content-Type": content_type, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            done, _ = await asyncio.wait(
                (sending, leaving), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                logger.warning("a download was cut off: its client had not read it in %.0f s", self._seconds)
            elif sending in done and (error := sending.exception()) is not None:
                logger.warning("a download broke off: %s: %s", type(error).__name__, error)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._download.close()

    async def _send(self, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for chunk in self._download.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns; None when the client left before: then the work is given up."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
