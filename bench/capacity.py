"""What a hit, a look-up, a refresh, a fold, a delta and an entry cost, and what larger installations need.

    python -m bench.capacity
    python -m bench.capacity --services 1 2 4 --models 100 1000

Measures each unit cost, in a few minutes, in processor time. Services that answer at once check that a hit
costs the same and that Redis gets as much more to do; the last table is extrapolated. It needs Linux and wrk.
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
from redis import Redis

from bench.dataset import Shape, fill
from bench.lifetime import BASE, first_answer
from bench.rollup import _SINGLE_INSERTS
from bench.servers import Servers, create_database, drop_database, own_servers, settings_for
from bench.wrk import put_under_load
from chat_stats.service.cache.entry import VERSION, decode_generation
from chat_stats.service.rollup.connection import TABLE
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import PREFIX, Settings
from chat_stats.worker.local_servers import free_port

WINDOWS = ("1h", "24h", "7d", "30d", "all")
TARGETS = [
    f"{BASE}/{name}?window={window}"
    for name in ("summary", "counts", "providers", "models")
    for window in WINDOWS
]
#: Requests the targets in turn.
_IN_TURN = """
local paths = {{{paths}}}
local n = 0
request = function()
    n = n + 1
    return wrk.format("GET", paths[n % #paths + 1])
end
"""
GZIP = "Accept-Encoding: gzip"
REFRESHES, DELTAS, SECONDS = 5, 50_000, 3
REFRESH_INTERVAL_SECONDS, FOLD_INTERVAL_SECONDS = 30, 2
#: A core's time in a second, and bytes a second of a network of 1 Gbit/s.
CORE_US, NETWORK_BYTES = 1e6, 125e6


@dataclass(slots=True)
class Costs:
    """Microseconds of processor time, and bytes."""

    hit_us: dict[int, float]
    #: Commands a second to Redis by services at once, and what one costs.
    commands: dict[int, float]
    command_service_us: float = 0.0
    command_redis_us: float = 0.0
    command_bytes: float = 0.0
    #: Worker and Postgres together: of any refresh, and for each model with requests.
    refresh_us: float = 0.0
    refresh_model_us: float = 0.0
    fold_us: float = 0.0
    delta_us: float = 0.0
    #: What an insert costs Postgres without the triggers, and what these add.
    insert_us: float = 0.0
    trigger_us: float = 0.0
    #: Of a generation in Redis.
    generation_bytes: float = 0.0
    generation_model_bytes: float = 0.0

    @property
    def commands_of_a_key(self) -> float:
        """Commands to Redis a second for each key in use of each process, with local copies of a second."""
        services, commands = next(iter(self.commands.items()))
        return commands / services / len(TARGETS)


@dataclass(frozen=True, slots=True)
class Load:
    """An installation: models are those with requests; hits and keys in use are those of each service."""

    services: int
    models: int
    inserts: int
    hits: int = 1_000
    keys: int = 40
    local_seconds: float = 1.0

    def uses(self, costs: Costs) -> dict[str, float]:
        """Return what is used of each resource: cores, processes, networks."""
        commands = self.keys / self.local_seconds * costs.commands_of_a_key
        generation = costs.generation_bytes + costs.generation_model_bytes * self.models
        refresh = costs.refresh_us + costs.refresh_model_us * self.models
        writes = costs.insert_us + costs.trigger_us + costs.delta_us
        return {
            "a service, cores": (
                self.hits * next(iter(costs.hit_us.values())) + commands * costs.command_service_us
            )
            / CORE_US,
            "Redis, cores": self.services * commands * costs.command_redis_us / CORE_US,
            "Redis, network": self.services
            * (commands * costs.command_bytes + generation / REFRESH_INTERVAL_SECONDS)
            / NETWORK_BYTES,
            "refreshes, share of the interval": refresh / CORE_US / REFRESH_INTERVAL_SECONDS,
            "Postgres, cores": (self.inserts * writes + costs.fold_us / FOLD_INTERVAL_SECONDS) / CORE_US
            + refresh / CORE_US / REFRESH_INTERVAL_SECONDS,
        }


STEPS = (
    Load(1, 100, 50),
    Load(2, 200, 100),
    Load(10, 1_000, 500),
    Load(100, 10_000, 5_000),
    Load(100, 10_000, 5_000, local_seconds=30),
    Load(1_000, 10_000, 50_000),
)


def main() -> None:
    options = _options()
    print(f"command   python -m bench.capacity {' '.join(sys.argv[1:])}".rstrip())
    print(
        f"machine   {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )
    with own_servers() as servers:
        costs = Costs({}, {})
        sizes = [_measure_refreshes(servers, models, options.requests) for models in options.models]
        _fit(costs, *zip(options.models, sizes, strict=True))
        with _database(servers, options.models[-1], options.requests) as settings:
            asyncio.run(_measure_writes(settings, costs, options.models[-1]))
            _refresh(settings)
            _measure_hits(servers, settings, costs, options.services)
    _report(costs)
    print(f"load      {os.getloadavg()[0]:.1f} at the end")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--services", type=int, nargs="+", default=[1, 2, 4], help="services that answer hits at once"
    )
    parser.add_argument(
        "--models", type=int, nargs=2, default=[100, 1_000], help="models with requests, a few and many"
    )
    parser.add_argument("--requests", type=int, default=200_000)
    return parser.parse_args()


@contextmanager
def _database(servers: Servers, models: int, requests: int) -> Iterator[Settings]:
    url = asyncio.run(create_database(servers.admin_url))
    settings = settings_for(url, servers.redis_url)

    async def prepare() -> None:
        await fill(settings, Shape(requests, models, 20, 90))
        async with open_rollup(settings) as rollup:
            await rollup.enable(lambda _progress: None)

    try:
        asyncio.run(prepare())
        yield settings
    finally:
        asyncio.run(drop_database(servers.admin_url, url))


def _environment(settings: Settings, **more: object) -> dict[str, str]:
    chosen = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "FRESH_SECONDS": 36_000,
        "WINDOWS": ",".join(WINDOWS),
        **more,
    }
    return {**os.environ, **{PREFIX + name: str(value) for name, value in chosen.items()}}


@contextmanager
def _command(*arguments: str, **environment: Any) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", "chat_stats", *arguments], stderr=subprocess.DEVNULL, **environment
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _cpu_us(*processes: psutil.Process) -> float:
    """Return the processor time of processes and of their children, those that ended too."""
    every = {each for process in processes for each in (process, *process.children(recursive=True))}
    running = [each.cpu_times() for each in every]
    ended = [each.cpu_times() for each in processes]
    seconds = sum(each.user + each.system for each in running)
    return float(1e6 * (seconds + sum(each.children_user + each.children_system for each in ended)))


def _server(name: str) -> psutil.Process:
    return next(each for each in psutil.Process().children() if name in each.name())


def _measure_refreshes(servers: Servers, models: int, requests: int) -> tuple[float, float]:
    """Return the processor time of a refresh, and the bytes of a generation in Redis."""
    redis = Redis.from_url(servers.redis_url)
    redis.flushall()
    empty = _of_redis(servers)["used_memory"]
    with (
        _database(servers, models, requests) as settings,
        _command(
            "worker", env=_environment(settings, REFRESH_INTERVAL_SECONDS=1), cwd=servers.folder
        ) as worker,
    ):
        _wait_for_refreshes(redis, 2)  # the first ones compile statements
        postgres = _server("postgres")
        before = _cpu_us(worker, postgres)
        _wait_for_refreshes(redis, REFRESHES)
        cost = (_cpu_us(worker, postgres) - before) / REFRESHES
    return cost, _of_redis(servers)["used_memory"] - empty


def _wait_for_refreshes(redis: "Redis", count: int) -> None:
    seen: set[str] = set()
    deadline = time.monotonic() + 120
    while len(seen) <= count:  # the first one seen may be an old one
        stored: Any = redis.get(f"chat-stats:v{VERSION}:generation")
        if (generation := decode_generation(stored)) is not None:
            seen.add(generation.generation)
        if time.monotonic() > deadline:
            raise RuntimeError("the worker does not refresh")
        time.sleep(0.05)


def _fit(costs: Costs, few: tuple[int, tuple[float, float]], many: tuple[int, tuple[float, float]]) -> None:
    models = many[0] - few[0]
    costs.refresh_model_us = (many[1][0] - few[1][0]) / models
    costs.refresh_us = few[1][0] - few[0] * costs.refresh_model_us
    costs.generation_model_bytes = (many[1][1] - few[1][1]) / models
    costs.generation_bytes = few[1][1] - few[0] * costs.generation_model_bytes


async def _measure_writes(settings: Settings, costs: Costs, models: int) -> None:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    postgres = _server("postgres")
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(f"CREATE TABLE bare (LIKE {TABLE} INCLUDING ALL)")

        async def cost(statement: str) -> float:
            before = _cpu_us(postgres)
            await connection.execute(statement)
            return _cpu_us(postgres) - before

        def inserts(table: str) -> str:
            return _SINGLE_INSERTS.format(deltas=DELTAS, table=table, models=models)

        costs.insert_us = await cost(inserts("bare")) / DELTAS
        costs.trigger_us = await cost(inserts(TABLE)) / DELTAS - costs.insert_us
        costs.delta_us = await cost("SELECT chat_stats_fold()") / DELTAS
        few = 0.0
        for _ in range(20):
            await connection.execute(f"INSERT INTO {TABLE} (model_id, input_tokens) VALUES (1, 1)")
            few += await cost("SELECT chat_stats_fold()")
        costs.fold_us = few / 20
    finally:
        await connection.close()


def _refresh(settings: Settings) -> None:
    subprocess.run(
        [sys.executable, "-m", "chat_stats", "refresh", "--local"],
        env=_environment(settings),
        check=True,
        capture_output=True,
    )


def _measure_hits(servers: Servers, settings: Settings, costs: Costs, services: list[int]) -> None:
    script = servers.folder / "in-turn.lua"
    script.write_text(_IN_TURN.format(paths=", ".join(f'"{target}"' for target in TARGETS)))
    for count in services:
        with _services(servers, settings, count, LOCAL_CACHE_SECONDS=1) as running:
            before, began_at = _of_redis(servers), time.monotonic()
            costs.hit_us[count] = sum(_hits(running, script)) / count
            commands = _of_redis(servers)["total_commands_processed"] - before["total_commands_processed"]
            costs.commands[count] = commands / (time.monotonic() - began_at)
    with _services(servers, settings, 1, LOCAL_CACHE_SECONDS=0) as running:
        [(_, service)] = running
        server = _server("redis")
        before, before_us, service_us = _of_redis(servers), _cpu_us(server), _cpu_us(service)
        [hit_us] = _hits(running, script)
        after = _of_redis(servers)
        commands = after["total_commands_processed"] - before["total_commands_processed"]
        requests = (_cpu_us(service) - service_us) / hit_us
        costs.command_redis_us = (_cpu_us(server) - before_us) / commands
        costs.command_bytes = (after["total_net_output_bytes"] - before["total_net_output_bytes"]) / commands
        costs.command_service_us = requests * (hit_us - costs.hit_us[services[0]]) / commands


def _of_redis(servers: Servers) -> dict[str, Any]:
    statistics: Any = Redis.from_url(servers.redis_url).info()
    return dict(statistics)


@contextmanager
def _services(
    servers: Servers, settings: Settings, count: int, **more: object
) -> Iterator[list[tuple[str, psutil.Process]]]:
    with ExitStack() as stack:
        running = []
        for _ in range(count):
            port = free_port()
            process = stack.enter_context(
                _command("serve", "--port", str(port), env=_environment(settings, **more), cwd=servers.folder)
            )
            url = f"http://127.0.0.1:{port}"
            for target in TARGETS * 2:
                first_answer(f"{url}{target}")
            assert httpx.get(f"{url}{TARGETS[0]}").json()["metadata"]["cache"] == "hit"
            running.append((url, process))
        yield running


def _hits(running: list[tuple[str, psutil.Process]], script: Path) -> list[float]:
    """Load all services at once; return the processor time of a hit in each."""
    with ThreadPoolExecutor(len(running)) as threads:
        loads = threads.map(
            lambda each: put_under_load(
                *each, seconds=SECONDS, headers=[GZIP], script=script, connections=16, pinned=False
            ),
            running,
        )
        return [load.cpu_us_per_request for load in loads]


def _report(costs: Costs) -> None:
    hits = ", ".join(f"{cost:.1f} µs with {count}" for count, cost in costs.hit_us.items())
    services = ", ".join(f"{rate:.0f}/s with {count}" for count, rate in costs.commands.items())
    print(f"\n| unit | cost |\n| --- | ---: |\n| a hit, by services at once | {hits} |")
    for name, cost in (
        (f"commands to Redis for {len(TARGETS)} keys in use, by services at once", services),
        ("a command to Redis, the service's part", f"{costs.command_service_us:.0f} µs"),
        (
            "a command to Redis, its own part",
            f"{costs.command_redis_us:.1f} µs, {costs.command_bytes / 1e3:.1f} KB",
        ),
        ("a refresh", f"{costs.refresh_us / 1e3:.0f} ms, {costs.refresh_model_us:.0f} µs a model"),
        ("a fold", f"{costs.fold_us / 1e3:.1f} ms, {costs.delta_us:.1f} µs a delta"),
        ("an insert", f"{costs.insert_us:.1f} µs, {costs.trigger_us:.1f} µs for the triggers"),
        (
            "a generation",
            f"{costs.generation_bytes / 1e6:.2f} MB, {costs.generation_model_bytes / 1e3:.2f} KB a model",
        ),
    ):
        print(f"| {name} | {cost} |")
    names = list(STEPS[0].uses(costs))
    print(f"\n| services | models | inserts/s | local copies | {' | '.join(names)} | first |")
    print(f"|{' ---: |' * (len(names) + 4)} --- |")
    for step in STEPS:
        uses = step.uses(costs)
        cells = [f"{step.services:,}", f"{step.models:,}", f"{step.inserts:,}", f"{step.local_seconds:g} s"]
        cells += [f"{use:.2g}" for use in uses.values()]
        print(f"| {' | '.join(cells)} | {max(uses, key=uses.__getitem__)} |")


if __name__ == "__main__":
    main()
