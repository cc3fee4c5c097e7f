"""A connection of the upkeep that the server ended is an outage, whatever asyncpg makes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import asyncpg
import pytest

from chat_stats.service.errors import DatabaseUnavailable
from chat_stats.service.rollup.connection import UpkeepConnection


@asynccontextmanager
async def never_closing(url: str) -> AsyncIterator[str]:
    """Pass on all bytes, but not that the server closed the connection: as just before that arrives."""
    parts = urlsplit(url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))
        to_server.close()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield url.replace(f":{parts.port}/", f":{server.sockets[0].getsockname()[1]}/")


async def test_a_statement_after_the_server_s_farewell_is_an_outage(database_url: str) -> None:
    async with never_closing(database_url) as url:
        raw = await asyncpg.connect(url)
        upkeep = UpkeepConnection(raw)
        admin = await asyncpg.connect(database_url)
        assert await admin.fetchval("SELECT pg_terminate_backend($1, 10000)", raw.get_server_pid())
        await asyncio.sleep(0.1)  # the farewell arrives
        with pytest.raises(DatabaseUnavailable):
            await upkeep.fetch("SELECT 1")
        raw.terminate()
        await admin.close()
