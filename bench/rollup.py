"""Compares rollup and scan: answers, backfill, fold, sizes, and the triggers' cost to writers.

    make bench-rollup
    python -m bench.rollup --requests 1000000 10000000 --markdown --plot rollup.svg

Every number is of one run, on servers of its own. It reports beside each target what was measured, and judges
nothing.
"""

import argparse
import asyncio
import os
import platform
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.dataset import Shape, describe, fill
from bench.plot import plot_times
from bench.servers import create_database, drop_database, own_servers, settings_for
from bench.writes import BARE_TABLE, CLIENTS, COPIED_ROWS, Writes, measure_writes
from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.rollup.connection import TABLE
from chat_stats.service.rollup.state import ROLLUP_TABLES
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings

#: Deltas of the measured fold, from single-row INSERTs: these cost a fold the most per request.
FOLDED_DELTAS = 250_000
#: Statement timeout in seconds, for folds and scans.
STATEMENT_SECONDS = 600

ALL_TIME, RAGGED = "all time", "100 days, ragged"
SERIES_NAME = "30d of one model, daily"
PERCENTILES_NAME = "percentiles by model, all time"

MODELS = "SELECT * FROM get_models_with_requests($1, $2)"
DAILY = "SELECT * FROM get_chat_request_timeseries('1d', 'none', 'UTC', $1, $2, NULL, '1')"
PERCENTILES = "SELECT * FROM get_chat_request_percentiles('model', $1, $2)"

_SINGLE_INSERTS = """
DO $inserts$
BEGIN
    FOR n IN 1 .. {deltas} LOOP
        INSERT INTO {table} (
            model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at
        ) VALUES (
            1 + n % {models}, n % 3000, n % 1000, round(80.25 + (n % 997) * 13.11, 2),
            'completed', round((n % 3000) * 0.000003, 6), now() - (n % 60) * interval '1 minute'
        );
    END LOOP;
END
$inserts$
"""

T = TypeVar("T")

console = Console()


@dataclass(slots=True)
class Answer:
    """Milliseconds of one query by the scan and by the rollup, and its rows."""

    scan_ms: float
    rollup_ms: float
    rows: int


@dataclass(slots=True)
class Measured:
    facts: dict[str, str]
    requests: int
    answers: dict[str, Answer] = field(default_factory=dict)
    backfill_seconds: float = 0.0
    fold_seconds: float = 0.0
    folded: int = 0
    rollup_bytes: int = 0
    table_bytes: int = 0


