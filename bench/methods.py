"""The cost of one answer: all rows fetched and aggregated by the client, each method, and a cache hit.

    make bench
    python -m bench.methods --requests 1000000 --repeat 5 --markdown

Every run of every contender is a new process, so that its peak memory is its own, and the contenders take
turns, so that a busy moment of the machine hits all of them. It reports and judges nothing.
"""

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import contenders
from bench.contenders import PAGE_ROWS, PATH, SAMPLED_PAGES, Run
from bench.dataset import Shape, describe, fill
from bench.measure import MEGABYTE, Cost, in_fresh_process
from bench.servers import create_database, drop_database, own_servers, settings_for, web_service
from chat_stats.service.compute.methods import LADDER, Method

HEADINGS = ("contender", "median", "min .. max", "peak client memory", "time against rpc")
FETCH_ALL, HIT = "fetch all rows", "cache hit over HTTP"
PAGES = {"fetch all rows, in pages": contenders.PAGE, "the same, models nested": contenders.NESTED_PAGE}

console = Console()


def main() -> None:
    # SIGTERM stops the servers too, not only Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options()
    shape = Shape(options.requests, options.models, options.providers, options.days)
    with own_servers(options.database_url) as servers:
        database_url = asyncio.run(create_database(servers.admin_url))
        try:
            settings = settings_for(database_url, servers.redis_url)
            started = time.perf_counter()
            asyncio.run(fill(settings, shape))
            facts = asyncio.run(describe(settings))
            facts["filled_in"] = _time(time.perf_counter() - started)
            with web_service(servers, database_url) as service_url:
                work: dict[str, Callable[[], Run]] = {
                    FETCH_ALL: partial(contenders.fetch_all_rows, database_url),
                    **{
                        name: partial(contenders.fetch_pages, statement, database_url, shape.requests)
                        for name, statement in PAGES.items()
                    },
                    **{
                        name: partial(contenders.method, name, database_url, servers.redis_url)
                        for name in map(str, LADDER)
                    },
                    HIT: partial(contenders.cache_hits, service_url, options.http_requests),
                }
                runs = _take_turns(work, options.repeat)
        finally:
            asyncio.run(drop_database(servers.admin_url, database_url))
    _print_facts(facts, options)
    rows = _table(runs)
    if options.markdown:
        _print_markdown(rows)
    else:
        _print_table(rows)
    _print_notes(runs, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.methods", description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--providers", type=int, default=15)
    parser.add_argument("--days", type=int, default=90, help="time over which the requests spread")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each contender")
    parser.add_argument("--http-requests", type=int, default=2_000, help="cache hits in a run")
    parser.add_argument(
        "--database-url",
        help="a Postgres to use instead of the embedded one: a database is created there, and dropped again",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


def _take_turns(work: dict[str, Callable[[], Run]], repeat: int) -> dict[str, list[Run]]:
    """Run each contender `repeat` times, and stop if two of them disagree about the numbers."""
    runs: dict[str, list[Run]] = {name: [] for name in work}
    with console.status("") as status:
        for turn in range(repeat):
            for name, contender in work.items():
                status.update(f"{turn + 1} of {repeat}: {name}")
                runs[name].append(in_fresh_process(contender))
    expected = runs[Method.RPC][0].rows
    for name, of_contender in runs.items():
        for run in of_contender:
            if name in (FETCH_ALL, Method.RPC, Method.OPTIMIZED, HIT):
                assert run.rows == expected, f"{name} and rpc disagree"
            elif name not in PAGES:
                assert _request_counts(run) == _request_counts(runs[Method.RPC][0]), f"{name} counts wrongly"
    return runs


def _request_counts(run: Run) -> dict[Any, int]:
    return {row["model_id"]: row["stats"]["total_requests"] for row in run.rows}


def _table(runs: dict[str, list[Run]]) -> list[tuple[str, ...]]:
    rpc = median(run.cost.seconds for run in runs[Method.RPC])
    rows = []
    for name, of_contender in runs.items():
        costs = [run.cost for run in of_contender]
        rows.append(_row(f"{name}, p50" if name == HIT else name, costs, rpc))
        tails = [Cost(run.p99_seconds, run.cost.peak_bytes) for run in of_contender if run.p99_seconds]
        if tails:
            rows.append(_row(f"{name}, p99", tails, rpc))
    return rows


def _row(name: str, costs: list[Cost], rpc: float) -> tuple[str, ...]:
    seconds = [cost.seconds for cost in costs]
    about = "about " if name in PAGES else ""
    return (
        name,
        about + _time(median(seconds)),
        f"{_time(min(seconds))} .. {_time(max(seconds))}",
        f"{about}{median(cost.peak_bytes for cost in costs) / MEGABYTE:,.1f} MB",
        f"{median(seconds) / rpc:,.3g} x",
    )


def _time(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _print_facts(facts: dict[str, str], options: argparse.Namespace) -> None:
    command = " ".join(["python -m bench.methods", *(_shown(arg) for arg in sys.argv[1:])])
    where = "embedded, as installed" if options.database_url is None else "given by --database-url"
    lines = (
        f"command   {command}",
        f"rows      {facts['requests']} requests ({facts['table_size']}, indexes {facts['index_size']}), "
        f"{facts['models']} models, {facts['providers']} providers, {options.days} days; "
        f"filled in {facts['filled_in']}",
        f"Postgres  {facts['postgres']}, {where}: {facts['settings']}",
        f"machine   {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}; client and servers share it",
        f"runs      {options.repeat} of each, in turn, each in a new process",
    )
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _shown(argument: str) -> str:
    """Return an argument in printable form: a database's URL holds a password."""
    name, found, _ = argument.partition("postgres")
    return f"{name}..." if found else argument


def _print_table(rows: list[tuple[str, ...]]) -> None:
    table = Table()
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # No number may be cut off in a narrow terminal or in a pipe.
    Console(width=max(console.width, 110)).print(table)


def _print_markdown(rows: list[tuple[str, ...]]) -> None:
    lines = [
        HEADINGS,
        ("---", *("---:" for _ in HEADINGS[1:])),
        *((f"`{row[0]}`" if row[0] in LADDER else row[0], *row[1:]) for row in rows),
    ]
    print()
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def _print_notes(runs: dict[str, list[Run]], options: argparse.Namespace) -> None:
    pages = -(-options.requests // PAGE_ROWS)
    process = median(run.cost.process_bytes for run in runs[Method.RPC]) / MEGABYTE
    notes = (
        "Peak client memory is what the client's process grew by, beyond the interpreter, its libraries and "
        f"open connections; the whole process of rpc peaked at {process:,.0f} MB.",
        f"In pages: {PAGE_ROWS:,} rows each, by LIMIT and OFFSET, as JSON, kept in a list; extrapolated from "
        f"{min(SAMPLED_PAGES, pages)} of {pages:,} pages spread evenly, without HTTP and network.",
        f"Over HTTP: {options.http_requests:,} requests for {PATH} in a row, one keep-alive connection, the "
        "time that httpx itself takes included; the service is one uvicorn process.",
        "All came to the same rows, those that only count to the same counts (pages: not compared).",
    )
    for note in notes:
        console.print(escape(note), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
