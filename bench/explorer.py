"""Single requests over HTTP: pages near and far, first byte and memory of a large page, exports, plots.

    make bench-explorer
    python -m bench.explorer --requests 10000000 --rollup --markdown

It starts its own servers; every number is a median of `--runs`. `--rollup` measures once without and once
with the rollup. It reports numbers and has no pass or fail.
"""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.dataset import Shape, describe, fill
from bench.servers import create_database, drop_database, own_servers, settings_for, web_service
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings

LARGE_PAGE = 100_000
PAGE = 100
FAR_PAGE = 10_000

console = Console(width=140)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rollup", action="store_true", help="repeat with the rollup on")
    parser.add_argument(
        "--markdown", action="store_true", help="print tables in the format of docs/benchmarks.md"
    )
    options = parser.parse_args()
    with own_servers() as servers:
        url = asyncio.run(create_database(servers.admin_url))
        try:
            settings = settings_for(url, servers.redis_url)
            started = time.perf_counter()
            asyncio.run(fill(settings, Shape(requests=options.requests, models=options.models)))
            console.print(f"filled in {time.perf_counter() - started:.0f} s")
            console.print(asyncio.run(describe(settings)))
            for rollup in (False, True)[: 1 + options.rollup]:
                if rollup:
                    asyncio.run(_enable_rollup(settings))
                with web_service(servers, url) as service:
                    measured = _measure(f"{service}/api/monitoring/chat-requests", options.runs)
                _print(
                    f"{options.requests:,} requests, rollup {'on' if rollup else 'off'}", measured, options
                )
            console.print(f"load average {os.getloadavg()[0]:.1f}")
        finally:
            asyncio.run(drop_database(servers.admin_url, url))


async def _enable_rollup(settings: Settings) -> None:
    async with open_rollup(settings) as switch:
        await switch.enable(lambda _requests: None)
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def _measure(url: str, runs: int) -> list[list[str]]:
    """Return a row for each case: name, first byte, whole, bytes, growth, total_count."""
    process = next(child for child in psutil.Process().children() if "uvicorn" in child.cmdline())
    rows = []
    with httpx.Client(timeout=120) as client:
        last = client.get(url, params={"limit": 1}).json()["data"][0]
        before = process.memory_info().rss  # for all cases: a process does not return memory
        cursor = _far_cursor(client, url)
        day = (datetime.now(UTC) - timedelta(days=60)).date().isoformat()
        cases: dict[str, dict[str, object]] = {
            f"page 1 of {PAGE}": {"limit": PAGE},
            f"page {FAR_PAGE:,} by cursor": {"limit": PAGE, "cursor": cursor},
            "of one model": {"limit": PAGE, "model_id": last["model_id"]},
            "of a provider": {"limit": PAGE, "provider_id": last["models"]["provider_id"]},
            "status=failed": {"limit": PAGE, "status": "failed"},
            "status=completed": {"limit": PAGE, "status": "completed"},
            "status=failed of one model": {
                "limit": PAGE,
                "status": "failed",
                "model_id": last["model_id"],
            },
            "status=failed, a day 60 days ago": {
                "limit": PAGE,
                "status": "failed",
                "start_date": day,
                "end_date": day,
            },
            "model_name, 10 of them": {"limit": PAGE, "model_name": "model 01"},
            "model_name, all of them": {"limit": PAGE, "model_name": "model"},
            "7 days": {"limit": PAGE, "window": "7d"},
            "a day 60 days ago": {"limit": PAGE, "start_date": day, "end_date": day},
            f"offset {PAGE * FAR_PAGE:,}": {"limit": PAGE, "offset": PAGE * FAR_PAGE},
            "plot, no cache": {},
            f"{LARGE_PAGE:,} rows, json": {"limit": LARGE_PAGE},
            f"{LARGE_PAGE:,} rows, ndjson": {"limit": LARGE_PAGE, "format": "ndjson"},
            f"{LARGE_PAGE:,} rows, csv": {"limit": LARGE_PAGE, "format": "csv"},
            f"{LARGE_PAGE:,} rows, parquet": {"limit": LARGE_PAGE, "format": "parquet"},
        }
        for name, parameters in cases.items():
            path = url if "plot" not in name else f"{url}/plot-data"
            taken = [
                _get(
                    client,
                    path,
                    parameters | ({"points": 2000 + run} if "plot" in name else {}),
                    process,
                    before,
                )
                for run in range(runs)
            ]
            total = taken[-1][4]
            rows.append(
                [
                    name,
                    f"{taken[0][0]:,.0f}",
                    *(f"{_median(taken, at):,.0f}" for at in range(2)),
                    f"{taken[0][2]:,}",
                    f"{max(t[3] for t in taken):.1f}",
                    "" if total is None else f"{total:,}",
                ]
            )
    return rows


COLUMNS = (
    *("what", "first byte at first, ms", "first byte, ms", "whole, ms", "bytes"),
    *("memory grew by, MB", "total_count"),
)


def _print(title: str, rows: list[list[str]], options: argparse.Namespace) -> None:
    console.print(title)
    if options.markdown:
        for row in (COLUMNS, ["---"] + ["---:"] * (len(COLUMNS) - 1), *rows):
            console.out(f"| {' | '.join(row)} |", highlight=False)
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _far_cursor(client: httpx.Client, url: str) -> str:
    """Walk to where page FAR_PAGE begins, in ten steps."""
    parameters: dict[str, str | int] = {"limit": PAGE * (FAR_PAGE - 1) // 10, "fields": "id"}
    for _ in range(10):
        answer = client.get(url, params=parameters).raise_for_status().json()
        parameters["cursor"] = answer["metadata"]["next_cursor"]
    return str(parameters["cursor"])


Taken = tuple[float, float, int, float, int | None]


def _get(
    client: httpx.Client, url: str, parameters: dict[str, object], process: psutil.Process, before: int
) -> Taken:
    clear = Path(f"/proc/{process.pid}/clear_refs")
    clear.write_text("5")  # resets the peak resident size
    started = time.perf_counter()
    first, body = 0.0, bytearray()
    with client.stream("GET", url, params=parameters) as response:  # type: ignore[arg-type]
        response.raise_for_status()
        for chunk in response.iter_bytes():
            first = first or time.perf_counter() - started
            body += chunk
    whole = time.perf_counter() - started
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    end = bytes(body[-2000:])
    total = int(end.partition(b'"total_count":')[2].partition(b",")[0]) if b'"total_count":' in end else None
    return first * 1000, whole * 1000, len(body), (peak - before) / 1e6, total


def _median(taken: list[Taken], at: int) -> float:
    pick: Callable[[Taken], float] = lambda one: float(one[at] or 0)  # noqa: E731
    return statistics.median(pick(one) for one in taken)


if __name__ == "__main__":
    main()
