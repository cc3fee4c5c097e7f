"""What a refresh costs by number of models: its time, memory of worker and Redis, the wait of other clients.

    python -m bench.refresh
    python -m bench.refresh --models 300 3000 --requests 100000

A worker refreshes each second, with its default windows, while a client reads one answer from Redis without
a pause. Of the models, 3 in 13 have requests. Each row of the table is of one worker: with the rollup off,
on, and on with many requests in the bucket of the present.
"""

import argparse
import asyncio
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from statistics import median
from typing import Any

import asyncpg
import psutil
from redis import Redis
from rich.console import Console

from bench.dataset import Shape, fill
from bench.measure import MEGABYTE
from bench.servers import Servers, create_database, drop_database, own_servers, settings_for
from chat_stats.service.cache.entry import VERSION, Generation, decode_generation
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import PREFIX, Settings

#: Seconds to wait for each refresh.
REFRESH_SECONDS = 120
HEADINGS = (
    "models",
    "with requests",
    "rollup",
    "refresh, median",
    "max",
    "processor time",
    "entries",
    "worker, peak",
    "Redis",
    "Redis, peak",
    "longest command",
    "longest GET",
)

_IDLE_MODELS = """
INSERT INTO models (provider_id, model_name, provider_model_id, model_id)
SELECT 1 + n % $2::int, 'Idle ' || n, 'idle/' || n, 'idle-' || n FROM generate_series(1, $1::int) AS n
"""
_CURRENT = """
INSERT INTO chat_completion_requests (model_id, input_tokens, output_tokens, processing_time_ms, status)
SELECT 1 + n % $2::int, n % 900, n % 300, 100 + n % 3000, 'completed' FROM generate_series(1, $1::int) AS n
"""

console = Console()


@dataclass(frozen=True, slots=True)
class Measured:
    seconds: list[float]
    #: Of worker and Postgres, for each refresh: it hardly depends on what else the machine does.
    processor_seconds: float
    entries: int
    worker_bytes: int
    redis_bytes: int
    redis_peak_bytes: int
    longest_command_ms: float
    longest_get_ms: float


def main() -> None:
    options = _options()
    rows: list[tuple[str, ...]] = []
    for models in options.models:
        with own_servers() as servers:
            database_url = asyncio.run(create_database(servers.admin_url))
            try:
                rows += _measure_size(servers, database_url, models, options)
            finally:
                asyncio.run(drop_database(servers.admin_url, database_url))
    print(
        f"{platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", file=sys.stderr
    )
    print(f"| {' | '.join(HEADINGS)} |")
    print(f"|{' ---: |' * len(HEADINGS)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.refresh", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, nargs="+", default=[300, 3000, 13000])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--current", type=int, default=300_000, help="requests in the bucket of the present")
    parser.add_argument("--refreshes", type=int, default=8, help="refreshes measured of each worker")
    return parser.parse_args()


def _measure_size(
    servers: Servers, database_url: str, models: int, options: argparse.Namespace
) -> Iterator[tuple[str, ...]]:
    used = max(1, models * 3 // 13)
    shape = Shape(options.requests, used, 34, options.days)
    settings = settings_for(database_url, servers.redis_url)

    async def fill_it() -> None:
        await fill(settings, shape)
        await add_idle_models(database_url, models - used, shape)

    with console.status(f"{models} models") as status:
        asyncio.run(fill_it())
        for rollup in ("off", "on", f"on, {options.current:,} in the bucket"):
            status.update(f"{models} models, rollup {rollup}")
            if rollup == "on":
                asyncio.run(switch_on(settings))
            elif rollup != "off":
                asyncio.run(_execute(database_url, _CURRENT, options.current, used))
            yield _row(models, used, rollup, _measure(servers, database_url, options.refreshes))


async def add_idle_models(database_url: str, models: int, shape: Shape) -> None:
    """Add models without requests."""
    await _execute(database_url, _IDLE_MODELS, models, shape.providers)


async def switch_on(settings: Settings) -> None:
    """Switch the rollup on."""
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _progress: None)


