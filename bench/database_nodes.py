"""What each of 1, 2 and 3 database nodes does, as predicted from unit costs and as measured.

    python -m bench.database_nodes
    python -m bench.database_nodes --seconds 60 --inserts 2000

The nodes are a primary and none, one and two hot standbys, which the refreshes are read from. The units are
measured first, each by itself: the writes and the refreshes at one node, the replay of the writes at two.
Then all goes on at once, at each number of nodes, and each node's processor time is compared with the sum
of its units. The last table is extrapolated. It needs Linux.
"""

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from bench.capacity import CORE_US, FOLD_INTERVAL_SECONDS, REFRESH_INTERVAL_SECONDS, WINDOWS
from bench.dataset import Shape, fill
from bench.rollup import _SINGLE_INSERTS
from bench.servers import create_database, settings_for
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.database.pool import Database
from chat_stats.service.rollup.connection import TABLE
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Stats
from chat_stats.worker.local_servers import (
    PostgresServer,
    embedded_postgres_binaries,
    free_port,
    postgres_server,
    redis_server,
)

NODES = (1, 2, 3)
#: Models with requests, and inserts a second, of the extrapolated installations.
STEPS = ((1_000, 500), (10_000, 5_000), (10_000, 20_000))


@dataclass(frozen=True, slots=True)
class Units:
    """Microseconds of a node's processor time."""

    #: An insert with its triggers and its fold: of the primary, and of a standby.
    write: float
    replay: float
    #: What an insert costs the primary for each standby.
    send: float
    #: What a refresh reads.
    refresh: float

    def of_nodes(self, nodes: int, inserts: float, refreshes: float) -> list[float]:
        """Return each node's processor time: the primary's, then the standbys'."""
        standbys = nodes - 1
        reads = refreshes * self.refresh
        if not standbys:
            return [inserts * self.write + reads]
        written = inserts * (self.write + standbys * self.send)
        return [written, *[inserts * self.replay + reads / standbys] * standbys]


@dataclass(frozen=True, slots=True)
class Cluster:
    servers: list[PostgresServer]
    settings: Settings
    models: int

    def cpu_us(self) -> list[float]:
        return [_cpu_us(server) for server in self.servers]


def main() -> None:
    options = _options()
    print(f"command   python -m bench.database_nodes {' '.join(sys.argv[1:])}".rstrip())
    print(
        f"machine   {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the start\n"
    )
    asyncio.run(_measure(options))
    print(f"\nload      {os.getloadavg()[0]:.1f} at the end")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.database_nodes", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--inserts", type=int, default=1_000, help="a second")
    parser.add_argument("--seconds", type=int, default=30, help="of each run")
    return parser.parse_args()


async def _measure(options: argparse.Namespace) -> None:
    seconds, inserts = options.seconds, options.inserts
    written = seconds * inserts
    async with _cluster(1, options) as one:
        [writes] = await _work(one, seconds, inserts)
        [reads] = await _work(one, seconds, refreshing=True)
        mixed = {1: await _work(one, seconds, inserts, refreshing=True)}
    async with _cluster(2, options) as two:
        sending, replay = await _work(two, seconds, inserts)
        mixed[2] = await _work(two, seconds, inserts, refreshing=True)
    async with _cluster(3, options) as three:
        mixed[3] = await _work(three, seconds, inserts, refreshing=True)
    send = max(0.0, sending - writes)
    units = Units(writes / written, replay / written, send / written, reads / seconds)
    _report(units, mixed, options)


