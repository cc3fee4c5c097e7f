"""A service's memory while all requests differ: ranges, filters, series, plots and pages of single requests.

    python -m bench.unique [--requests 200000]

No answer is cached, so each request is computed, and each leaves what a service remembers of requests. It
reports the resident memory along the way, and has no pass or fail.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count

import psutil

from bench.dataset import Shape, fill
from bench.lifetime import BASE, first_answer, serve
from bench.measure import MEGABYTE
from bench.servers import create_database, drop_database, own_servers, settings_for
from chat_stats.service.settings import PREFIX
from chat_stats.worker.local_servers import free_port

MODELS, PROVIDERS = 500, 20
SHAPE = Shape(20_000, MODELS, PROVIDERS)
CONNECTIONS = 4
STEPS = 10
TIMEZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options()
    with own_servers() as servers, ExitStack() as stack:
        database_url = asyncio.run(create_database(servers.admin_url))
        stack.callback(lambda: asyncio.run(drop_database(servers.admin_url, database_url)))
        asyncio.run(fill(settings_for(database_url, servers.redis_url), SHAPE))
        port = free_port()
        urls = {f"{PREFIX}DATABASE_URL": database_url, f"{PREFIX}REDIS_URL": servers.redis_url}
        popen = serve({**os.environ, **urls}, servers.folder, port)
        try:
            first_answer(f"http://127.0.0.1:{port}/health")
            asyncio.run(_measure(psutil.Process(popen.pid), port, options.requests))
        finally:
            popen.terminate()
            popen.wait(20)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.unique", description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=200_000, help="requests, all different")
    return parser.parse_args()


async def _measure(service: psutil.Process, port: int, requests: int) -> None:
    targets = iter(_targets())
    statuses: Counter[bytes] = Counter()
    started = time.monotonic()
    print(f"memory  {service.memory_info().rss / MEGABYTE:6.1f} MB at the start", flush=True)
    for step in range(1, STEPS + 1):
        share = requests // STEPS // CONNECTIONS
        await asyncio.gather(*(_ask(port, targets, share, statuses) for _ in range(CONNECTIONS)))
        rss = service.memory_info().rss / MEGABYTE
        print(f"memory  {rss:6.1f} MB after {step * share * CONNECTIONS:,} requests", flush=True)
    answers = ", ".join(f"{number:,} of {status.decode()}" for status, number in statuses.most_common())
    print(f"answers {answers} in {time.monotonic() - started:.0f} s")


def _targets() -> Iterator[str]:
    """Yield request targets, each once: many small answers, some large ones, and wrong ones."""
    chosen = random.Random(2026)  # noqa: S311
    now = datetime.now(UTC)
    for number in count(1):
        recent = f"start_date={now - timedelta(hours=1, milliseconds=number):%Y-%m-%dT%H:%M:%S.%fZ}"
        model, provider = chosen.randint(1, MODELS), chosen.randint(1, PROVIDERS)
        timezone = chosen.choice(TIMEZONES)
        yield f"{BASE}/summary?{recent}"
        yield f"{BASE}/counts?{recent}&end_date={now:%Y-%m-%dT%H:%M:%SZ}"
        yield f"{BASE}/providers?{recent}"
        yield f"{BASE}/models/{model}?{recent}"
        yield f"{BASE}/models?provider_id={provider}&{recent}"
        yield f"{BASE}/timeseries?bucket=1h&timezone={timezone}&{recent}&model_id={model}"
        yield f"{BASE}?limit=100&{recent}&model_id={model}"
        yield f"{BASE}/models/{10**6 + number}?{recent}"
        yield f"{BASE}/unknown-{number}?{recent}"
        if number % 10 == 0:
            long = f"start_date={now - timedelta(days=80, milliseconds=number):%Y-%m-%dT%H:%M:%S.%fZ}"
            yield f"{BASE}/models?{long}"
            yield f"{BASE}/timeseries?bucket=1w&group_by=provider&{long}"
            yield f"{BASE}/plot-data?points=5000&{long}"
            yield f"{BASE}?limit=1000&{long}"


async def _ask(port: int, targets: Iterator[str], number: int, statuses: Counter[bytes]) -> None:
    """Ask for the next targets over one connection, and read the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(number):
            writer.write(f"GET {next(targets)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            statuses[head.split(b" ", 2)[1]] += 1
            length = next(
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            await reader.readexactly(length)
    finally:
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    main()