async def _execute(database_url: str, statement: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(statement, *arguments)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def _measure(servers: Servers, database_url: str, refreshes: int) -> Measured:
    redis = Redis.from_url(servers.redis_url)
    redis.flushall()
    redis.config_resetstat()
    redis.config_set("slowlog-log-slower-than", 1000)
    redis.config_set("slowlog-max-len", 10_000)
    with running_worker(servers, database_url, {"REFRESH_INTERVAL_SECONDS": "1"}) as worker:
        seen: dict[str, Generation] = {}
        _wait_for(redis, seen, 2)  # the first ones compile statements and import modules
        redis.slowlog_reset()
        with _client(servers.redis_url) as longest:
            memory = [worker.memory_info().rss]
            seen.clear()
            before = processor_seconds(servers, worker)
            _wait_for(redis, seen, refreshes, lambda: memory.append(worker.memory_info().rss))
            used = (processor_seconds(servers, worker) - before) / refreshes
        figures: Any = redis.info("memory")
        slow: Any = redis.slowlog_get(10_000)
        commands = [each["duration"] / 1000 for each in slow]
    return Measured(
        [generation.duration_ms / 1000 for generation in seen.values()],
        used,
        max(generation.entries for generation in seen.values()),
        max(memory),
        figures["used_memory"],
        figures["used_memory_peak"],
        max(commands, default=1.0),
        longest[0] * 1000,
    )


def processor_seconds(servers: Servers, worker: psutil.Process) -> float:
    """Return what the worker, and Postgres with its backends, have used so far."""
    processes = [worker]
    for process in psutil.process_iter(["cmdline"]):
        if str(servers.folder / "postgres") in " ".join(process.info["cmdline"] or ()):
            processes += [process, *process.children(recursive=True)]
    times = [process.cpu_times() for process in set(processes)]
    return float(sum(each.user + each.system for each in times))


@contextmanager
def running_worker(
    servers: Servers, database_url: str, settings: Mapping[str, str]
) -> Iterator[psutil.Process]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        f"{PREFIX}DATABASE_URL": database_url,
        f"{PREFIX}REDIS_URL": servers.redis_url,
        **{f"{PREFIX}{name}": value for name, value in settings.items()},
    }
    command = (sys.executable, "-m", "chat_stats", "worker")
    with (servers.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(redis: Redis, seen: dict[str, Generation], count: int, meanwhile: Any = None) -> None:
    """Wait until so many generations were published; read as seldom as not to disturb."""
    deadline = time.monotonic() + REFRESH_SECONDS * count
    while len(seen) < count:
        stored: Any = redis.get(f"chat-stats:v{VERSION}:generation")
        if (generation := decode_generation(stored)) is not None and not generation.failed:
            seen[generation.generation] = generation
        if time.monotonic() > deadline:
            raise RuntimeError("the worker does not refresh")
        if meanwhile is not None:
            meanwhile()
        time.sleep(0.05)


@contextmanager
def _client(redis_url: str) -> Iterator[list[float]]:
    """Read one small answer all the time, in a process of its own; yield where its longest wait will be."""
    context = multiprocessing.get_context("spawn")
    longest: list[float] = []
    result: Any = context.Queue()
    stopping = context.Event()
    process = context.Process(target=_read, args=(redis_url, stopping, result))
    process.start()
    try:
        yield longest
    finally:
        stopping.set()
        longest.append(result.get(timeout=30))
        process.join()


def _read(redis_url: str, stopping: Event, result: Any) -> None:
    redis = Redis.from_url(redis_url)
    key = f"chat-stats:v{VERSION}:entry:{Query('summary').key()}"
    longest = 0.0
    while not stopping.is_set():
        began_at = time.perf_counter()
        redis.get(key)
        longest = max(longest, time.perf_counter() - began_at)
        time.sleep(0.0005)
    result.put(longest)


def _row(models: int, used: int, rollup: str, measured: Measured) -> tuple[str, ...]:
    return (
        f"{models:,}",
        f"{used:,}",
        rollup,
        f"{median(measured.seconds):.2f} s",
        f"{max(measured.seconds):.2f} s",
        f"{measured.processor_seconds:.2f} s",
        f"{measured.entries}",
        f"{measured.worker_bytes / MEGABYTE:.0f} MB",
        f"{measured.redis_bytes / MEGABYTE:.1f} MB",
        f"{measured.redis_peak_bytes / MEGABYTE:.1f} MB",
        f"{measured.longest_command_ms:.1f} ms",
        f"{measured.longest_get_ms:.1f} ms",
    )


if __name__ == "__main__":
    main()
