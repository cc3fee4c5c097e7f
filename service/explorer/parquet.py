"""Parquet downloads: the rows go to a process of their own, which writes the file (`parquet_writer`)."""

import asyncio
import importlib.util
import pickle
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chat_stats.service.errors import InvalidParameter, Unavailable
from chat_stats.service.explorer.requests import Row

PROGRAM = Path(__file__).with_name("parquet_writer.py")
READ_BYTES = 65_536


class ParquetEncoder:
    """Parquet, zstd-compressed; ids are int64, or text where they are UUIDs. JSON is text."""

    def __init__(self, fields: Sequence[str], kinds: Mapping[str, str]) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise InvalidParameter(
                "format",
                "this service has no Parquet: its optional part is missing; "
                "pip install 'chat-stats[parquet]'",
            )
        self._columns = [(name, kinds.get(name, "text")) for name in fields]
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._written = bytearray()

    async def start(self) -> bytes:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(PROGRAM)),  # -P: its folder's modules hide no others
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the service alone, which ends it
        )
        self._reading = asyncio.create_task(self._read(self._process))
        await self._send(pickle.dumps(self._columns))
        return b""

    async def rows(self, rows: Sequence[Row]) -> tuple[bytes, int]:
        message = pickle.dumps(list(rows))
        await self._send(len(message).to_bytes(8, "big") + message)
        return self._take(), len(message)

    async def end(self, metadata: dict[str, Any]) -> bytes:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        await self._reading
        if await self._process.wait() != 0:
            raise _ended_early()
        return self._take()

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        if self._reading is not None:
            self._reading.cancel()
        if self._process is not None:
            await self._process.wait()

    async def _send(self, message: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if self._process.stdin.is_closing():
            raise _ended_early()
        self._process.stdin.write(message)
        try:
            await self._process.stdin.drain()
        except OSError as error:
            raise _ended_early() from error

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        # All the time, or both would wait: it for a reader, we for it to take more rows.
        assert process.stdout is not None
        while piece := await process.stdout.read(READ_BYTES):
            self._written += piece

    def _take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _ended_early() -> Unavailable:
    return Unavailable("the process that writes the Parquet file ended early")
