"""Live totals: the time from a commit to the answer of a client that listens, and what it costs.

    python -m bench.live [--models 300 3000] [--commits 60]

The rollup is on, a writer commits requests all the time, and the worker refreshes once, at its start. The
client does as a page: it listens to events, waits for up to 0.4 s, and asks with its ETag. All share the
machine.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median, quantiles

import asyncpg
import httpx
import psutil

from bench.dataset import Shape, fill
from bench.refresh import add_idle_models, processor_seconds, running_worker, switch_on
from bench.servers import Servers, create_database, drop_database, own_servers, settings_for, web_service
from chat_stats.worker.local_servers import free_port

#: What a page asks for again at each event: the first one says how many there are.
PATHS = [f"/chat-requests/{name}?window=all" for name in ("summary", "providers", "models")]
#: Commits a second beside those that are measured.
WRITES = 20
#: As in the page (`main.js`).
SPREAD_SECONDS = 0.4
#: Seconds for which the cost without a listener is measured.
QUIET_SECONDS = 20
PATIENCE_SECONDS = 60
#: Commits before those that are measured, in which the worker comes to know of the client.
FIRST = 3
HEADINGS = (
    *("models", "with requests", "commit to event, p50", "p95", "commit to answer, p50", "p95"),
    *("a publication", "a second", "processor time a second", "without listeners"),
)

_ADD = (
    "INSERT INTO chat_completion_requests "
    "(model_id, input_tokens, output_tokens, processing_time_ms, status) "
    "VALUES ($1, 100, 20, 900, 'completed')"
)


class Gateway:
    """Commits requests, one at a time, and knows how many there are."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", models: int, requests: int) -> None:
        self._connection = connection
        self._models = models
        self._turn = asyncio.Lock()
        self._requests = requests

    async def add(self) -> int:
        """Commit a request; return how many there are then."""
        async with self._turn:
            await self._connection.execute(_ADD, random.randint(1, self._models))  # noqa: S311
            self._requests += 1
            return self._requests

    async def keep_adding(self) -> None:
        while True:
            await asyncio.sleep(random.expovariate(WRITES))
            await self.add()


class Page:
    """Asks as the page does, with validators."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._etags: dict[str, str] = {}
        self._total = 0

    async def total(self) -> int:
        """Ask for everything; return how many requests there are."""
        for path in PATHS:
            sent = {"If-None-Match": self._etags[path]} if path in self._etags else {}
            answer = await self._client.get(path, headers=sent)
            if answer.status_code != httpx.codes.NOT_MODIFIED:
                self._etags[path] = answer.raise_for_status().headers["etag"]
                if path == PATHS[0]:
                    self._total = answer.json()["data"]["total_requests"]
        return self._total


class Cost:
    """What worker and Postgres use, and what the worker publishes, from one moment to another."""

    def __init__(self, servers: Servers, worker: psutil.Process, port: int) -> None:
        self._servers, self._worker, self._port = servers, worker, port
        self._before = self._sample()

    def stop(self) -> None:
        now = self._sample()
        self.seconds, self.processor, self.published, self.publishing = (
            after - before for before, after in zip(self._before, now, strict=True)
        )

    def _sample(self) -> tuple[float, ...]:
        used = processor_seconds(self._servers, self._worker)
        return time.monotonic(), used, *_publications(self._port)


def _publications(port: int) -> tuple[float, float]:
    """Return how many totals the worker has published, and the seconds that it took."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = [
        re.search(rf"^chat_stats_totals_duration_seconds_{name} (\S+)$", text, re.MULTILINE)
        for name in ("count", "sum")
    ]
    count, seconds = (float(each[1]) for each in found if each is not None)
    return count, seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--commits", type=int, default=60, help="commits that are measured")
    options = parser.parse_args()
    rows = []
    for models in options.models:
        with own_servers() as servers:
            database_url = asyncio.run(create_database(servers.admin_url))
            try:
                rows.append(asyncio.run(_measure(servers, database_url, models, options)))
            finally:
                asyncio.run(drop_database(servers.admin_url, database_url))
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(f"| {' | '.join(HEADINGS)} |")
    print(f"|{' ---: |' * len(HEADINGS)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


async def _measure(
    servers: Servers, database_url: str, models: int, options: argparse.Namespace
) -> tuple[str, ...]:
    used = max(1, models * 3 // 13)
    settings = settings_for(database_url, servers.redis_url)
    shape = Shape(options.requests, used, 34, 200)
    await fill(settings, shape)
    await add_idle_models(database_url, models - used, shape)
    await switch_on(settings)
    port = free_port()
    given = {"REFRESH_INTERVAL_SECONDS": "3600", "FRESH_SECONDS": "7200", "WORKER_METRICS_PORT": str(port)}
    with (
        running_worker(servers, database_url, given) as worker,
        web_service(servers, database_url) as url,
    ):
        async with (
            httpx.AsyncClient(base_url=f"{url}/api/monitoring", timeout=PATIENCE_SECONDS) as client,
            _writing(database_url, used, options.requests) as gateway,
        ):
            while (await client.get(PATHS[0])).json()["metadata"]["cache"] != "hit":  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            quiet = Cost(servers, worker, port)
            await asyncio.sleep(QUIET_SECONDS)
            quiet.stop()
            busy = Cost(servers, worker, port)
            events, answers = await _listen(client, gateway, options.commits)
            busy.stop()
    assert quiet.published == 0
    return (
        f"{models:,}",
        f"{used:,}",
        *(f"{figure:.2f} s" for times in (events, answers) for figure in (median(times), _p95(times))),
        f"{1000 * busy.publishing / busy.published:.0f} ms",
        f"{busy.published / busy.seconds:.2f}",
        f"{1000 * busy.processor / busy.seconds:.0f} ms",
        f"{1000 * quiet.processor / quiet.seconds:.0f} ms",
    )


async def _listen(
    client: httpx.AsyncClient, gateway: Gateway, commits: int
) -> tuple[list[float], list[float]]:
    """Return the seconds from each commit to the event, and to the answer, that have it."""
    heard: asyncio.Queue[float] = asyncio.Queue()

    async def follow() -> None:
        async with client.stream("GET", "/events") as response:
            async for line in response.aiter_lines():
                if line == "event: totals":
                    heard.put_nowait(time.monotonic())

    following = asyncio.create_task(follow())
    page = Page(client)
    events, answers = [], []
    try:
        for number in range(-FIRST, commits):
            await asyncio.sleep(random.uniform(0.3, 2))  # noqa: S311
            expected = await gateway.add()
            committed = time.monotonic()
            total = -1
            while total < expected:
                event = await asyncio.wait_for(heard.get(), PATIENCE_SECONDS)
                await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))  # noqa: S311
                total = await page.total()
            if number >= 0:
                events.append(event - committed)
                answers.append(time.monotonic() - committed)
    finally:
        following.cancel()
    return events, answers


@asynccontextmanager
async def _writing(database_url: str, models: int, requests: int) -> AsyncIterator[Gateway]:
    """Have requests committed all the time."""
    connection = await asyncpg.connect(database_url)
    gateway = Gateway(connection, models, requests)
    writing = asyncio.create_task(gateway.keep_adding())
    try:
        yield gateway
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await connection.close()


def _p95(times: list[float]) -> float:
    return quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
