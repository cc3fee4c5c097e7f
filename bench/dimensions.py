"""Compares answers by any dimension from rollups with those by scan; and what five rollups cost.

    make bench-dimensions
    python -m bench.dimensions --requests 1000000

500 models, 100,000 users with a heavy tail, 2,000 keys, 12 statuses, 365 days. Each question is answered by
scan, then the rollups are added, then it is answered again: rows that differ are named. Times depend on what
else the machine does, the processor time of Postgres and of this process less. It judges nothing.
"""

import argparse
import asyncio
import os
import platform
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import parse_qsl

import asyncpg
import psutil
from rich.console import Console

from bench.dataset import Shape, describe, fill
from bench.servers import Servers, create_database, drop_database, own_servers, settings_for
from bench.writes import CLIENTS, pgbench
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.catalogue.rows import Data
from chat_stats.service.compute.ladder import compute
from chat_stats.service.database.pool import Database
from chat_stats.service.rollup.own import open_own_rollups
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings

#: Seconds for a statement.
STATEMENT_SECONDS = 600.0
#: Requests that are inserted one by one, for a fold.
FOLDED = 100_000
#: Seconds and turns of inserts, with the built-in rollups and with all.
INSERT_SECONDS, INSERT_TURNS = 5, 5

# The share of a user falls with the third power: the first thousand have a fifth of the requests.
_BITS = "hashint8extended(id, 7)"
_DIMENSIONS = f"""
UPDATE chat_completion_requests SET
    user_id = 'u' || floor(100000 * ((({_BITS} >> 20) & 1048575) / 1048576.0::float8) ^ 3)::int,
    key_id = 'k' || floor(2000 * ((({_BITS} >> 40) & 65535) / 65536.0::float8) ^ 2)::int,
    status = CASE WHEN status = 'failed' THEN 'failed_' || ({_BITS} & 1048575) % 11 ELSE 'completed' END,
    error_message = CASE WHEN status = 'failed' THEN
        (ARRAY['429 Too Many Requests', 'upstream timeout', 'maximum context length', 'blocked'])
            [1 + ({_BITS} & 1048575) % 4]
    END
"""
_SINGLE_INSERTS = """
DO $inserts$
BEGIN
    FOR n IN 1 .. {rows} LOOP
        INSERT INTO chat_completion_requests (
            model_id, user_id, key_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd,
            created_at
        ) VALUES (
            1 + n % 500, 'u' || n % 1000, 'k' || n % 100, n % 3000, n % 1000, round(80.25 + n % 997, 2),
            'completed', round((n % 3000) * 0.000003, 6), now() - (n % 60) * interval '1 minute'
        );
    END LOOP;
END
$inserts$
"""
_INSERT = """\\set n random(1, 1000000)
INSERT INTO chat_completion_requests (
    model_id, user_id, key_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at
) VALUES (
    1 + :n % 500, 'u' || :n % 1000, 'k' || :n % 100, :n % 3000, :n % 1000, 80.25 + :n % 997, 'completed',
    (:n % 3000) * 0.000003, now()
);
"""

#: By name: dimensions, and whether there are percentiles.
ROLLUPS = {
    "users": (["user_id"], True),
    "keys": (["key_id", "user_id", "model_id"], False),
    "errors": (["error_kind"], True),
}
QUESTIONS = {
    "top 100 users by cost, all time": (
        "group_by=user_id&measures=total_cost_usd&order_by=-total_cost_usd&limit=100"
    ),
    "top 100 users by cost, 30 days": (
        "group_by=user_id&measures=total_cost_usd&order_by=-total_cost_usd&limit=100&window=30d"
    ),
    "one user, daily, with percentiles, 365 days": (
        "user_id=u0&bucket=1d&measures=total_requests,p95_processing_time_ms&window=365d"
    ),
    "users x models of one key, 30 days": (
        "key_id=k0&group_by=user_id,model_id&measures=total_requests,total_tokens&window=30d"
    ),
    "kinds of errors by hour, 7 days": "group_by=error_kind&bucket=1h&measures=failed_requests&window=7d",
    "all, daily, with percentiles, 365 days": (
        "bucket=1d&measures=total_requests,p95_processing_time_ms&window=365d"
    ),
}