def main() -> None:
    # SIGTERM stops the servers too, not only Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options()
    with own_servers(options.database_url) as servers, console.status("") as status:

        def in_database(work: Callable[[Settings], Awaitable[T]]) -> T:
            url = asyncio.run(create_database(servers.admin_url))
            try:
                return asyncio.run(_awaited(work(settings_for(url, servers.redis_url))))
            finally:
                asyncio.run(drop_database(servers.admin_url, url))

        sizes = [
            in_database(
                partial(_measure, shape=_shape(options, requests), repeat=options.repeat, said=status.update)
            )
            for requests in options.requests
        ]
        writes = in_database(
            lambda settings: measure_writes(
                settings, servers.folder, _shape(options, 0), options.turns, options.seconds, status.update
            )
        )
    _report(sizes, writes, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rollup", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--requests", type=int, nargs="+", default=[1_000_000, 10_000_000], help="table sizes"
    )
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--providers", type=int, default=20)
    parser.add_argument("--days", type=int, default=365, help="time over which the requests spread")
    parser.add_argument("--repeat", type=int, default=7, help="runs of each query by the rollup")
    parser.add_argument(
        "--turns", type=int, default=7, help="turns of INSERT and COPY, without and with triggers"
    )
    parser.add_argument("--seconds", type=int, default=5, help="seconds of INSERTs in a turn")
    parser.add_argument(
        "--database-url",
        help="a Postgres to use instead of the embedded one: databases are created there, and dropped again",
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--plot", type=Path, help="write a plot of time against rows to this SVG file")
    return parser.parse_args()


def _shape(options: argparse.Namespace, requests: int) -> Shape:
    return Shape(requests, options.models, options.providers, options.days)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _measure(settings: Settings, shape: Shape, repeat: int, said: Callable[[str], None]) -> Measured:
    said(f"{shape.requests:,} requests: filling the table")
    await fill(settings, shape)
    measured = Measured(await describe(settings), shape.requests)
    connection = await asyncpg.connect(
        settings.database_url.get_secret_value(), server_settings={"timezone": "UTC"}
    )
    try:
        await connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
        questions = _questions(datetime.now(UTC))
        scanned = {}
        for name, (statement, bounds) in questions.items():
            said(f"{shape.requests:,} requests: scanning, {name}")
            scanned[name] = await _ask(connection, statement, bounds, min(repeat, 3))

        said(f"{shape.requests:,} requests: backfill")
        started = perf_counter()
        async with open_rollup(settings) as rollup:
            await rollup.enable(lambda _requests: None)
        measured.backfill_seconds = perf_counter() - started
        await connection.execute("VACUUM ANALYZE")
        measured.rollup_bytes = await _bytes(connection, ROLLUP_TABLES)
        measured.table_bytes = await _bytes(connection, [TABLE])

        for name, (statement, bounds) in questions.items():
            said(f"{shape.requests:,} requests: rollup, {name}")
            scan_ms, expected = scanned[name]
            rollup_ms, rows = await _ask(connection, statement, bounds, repeat)
            assert rows == expected, f"scan and rollup disagree: {name}"
            measured.answers[name] = Answer(scan_ms, rollup_ms, len(rows))

        said(f"{shape.requests:,} requests: fold")
        await connection.execute(
            _SINGLE_INSERTS.format(deltas=FOLDED_DELTAS, table=TABLE, models=shape.models)
        )
        started = perf_counter()
        measured.folded = await connection.fetchval("SELECT chat_stats_fold()")
        measured.fold_seconds = perf_counter() - started
    finally:
        await connection.close()
    return measured


def _questions(now: datetime) -> dict[str, tuple[str, tuple[datetime | None, datetime | None]]]:
    # `now` lies inside a bucket, as it nearly always does: each window has two partial buckets.
    end = now.replace(minute=now.minute // 15 * 15 + 7, second=33, microsecond=123_457)
    return {
        ALL_TIME: (MODELS, (None, None)),
        **{name: (MODELS, (end - length, end)) for name, length in WINDOWS.items() if length is not None},
        RAGGED: (MODELS, (end - timedelta(days=133, hours=5, minutes=4), end - timedelta(days=33, hours=7))),
        PERCENTILES_NAME: (PERCENTILES, (None, None)),
        SERIES_NAME: (DAILY, (end - timedelta(days=30), end)),
    }


async def _ask(
    connection: "asyncpg.Connection[asyncpg.Record]",
    statement: str,
    bounds: tuple[datetime | None, datetime | None],
    repeat: int,
) -> tuple[float, list[asyncpg.Record]]:
    """Return the median milliseconds after one warm-up run, and the rows."""
    rows = await connection.fetch(statement, *bounds)
    milliseconds = []
    for _ in range(repeat):
        started = perf_counter()
        rows = await connection.fetch(statement, *bounds)
        milliseconds.append((perf_counter() - started) * 1000)
    return median(milliseconds), rows


async def _bytes(connection: "asyncpg.Connection[asyncpg.Record]", tables: Sequence[str]) -> int:
    return int(
        await connection.fetchval(
            "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest($1::text[]) AS t (name)",
            list(tables),
        )
    )


def _report(sizes: list[Measured], writes: Writes, options: argparse.Namespace) -> None:
    for measured in sizes:
        facts = measured.facts
        _print_line(
            f"{facts['requests']} requests ({facts['table_size']}, indexes {facts['index_size']}), "
            f"{facts['models']} models, {facts['providers']} providers, {options.days} days; "
            f"Postgres {facts['postgres']}: {facts['settings']}"
        )
    _print_line(
        f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}; client and server share them, "
        f"with whatever else runs (load average at the end {os.getloadavg()[0]:.1f}); medians"
    )
    show = _print_markdown if options.markdown else _print_table
    headings = ["answer"]
    for measured in sizes:
        count = f"{measured.requests:,}"
        headings += [f"scan, {count}", f"rollup, {count}", "times faster"]
    show(headings, [_answer_row(name, sizes) for name in sizes[0].answers])
    show(["", *(f"{measured.requests:,} rows" for measured in sizes), "target"], _upkeep_rows(sizes))
    show(
        ["writes", "without triggers", "with triggers", "share", "target"],
        [
            [
                f"single-row INSERT, {CLIENTS} clients, per second",
                f"{writes.median(BARE_TABLE, 'insert'):,.0f}",
                f"{writes.median(TABLE, 'insert'):,.0f}",
                f"{writes.share('insert'):.0%}",
                "at least 80 %",
            ],
            [
                f"COPY of {COPIED_ROWS:,} rows",
                f"{writes.median(BARE_TABLE, 'copy') * 1000:,.0f} ms",
                f"{writes.median(TABLE, 'copy') * 1000:,.0f} ms",
                f"{writes.share('copy'):.0%}",
                "at least 85 %",
            ],
        ],
    )
    if options.plot:
        plot_times(options.plot, "Statistics per model: scan and rollup", _series(sizes))


def _answer_row(name: str, sizes: list[Measured]) -> list[str]:
    row = [name]
    for measured in sizes:
        answer = measured.answers[name]
        row += [
            f"{answer.scan_ms:,.1f} ms",
            f"{answer.rollup_ms:,.1f} ms",
            f"{answer.scan_ms / answer.rollup_ms:,.1f}",
        ]
    return row


def _upkeep_rows(sizes: list[Measured]) -> list[list[str]]:
    first = sizes[0].answers[ALL_TIME].rollup_ms
    return [
        [
            "backfill, rows/s",
            *(f"{measured.requests / measured.backfill_seconds:,.0f}" for measured in sizes),
            "at least 300,000",
        ],
        [
            "fold, deltas/s",
            *(f"{measured.folded / measured.fold_seconds:,.0f}" for measured in sizes),
            "at least 250,000",
        ],
        [
            "rollup, share of the table with its indexes",
            *(f"{measured.rollup_bytes / measured.table_bytes:.1%}" for measured in sizes),
            "below 35 % at 10 million",
        ],
        [
            "all time, growth",
            *(f"{measured.answers[ALL_TIME].rollup_ms / first:.2f} x" for measured in sizes),
            "at most 1.3 x",
        ],
    ]


def _series(sizes: list[Measured]) -> dict[str, list[tuple[int, float]]]:
    shown = (ALL_TIME, "30d", "24h")
    series = {}
    for name in shown:
        series[f"scan, {name}"] = [(m.requests, m.answers[name].scan_ms) for m in sizes]
        series[f"rollup, {name}"] = [(m.requests, m.answers[name].rollup_ms) for m in sizes]
    return series


def _print_line(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _print_table(headings: list[str], rows: list[list[str]]) -> None:
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # No number may be cut off in a narrow terminal or in a pipe.
    Console(width=max(console.width, 160)).print(table)


def _print_markdown(headings: list[str], rows: list[list[str]]) -> None:
    print()
    for line in (headings, ["---", *("---:" for _ in headings[1:])], *rows):
        print("| " + " | ".join(line) + " |")
    print()


if __name__ == "__main__":
    main()
