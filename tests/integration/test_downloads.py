"""Large answers of a running service: slow clients, disconnects, errors midway, many at once."""

import asyncio
import io
import socket
import time
from collections.abc import AsyncIterator
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pyarrow.parquet
import pytest

from chat_stats.worker.local_servers import RedisServer
from tests.processes import environment, serving

#: About 27 MB: more than the buffers between service and client hold.
ROWS = 30_000
DOWNLOAD_SECONDS = 4

#: A view in place of the requests, whose rows are slow or fail.
VIEW = """
CREATE OR REPLACE VIEW chat_completion_requests AS
SELECT
    r.id, r.request_id, r.model_id, r.input_tokens, r.output_tokens, r.processing_time_ms, r.status,
    {error_message} AS error_message, r.user_id, r.cost_usd, r.created_at
FROM requests AS r
"""
FAST = "r.error_message"
SLOW = "slowly(r.error_message)"
FAILING = f"CASE WHEN 1 / (r.id - {ROWS // 2}) = 0 THEN r.error_message END"


@pytest.fixture
async def view(connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute(f"""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');
        INSERT INTO chat_completion_requests (id, model_id, error_message, created_at)
        SELECT n, 1, repeat(md5(n::text), 20), now() - n * interval '1 second'
        FROM generate_series(1, {ROWS}) AS n;
        ALTER TABLE chat_completion_requests RENAME TO requests;
        CREATE FUNCTION slowly(text) RETURNS text LANGUAGE plpgsql STABLE AS
            'BEGIN PERFORM pg_sleep(0.02); RETURN $1; END';
        {VIEW.format(error_message=FAST)};
        ANALYZE;
    """)
    return connection


@pytest.fixture
async def url(
    view: asyncpg.Connection, database_url: str, redis: RedisServer, tmp_path: Path
) -> AsyncIterator[str]:
    env = environment(
        database_url, redis.url, max_exports=1, query_timeout_seconds=3, download_seconds=DOWNLOAD_SECONDS
    )
    with serving(env, tmp_path / "log") as client:
        yield str(client.base_url).rstrip("/")


async def busy(connection: asyncpg.Connection) -> int:
    """Return how many of the service's connections are in a transaction."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    return count


async def until_idle(connection: asyncpg.Connection, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while await busy(connection):
        assert time.monotonic() < deadline, f"a connection is still busy after {seconds} s"
        await asyncio.sleep(0.05)


async def until_busy(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while not await busy(connection):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def ask(url: str, query: str) -> socket.socket:
    """Send a request and read nothing of its answer."""
    parts = urlsplit(url)
    client = socket.create_connection((str(parts.hostname), parts.port or 80), timeout=20)
    client.sendall(f"GET {parts.path}?{query} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    return client


def lines(client: socket.socket) -> int:
    """Read the answer; return its number of lines. `IncompleteRead` if it is cut off."""
    with client, HTTPResponse(client) as response:
        response.begin()
        return response.read().count(b"\n")


@pytest.mark.slow
async def test_downloads_of_a_running_service(view: asyncpg.Connection, url: str) -> None:
    # All in one test, because starting a service takes longer than any of them.
    await _a_client_that_does_not_read_holds_no_connection(view, url)
    await _a_client_that_never_reads_is_cut_off(view, url)
    await _parquet_is_written_by_a_process_that_ends_with_its_download(view, url)
    await _an_error_midway_does_not_look_like_the_end(view, url)
    await _disconnecting_cancels_the_query(view, url)
    await _exports_wait_for_each_other_and_delay_no_other_request(view, url)


async def _a_client_that_does_not_read_holds_no_connection(view: asyncpg.Connection, url: str) -> None:
    client = ask(url, f"format=ndjson&limit={ROWS}")
    await asyncio.to_thread(client.recv, 1, socket.MSG_PEEK)
    await until_idle(view, seconds=3)
    assert await asyncio.to_thread(lines, client) == ROWS


async def _a_client_that_never_reads_is_cut_off(view: asyncpg.Connection, url: str) -> None:
    client = ask(url, f"format=ndjson&limit={ROWS}")
    await asyncio.sleep(DOWNLOAD_SECONDS + 1)
    with pytest.raises(IncompleteRead):
        await asyncio.to_thread(lines, client)


async def _parquet_is_written_by_a_process_that_ends_with_its_download(
    view: asyncpg.Connection, url: str
) -> None:
    service = next(
        child for child in psutil.Process().children() if str(urlsplit(url).port) in child.cmdline()
    )
    async with httpx.AsyncClient(timeout=20) as client:
        whole = await client.get(url, params={"format": "parquet", "limit": ROWS})
        assert pyarrow.parquet.read_table(io.BytesIO(whole.content)).num_rows == ROWS
        assert service.children() == []
        assert not any("arrow" in part.path for part in service.memory_maps())

        await view.execute(VIEW.format(error_message=SLOW))
        asking = asyncio.create_task(client.get(url, params={"format": "parquet", "limit": 1000}))
        writer = await _child_of(service)
        writer.kill()
        answer = await asking
        assert (answer.status_code, "Parquet" in answer.json()["detail"]) == (503, True)

        asking = asyncio.create_task(client.get(url, params={"format": "parquet", "limit": 1000}))
        writer = await _child_of(service)
        asking.cancel()
        await asyncio.to_thread(writer.wait, 10)
        await until_idle(view, seconds=2.5)


async def _child_of(service: psutil.Process) -> psutil.Process:
    async with asyncio.timeout(10):
        while not service.children():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return service.children()[0]


async def _an_error_midway_does_not_look_like_the_end(view: asyncpg.Connection, url: str) -> None:
    await view.execute(VIEW.format(error_message=FAILING))
    async with httpx.AsyncClient() as client:
        for parameters in ({"format": "csv"}, {"format": "parquet"}, {}):
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await client.get(url, params={"limit": ROWS, **parameters})
        small = await client.get(url, params={"limit": 10, "offset": ROWS // 2 - 5})
        assert small.status_code == 503, "before the first byte it is an ordinary error"
        assert "cannot be read" in small.json()["detail"]


async def _disconnecting_cancels_the_query(view: asyncpg.Connection, url: str) -> None:
    await view.execute(VIEW.format(error_message=SLOW))
    async with httpx.AsyncClient() as client:
        # During the rows, and before the first of them: 1,000 rows take 20 s, and are one answer.
        for parameters in (f"limit={ROWS}&fields=id,error_message&format=csv", "limit=1000"):
            asking = asyncio.create_task(client.get(f"{url}?{parameters}"))
            await until_busy(view)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await until_idle(view, seconds=2.5)  # before the query would end by its timeout


async def _exports_wait_for_each_other_and_delay_no_other_request(view: asyncpg.Connection, url: str) -> None:
    await view.execute(VIEW.format(error_message=SLOW))
    async with httpx.AsyncClient(timeout=20) as client:
        export = asyncio.create_task(client.get(url, params={"format": "csv", "limit": 400}))
        await until_busy(view)
        waiting = asyncio.create_task(client.get(url, params={"format": "csv", "limit": 1}))
        page = await client.get(url, params={"limit": 1, "fields": "id"})
        assert page.status_code == 200
        assert not waiting.done()
        assert not export.done()
        refused = await waiting
        assert refused.status_code == 503
        assert "too many exports" in refused.json()["detail"]
        assert refused.headers["retry-after"]
        export.cancel()