@dataclass(slots=True)
class Answered:
    """One question: milliseconds, those of processor time, from where, and the rows."""

    ms: float
    processor_ms: float
    source: str
    rows: Data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=20, help="runs of each question from the rollups")
    options = parser.parse_args()
    with own_servers() as servers:
        asyncio.run(_measure(servers, options.requests, options.repeat))


async def _measure(servers: Servers, requests: int, repeat: int) -> None:
    console = Console(soft_wrap=True, highlight=False)
    url = await create_database(servers.admin_url)
    settings = settings_for(url, servers.redis_url).model_copy(update={"dimensions": "user_id, key_id"})
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        _say(f"{requests:,} requests: filling the table")
        await fill(settings, Shape(requests, models=500, providers=20, days=365))
        await connection.execute("SET statement_timeout = 0")
        await _set_dimensions(connection)
        await connection.execute("VACUUM FULL ANALYZE chat_completion_requests")
        facts = await describe(settings)
        _say("answering by scan")
        until = datetime.now(UTC)
        scanned = await _ask(settings, 1, until)
        added = await _add_rollups(settings)
        await connection.execute("VACUUM ANALYZE")
        _say("answering from the rollups")
        answered = await _ask(settings, repeat, until)
        load = os.getloadavg()[0]
        sizes = await _sizes(connection)
        await connection.execute(_SINGLE_INSERTS.format(rows=FOLDED))
        started = perf_counter()
        folded = await connection.fetchval("SELECT chat_stats_fold()")
        fold_seconds = perf_counter() - started
    finally:
        await connection.close()
        await drop_database(servers.admin_url, url)
    _say("inserting with the built-in rollups and with all, in turn")
    inserts = await _inserts(servers)
    with_built_in, with_all = (median(turns) for turns in zip(*inserts, strict=True))
    of_built_in = median(with_five / with_two for with_two, with_five in inserts)
    console.print(", ".join(f"{name} {value}" for name, value in facts.items()))
    console.print(
        f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, load {load:.1f}; medians\n"
    )
    console.print(
        "| question | scan | rollup | its processor time | times faster | source |\n"
        "| --- | ---: | ---: | ---: | ---: | --- |"
    )
    for name, by_scan in scanned.items():
        found = answered[name]
        same = "" if found.rows == by_scan.rows else " (other rows)"
        console.print(
            f"| {name} | {by_scan.ms:,.1f} ms | {found.ms:,.1f} ms | {found.processor_ms:,.1f} ms "
            f"| {by_scan.ms / found.ms:,.1f} | {found.source}{same} |",
            markup=False,
        )
    console.print(
        "\n| rollup | added in | size, share of the table with its indexes |\n| --- | ---: | ---: |"
    )
    for name, share in sizes.items():
        seconds = f"{added[name]:,.1f} s" if name in added else ""
        console.print(f"| {name} | {seconds} | {share:.1%} |")
    console.print(f"\nfold of {len(sizes)} rollups: {folded / fold_seconds:,.0f} deltas/s")
    console.print(
        f"inserts by {CLIENTS} clients: {with_built_in:,.0f}/s with the built-in rollups, "
        f"{with_all:,.0f}/s with {len(sizes)}: {of_built_in:.2f}"
    )


