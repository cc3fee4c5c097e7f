"""Single requests over HTTP: pages near and far, first byte and memory of a large page, exports, plots.

    make bench-explorer
    python -m bench.explorer --requests 10000000 --rollup

Servers of its own; every number is a median of `--runs`. It reports, and judges nothing.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.dataset import Shape, describe, fill
from bench.servers import create_database, drop_database, own_servers, settings_for, web_service
from service.rollup.upkeep import open_rollup
from service.settings import Settings

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
    parser.add_argument("--rollup", action="store_true", help="switch the rollup on first")
    options = parser.parse_args()
    with own_servers() as servers:
        url = asyncio.run(create_database(servers.admin_url))
        try:
            settings = settings_for(url, servers.redis_url)
            started = time.perf_counter()
            asyncio.run(
                _prepare(settings, Shape(requests=options.requests, models=options.models), options.rollup)
            )
            console.print(f"filled in {time.perf_counter() - started:.0f} s")
            console.print(asyncio.run(describe(settings)))
            with web_service(servers, url) as service:
                _measure(f"{service}/api/monitoring/chat-requests", options.runs)
        finally:
            asyncio.run(drop_database(servers.admin_url, url))


async def _prepare(settings: Settings, shape: Shape, rollup: bool) -> None:
    await fill(settings, shape)
    if rollup:
        async with open_rollup(settings) as switch:
            await switch.enable(lambda _requests: None)


def _measure(url: str, runs: int) -> None:
    process = psutil.Process().children()[-1]
    table = Table("what", "first byte, ms", "whole, ms", "bytes", "memory grew by, MB", "total_count")
    with httpx.Client(timeout=120) as client:
        last = client.get(url, params={"limit": 1}).json()["data"][0]
        before = process.memory_info().rss  # of all that follows: memory once taken is not given back
        cursor = _far_cursor(client, url)
        cases: dict[str, dict[str, object]] = {
            f"page 1 of {PAGE}": {"limit": PAGE},
            f"page {FAR_PAGE:,} by cursor": {"limit": PAGE, "cursor": cursor},
            "of one model": {"limit": PAGE, "model_id": last["model_id"]},
            "of a provider": {"limit": PAGE, "provider_id": last["models"]["provider_id"]},
            "status=failed": {"limit": PAGE, "status": "failed"},
            "model_name, 10 of them": {"limit": PAGE, "model_name": "model 01"},
            "7 days": {"limit": PAGE, "window": "7d"},
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
            table.add_row(
                name,
                *(f"{_median(taken, at):,.1f}" for at in range(2)),
                f"{taken[0][2]:,}",
                f"{max(t[3] for t in taken):.1f}",
                str(taken[-1][4]),
            )
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
    clear.write_text("5")  # the highest resident size starts again from the present one
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
