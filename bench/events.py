"""Events: the time from a refresh's publication to the last of many clients that listen, and their memory.

    python -m bench.events [--subscribers 5000] [--repeat 10]

One process of the service, a Redis of its own, and no database: listeners ask it for nothing. Client and
servers share the machine, so the times include what the clients take.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.lifetime import first_answer, serve
from bench.servers import settings_for
from chat_stats.service.cache.entry import Generation
from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.refresh_report import new_generation
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.database.clock import Clock
from chat_stats.service.http.connections import raise_descriptor_limit
from chat_stats.service.settings import PREFIX
from chat_stats.worker.local_servers import free_port, redis_server

DATABASE_URL = "postgresql://bench@127.0.0.1:1/none"
REQUEST = b"GET /api/monitoring/events HTTP/1.1\r\nHost: bench\r\n\r\n"
#: Connections that are opened at a time.
OPENED_AT_A_TIME = 100
PATIENCE_SECONDS = 60


class Subscriber(asyncio.Protocol):
    """A client that notes when its last event came."""

    heard_at: list[float]

    def __init__(self, heard_at: list[float]) -> None:
        self.heard_at = heard_at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        # An event is written with one call, and is shorter than a segment.
        if b"event: generation" in data:
            self.heard_at.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=__doc__.split("\n")[0])
    parser.add_argument("--subscribers", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=10, help="publications")
    options = parser.parse_args()
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="chat-stats-bench-") as name:
        redis = redis_server(Path(name) / "redis")
        redis.start()
        port = free_port()
        urls = {f"{PREFIX}DATABASE_URL": DATABASE_URL, f"{PREFIX}REDIS_URL": redis.url}
        popen = serve({**os.environ, **urls}, Path(name), port)
        try:
            first_answer(f"http://127.0.0.1:{port}/health")
            process = psutil.Process(popen.pid)
            asyncio.run(_measure(redis.url, port, process, options.subscribers, options.repeat))
        finally:
            popen.terminate()
            popen.wait(20)
            redis.stop()


async def _measure(redis_url: str, port: int, process: psutil.Process, subscribers: int, repeat: int) -> None:
    cache = Cache(settings_for(DATABASE_URL, redis_url), connect(redis_url, timeout_seconds=5), Clock())
    heard_at: list[float] = []
    before = process.memory_info().rss
    await _publish(cache)
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    started = time.perf_counter()
    for _ in range(0, subscribers, OPENED_AT_A_TIME):
        opened = [
            loop.create_connection(lambda: Subscriber(heard_at), "127.0.0.1", port)
            for _ in range(min(OPENED_AT_A_TIME, subscribers - len(transports)))
        ]
        transports += [transport for transport, _ in await asyncio.gather(*opened)]
    await _heard_by(subscribers, heard_at)
    print(f"{subscribers} subscribers in {time.perf_counter() - started:.1f} s")
    print(f"memory a subscriber: {(process.memory_info().rss - before) / subscribers / 1024:.0f} KB")
    times: list[tuple[float, float, float]] = []
    for _ in range(repeat):
        heard_at.clear()
        published_at = await _publish(cache)
        await _heard_by(subscribers, heard_at)
        waited = sorted(1000 * (moment - published_at) for moment in heard_at)
        times.append((waited[0], statistics.median(waited), waited[-1]))
    first, middle, last = (statistics.median(each) for each in zip(*times, strict=True))
    print(f"from publish to the first {first:.1f} ms, half of them {middle:.0f} ms, the last {last:.0f} ms")
    print(f"the last, at worst: {max(each[2] for each in times):.0f} ms")
    for transport in transports:
        transport.close()
    await cache.close()


async def _publish(cache: Cache) -> float:
    """Publish a generation without entries; return when that was."""
    now = datetime.now(UTC)
    generation = Generation(new_generation(now), now, 0.0, 0, 0)
    async with Publication(cache).prepare(generation.generation) as prepared:
        started = time.perf_counter()
        assert await prepared.publish(generation, of_everything=True)
    return started


async def _heard_by(subscribers: int, heard_at: list[float]) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while len(heard_at) < subscribers:
        if time.perf_counter() > deadline:
            sys.exit(f"only {len(heard_at)} of {subscribers} subscribers heard of it")
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    main()