async def _set_dimensions(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Set them without the indexes, which would take most of the time, and make these again."""
    made = await connection.fetch(
        "SELECT indexname AS name, indexdef AS definition FROM pg_indexes "
        "WHERE tablename = 'chat_completion_requests' AND indexname LIKE 'chat_stats%'"
    )
    for index in made:
        await connection.execute(f"DROP INDEX {index['name']}")
    await connection.execute(_DIMENSIONS)
    for index in made:
        await connection.execute(index["definition"])


def _say(text: str) -> None:
    print(text, file=sys.stderr)


async def _add_rollups(settings: Settings, names: Collection[str] = tuple(ROLLUPS)) -> dict[str, float]:
    """Return the seconds that each took."""
    seconds = {}
    _say("switching the rollup on")
    started = perf_counter()
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _requests: None)
    seconds["model"] = perf_counter() - started
    for name in names:
        by, percentiles = ROLLUPS[name]
        _say(f"adding {name}")
        started = perf_counter()
        async with open_own_rollups(settings) as rollups:
            await rollups.add(
                await rollups.declare(name, by, percentiles=percentiles), lambda _requests: None
            )
        seconds[name] = perf_counter() - started
    return seconds


async def _ask(settings: Settings, repeat: int, until: datetime) -> dict[str, Answered]:
    database = Database(settings, application_name="bench")
    await database.open()
    found = {}
    try:
        for name, text in QUESTIONS.items():
            query = parse_question(parse_qsl(_until(text, until)), settings.known_dimensions)
            times: list[float] = []
            used = 0.0
            # One before several is not counted: it makes the connection, and its plans.
            for number in range(0 if repeat == 1 else -1, repeat):
                if number == 0:
                    times, used = [], _processor_seconds()
                async with database.snapshot(wait_seconds=STATEMENT_SECONDS) as snapshot:
                    started = perf_counter()
                    computed = await compute(snapshot, query, timeout=STATEMENT_SECONDS)
                    times.append((perf_counter() - started) * 1000)
            processor_ms = (_processor_seconds() - used) * 1000 / repeat
            found[name] = Answered(median(times), processor_ms, str(computed.totals["source"]), computed.data)
    finally:
        await database.close()
    return found


def _processor_seconds() -> float:
    """Return what this process and its servers have used so far, also in processes that ended."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))


def _until(question: str, end: datetime) -> str:
    """Let the question be about one range, however late it is asked."""
    if (window := re.search(r"&window=(\d+)d", question)) is None:
        return question
    moments = {"start_date": end - timedelta(days=int(window[1])), "end_date": end}
    return question.replace(
        window[0], "".join(f"&{name}={moment:%Y-%m-%dT%H:%M:%S}" for name, moment in moments.items())
    )


async def _inserts(servers: Servers) -> list[tuple[float, float]]:
    """Return the single-row inserts per second of each turn: with the built-in rollups, and with all."""
    script = servers.folder / "insert.sql"
    script.write_text(_INSERT, encoding="utf-8")
    urls = []
    try:
        for names in ((), tuple(ROLLUPS)):
            urls.append(url := await create_database(servers.admin_url))
            settings = settings_for(url, servers.redis_url).model_copy(
                update={"dimensions": "user_id, key_id"}
            )
            await fill(settings, Shape(FOLDED, models=500, providers=20, days=30))
            await _add_rollups(settings, names)
        return [(await _insert(urls[0], script), await _insert(urls[1], script)) for _ in range(INSERT_TURNS)]
    finally:
        for url in urls:
            await drop_database(servers.admin_url, url)


async def _insert(url: str, script: Path) -> float:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT chat_stats_fold(); CHECKPOINT")
    finally:
        await connection.close()
    return await asyncio.to_thread(pgbench, url, script, INSERT_SECONDS)


async def _sizes(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, float]:
    names: Sequence[str] = ("model", "total", *ROLLUPS)
    records = await connection.fetch(
        r"""
        SELECT
            n.name,
            sum(pg_total_relation_size(c.oid)) / pg_total_relation_size('chat_completion_requests') AS share
        FROM unnest($1::text[]) AS n (name)
        JOIN pg_class AS c ON c.relkind = 'r' AND c.relname LIKE format('chat\_stats\_rollup\_%s\_%%', n.name)
        GROUP BY n.name
        """,
        list(names),
    )
    shares = {record["name"]: float(record["share"]) for record in records}
    return {name: shares[name] for name in names}


if __name__ == "__main__":
    main()
