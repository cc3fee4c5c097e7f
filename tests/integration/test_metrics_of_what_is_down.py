"""A scrape reports what is down, and does not hang when a server hangs."""

import asyncio
import time
from contextlib import suppress

from chat_stats.service import health
from tests.conftest import make_settings
from tests.integration.conftest import OpenClient
from tests.integration.scrape import scrape


async def test_a_scrape_reports_what_is_down_within_the_time_limit(
    client_of: OpenClient,
) -> None:
    nothing = await client_of(make_settings("postgresql://user@127.0.0.1:1/none", "redis://127.0.0.1:1/0"))
    seen = await scrape(nothing)
    for name in ("redis_up", "postgres_up", "queue_up", "worker_up"):
        assert seen.value(name) == 0, name
    assert seen.value("generation_age_seconds") is None


async def test_a_scrape_does_not_hang_when_a_server_hangs(
    client_of: OpenClient,
) -> None:
    """Servers that accept connections and never answer."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hanging = await client_of(
        make_settings(
            f"postgresql://user@127.0.0.1:{port}/none",
            f"redis://127.0.0.1:{port}/0",
            connect_timeout_seconds=60,
            redis_timeout_seconds=60,
        )
    )
    started = time.monotonic()
    seen = await scrape(hanging)
    assert time.monotonic() - started < health.WAIT_SECONDS + 5
    assert (seen.value("redis_up"), seen.value("postgres_up")) == (0, 0)
    server.close()
