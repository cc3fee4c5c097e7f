"""The rollup on Citus and on one Postgres, side by side: reads, backfill, inserts, folds, sizes by node.

    python -m bench.citus plain=postgresql://..  two=postgresql://..  [--requests 1000000] [--seconds 8]

Each database is empty, but for the gateway's three tables: on Citus these are distributed before, as
docs/scaling.md has it.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.dataset import Shape, fill
from bench.servers import settings_for
from chat_stats.service.rollup.upkeep import Rollup, open_rollup

CLIENTS = 4
READS = 15
#: Deltas of the measured fold, by statements of 1,000 rows.
DELTAS = 150_000

_READ = "SELECT * FROM get_models_with_requests($1, $2)"
_INSERT = (
    "INSERT INTO {} (model_id, input_tokens, output_tokens, processing_time_ms) VALUES ($1, 100, 200, 812.5)"
)
#: The same requests without triggers: what INSERTs are compared with, turn by turn.
_UNTOUCHED = (
    "CREATE TABLE untouched (LIKE chat_completion_requests INCLUDING ALL)",
    "DO $do$ BEGIN IF to_regclass('citus_shards') IS NOT NULL THEN "
    "PERFORM create_distributed_table('untouched', 'model_id', colocate_with => 'chat_completion_requests'); "
    "END IF; END $do$",
    "INSERT INTO untouched OVERRIDING SYSTEM VALUE SELECT * FROM chat_completion_requests",
    "SELECT setval(pg_get_serial_sequence('untouched', 'id'), (SELECT max(id) FROM untouched))",
)
TURNS = 6
_MANY = (
    "INSERT INTO chat_completion_requests (model_id, input_tokens, output_tokens, processing_time_ms) "
    "SELECT 1 + i % 100, i % 3000, i % 1000, 80.25 + i % 997 FROM generate_series(1, $1) AS i"
)
_BY_NODE = (
    "SELECT nodeport, sum(shard_size)::bigint AS bytes FROM citus_shards "
    "WHERE table_name::text ~ 'chat_completion_requests|chat_stats_shard_deltas' GROUP BY 1 ORDER BY 1"
)


@dataclass(slots=True)
class Figures:
    """Of one database, by what was measured, as text."""

    name: str
    found: dict[str, str] = field(default_factory=dict)


async def milliseconds(connection: asyncpg.Connection, since: datetime | None) -> float:
    """Return the median of some reads of all models."""
    taken = []
    for _ in range(READS):
        started = perf_counter()
        await connection.fetch(_READ, since, None)
        taken.append((perf_counter() - started) * 1000)
    return median(taken)


async def inserts(connections: Sequence[asyncpg.Connection], table: str, seconds: float) -> float:
    """Return single-row INSERTs per second over some connections."""
    done = 0
    end = perf_counter() + seconds

    async def write(number: int, connection: asyncpg.Connection) -> None:
        nonlocal done
        while perf_counter() < end:
            await connection.execute(_INSERT.format(table), 1 + (done + number) % 100)
            done += 1

    await asyncio.gather(*(write(number, connection) for number, connection in enumerate(connections)))
    return done / seconds


async def both_inserts(url: str, seconds: float) -> tuple[float, float]:
    """Return INSERTs per second without the rollup and with it: medians, taken in turns."""
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(CLIENTS):
            connections.append(await asyncpg.connect(url))
            stack.push_async_callback(connections[-1].close)
        for statement in _UNTOUCHED:
            await connections[0].execute(statement)
        tables = ("untouched", "chat_completion_requests")
        for table in tables:  # sessions plan
            await inserts(connections, table, seconds / TURNS)
        turns = [
            [await inserts(connections, table, seconds / TURNS) for table in tables] for _ in range(TURNS)
        ]
    untouched, counted = zip(*turns, strict=True)
    return median(untouched), median(counted)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await work()
    return perf_counter() - started


async def fold_all(rollup: Rollup) -> None:
    while await rollup.fold():
        pass
    await rollup.fold()  # on Citus, the batch that the one before closed


async def measure(name: str, url: str, requests: int, seconds: float) -> Figures:
    figures = Figures(name)
    settings = settings_for(url, "redis://127.0.0.1:1/0")
    await fill(settings, Shape(requests=requests))
    week = datetime.now(UTC) - timedelta(days=7, minutes=7)
    connection = await asyncpg.connect(url)
    try:
        async with open_rollup(settings) as rollup:
            found = figures.found
            found["scan, all time (ms)"] = f"{await milliseconds(connection, None):.1f}"
            found["scan, 7 days (ms)"] = f"{await milliseconds(connection, week):.1f}"
            backfill = await timed(lambda: rollup.enable(lambda _requests: None))
            found["backfill (requests/s)"] = f"{requests / backfill:,.0f}"
            await fold_all(rollup)
            found["rollup, all time (ms)"] = f"{await milliseconds(connection, None):.1f}"
            found["rollup, 7 days (ms)"] = f"{await milliseconds(connection, week):.1f}"
            untouched, counted = await both_inserts(url, seconds)
            found["inserts/s without it"] = f"{untouched:,.0f}"
            found["inserts/s with it"] = f"{counted:,.0f} ({counted / untouched:.2f})"
            await fold_all(rollup)
            for _ in range(DELTAS // 1000):
                await connection.execute(_MANY, 1000)
            folding = await timed(lambda: fold_all(rollup))
            found["fold (deltas/s)"] = f"{DELTAS / folding:,.0f}"
            assert await rollup.verify(lambda _requests: None) == 0
            status = await rollup.status()
            found["rollup on the coordinator (MB)"] = f"{status.rollup_bytes / 1e6:.1f}"
            if await connection.fetchval("SELECT to_regclass('citus_shards') IS NOT NULL"):
                nodes = await connection.fetch(_BY_NODE)
                found["requests and deltas by node (MB)"] = ", ".join(
                    f"{node['bytes'] / 1e6:.0f}" for node in nodes
                )
    finally:
        await connection.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("databases", nargs="+", metavar="NAME=URL")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    measured = []
    for database in arguments.databases:
        name, _, url = database.partition("=")
        measured.append(asyncio.run(measure(name, url, arguments.requests, arguments.seconds)))
    table = Table("", *(figures.name for figures in measured))
    for what in dict.fromkeys(what for figures in measured for what in figures.found):
        table.add_row(what, *(figures.found.get(what, "") for figures in measured))
    Console().print(table)


if __name__ == "__main__":
    main()