def _report(units: Units, mixed: dict[int, list[float]], options: argparse.Namespace) -> None:
    print(f"an insert, with its fold    {units.write:.1f} µs of the primary")
    print(f"for each standby            {units.send:.1f} µs of the primary, {units.replay:.1f} µs of it")
    print(
        f"a refresh of {options.models:,} models   {units.refresh / 1e3:.0f} ms of the node that it reads\n"
    )
    print("| nodes | primary, cores | predicted | each standby, cores | predicted |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    seconds = options.seconds
    for nodes, used in mixed.items():
        expected = units.of_nodes(nodes, seconds * options.inserts, seconds)
        cells = [_cores(used[0], seconds), _cores(expected[0], seconds)]
        standbys = used[1:]
        cells += (
            [_cores(sum(standbys) / len(standbys), seconds), _cores(expected[1], seconds)]
            if standbys
            else ["", ""]
        )
        print(f"| {nodes} | {' | '.join(cells)} |")
    print("\n| models | inserts/s | nodes | primary, cores | each standby, cores | first |")
    print("| ---: | ---: | ---: | ---: | ---: | --- |")
    for models, inserts in STEPS:
        for nodes in NODES:
            refreshes = models / options.models / REFRESH_INTERVAL_SECONDS
            used = units.of_nodes(nodes, inserts, refreshes)
            standby = _cores(used[1]) if nodes > 1 else ""
            first = "the primary" if used[0] == max(used) else "a standby"
            print(f"| {models:,} | {inserts:,} | {nodes} | {_cores(used[0])} | {standby} | {first} |")


def _cores(used_us: float, seconds: float = 1) -> str:
    return f"{used_us / CORE_US / seconds:.3f}"


async def _work(cluster: Cluster, seconds: int, inserts: int = 0, *, refreshing: bool = False) -> list[float]:
    """Insert, fold and refresh for so long; return the processor time of each node."""
    statement = _SINGLE_INSERTS.format(deltas=inserts, table=TABLE, models=cluster.models)
    settings = cluster.settings
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        async with open_rollup(settings) as rollup, _stats(settings) as stats:
            await stats.refresh((), ())  # the first one prepares its statements
            before, began_at = cluster.cpu_us(), time.monotonic()
            for second in range(seconds):
                if inserts:
                    await connection.execute(statement)
                    if second % FOLD_INTERVAL_SECONDS == 0:
                        await rollup.fold()
                if refreshing:
                    report = await stats.refresh((), ())
                    assert report is not None
                    assert not report.failed, report
                await asyncio.sleep(max(0.0, began_at + second + 1 - time.monotonic()))
            return [after - start for after, start in zip(cluster.cpu_us(), before, strict=True)]
    finally:
        await connection.close()


@asynccontextmanager
async def _stats(settings: Settings) -> AsyncIterator[Stats]:
    database = Database(settings, application_name="bench")
    cache = Cache(settings, connect(settings.redis_url.get_secret_value(), timeout_seconds=2), database.clock)
    stats = Stats(settings, database, cache)
    await database.open()
    try:
        yield stats
    finally:
        await stats.close()
        await database.close()
        await cache.close()


@asynccontextmanager
async def _cluster(nodes: int, options: argparse.Namespace) -> AsyncIterator[Cluster]:
    with _servers(nodes) as (servers, redis_url):
        primary = servers[0]
        url = await create_database(primary.url())
        settings = settings_for(url, redis_url)
        await fill(settings, Shape(options.requests, options.models, 20, 90))
        async with open_rollup(settings) as rollup:
            await rollup.enable(lambda _progress: None)
        readers = [url.replace(str(primary.port), str(server.port)) for server in servers[1:]]
        await _until_replayed(url, readers)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers[1:])
        reading = url.replace(f"127.0.0.1:{primary.port}", hosts) if readers else None
        chosen: dict[str, Any] = {"windows": ",".join(WINDOWS), "read_database_url": reading}
        yield Cluster(
            servers, Settings(database_url=url, redis_url=redis_url, _env_file=None, **chosen), options.models
        )


async def _until_replayed(url: str, readers: list[str]) -> None:
    primary = await asyncpg.connect(url)
    written = await primary.fetchval("SELECT pg_current_wal_flush_lsn()")
    await primary.close()
    for reader in readers:
        standby = await asyncpg.connect(reader)
        while not await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", written):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await standby.close()


@contextmanager
def _servers(nodes: int) -> Iterator[tuple[list[PostgresServer], str]]:
    """Run a primary with its standbys, and a Redis, with their default settings."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-stats-bench-")))
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        redis = redis_server(folder / "redis")
        redis.start()
        stack.callback(redis.stop)
        servers = [postgres_server(folder / "primary", binaries=embedded_postgres_binaries())]
        servers[0].start()
        stack.callback(servers[0].stop)
        for number in range(1, nodes):
            servers.append(_standby(servers[0], folder / f"standby-{number}"))
            servers[-1].start()
            stack.callback(servers[-1].stop)
        yield servers, redis.url


def _standby(primary: PostgresServer, folder: Path) -> PostgresServer:
    owner = (primary.folder / "data").stat().st_uid
    for made, mode in ((folder, 0o755), (folder / "data", 0o700)):
        made.mkdir(mode=mode)
        os.chown(made, owner, -1)
    subprocess.run(
        [
            str(primary.binaries / "pg_basebackup"),
            *("--dbname", primary.url(), "--pgdata", str(folder / "data")),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"),
        ],
        user=owner if os.geteuid() == 0 else None,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return PostgresServer(
        folder, primary.binaries, free_port(), primary.password, {"hot_standby_feedback": "on"}
    )


def _cpu_us(server: PostgresServer) -> float:
    """Return the processor time of a server's processes, those that ended too."""
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    ended = postmaster.cpu_times()
    seconds = ended.children_user + ended.children_system
    for each in (postmaster, *postmaster.children(recursive=True)):
        used = each.cpu_times()
        seconds += used.user + used.system
    return float(1e6 * seconds)


if __name__ == "__main__":
    main()
