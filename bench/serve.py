"""The cost of a cache hit over HTTP, compared with a bare ASGI application, proxies and cache libraries.

    make bench-serve
    python -m bench.serve --seconds 3 --repeat 3 --markdown
    python -m bench.serve --only '304|^bare|nginx' --repeat 5
    python -m bench.serve --processes 2

One server process runs on one core; wrk, Redis and Postgres on another. (With --processes, all run on all
cores.) Runs of the contenders are interleaved. It needs Linux with two cores, taskset and wrk; nginx and
Varnish are measured if installed. Other load on the machine lowers requests per second, but hardly changes
the processor time per request. It also measures the memory of a service with many answers over many requests,
its start, and the time of a hit in Python. It reports numbers and has no pass or fail.
"""

import argparse
import asyncio
import os
import platform
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import httpx
import psutil
from rich.console import Console

from bench import proxies
from bench.dataset import Shape, fill
from bench.hit import microseconds_of_a_hit
from bench.hit_contenders import BASE, BROWSER, HIT, Contender, running
from bench.lifetime import memory_over, start_seconds
from bench.peers import BODIES
from bench.servers import Servers, create_database, drop_database, own_servers, settings_for
from bench.wrk import CONNECTIONS, LOAD_CORE, Load, pin, put_under_load
from chat_stats.service.settings import PREFIX

#: Longer than the run, so that no refresh falls into a measurement; and a busy machine must not cause a 503.
SETTINGS = {
    "FRESH_SECONDS": "36000",
    "REFRESH_INTERVAL_SECONDS": "36000",
    "CONNECT_TIMEOUT_SECONDS": "10",
    "ANSWER_TIMEOUT_SECONDS": "60",
}

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of a contender's runs over one body."""

    name: str
    loads: Sequence[Load]

    @property
    def per_second(self) -> float:
        return median(load.requests_per_second for load in self.loads)

    @property
    def cpu(self) -> float:
        return median(load.cpu_us_per_request for load in self.loads)

    @property
    def p50(self) -> float:
        return median(load.p50_ms for load in self.loads)

    @property
    def p99(self) -> float:
        return median(load.p99_ms for load in self.loads)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options()
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            sys.exit(f"bench.serve needs {program}")
    with own_servers() as servers, ExitStack() as stack:
        # Keep Redis and Postgres off the server's core.
        for child in psutil.Process().children():
            pin(child, LOAD_CORE)
        url = _database(servers, stack, Shape(100_000))
        print(f"command   python -m bench.serve {' '.join(sys.argv[1:])}".rstrip())
        print(
            f"machine   {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start"
        )
        with running(servers.folder, _environment(servers, url), options.processes) as field:
            for name in proxies.missing():
                print(f"missing   {name}: not on this machine, and not measured")
            for path, contenders in field.contenders.items():
                chosen = [each for each in contenders if each.name == HIT or options.only.search(each.name)]
                size = (servers.folder / BODIES[path]).stat().st_size
                _print_table(f"{path}, {size:,} bytes", _take_turns(path, chosen, options), options.markdown)
        if not options.only.pattern and options.processes == 1:
            _print_lifetime(servers, url, _database(servers, stack, Shape(50_000, 500, 20)), options)


def _print_lifetime(servers: Servers, url: str, url_of_many: str, options: argparse.Namespace) -> None:
    for name, headers in {"wrk": (), "a browser": BROWSER}.items():
        again, parsed = microseconds_of_a_hit(url, servers.redis_url, f"{BASE}/models", headers)
        print(
            f"hit       {again:.1f} µs in Python with the headers of {name}, {parsed:.1f} µs if it is parsed"
        )
    print()
    print(memory_over(_environment(servers, url_of_many), servers.folder, options.requests))
    environment = _environment(servers, url)
    seconds = start_seconds(environment, servers.folder, f"{BASE}/models", options.repeat)
    print(
        f"start     `chat-stats serve` gave its first answer after {median(seconds):.2f} s "
        f"({min(seconds):.2f} .. {max(seconds):.2f})"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3, help="length of a run")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender")
    parser.add_argument(
        "--requests", type=int, default=1_000_000, help="requests during which memory is measured"
    )
    parser.add_argument("--processes", type=int, default=1, help="processes of each server")
    parser.add_argument(
        "--only", type=re.compile, default="", help="measure contenders whose names match this expression"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser.parse_args()


def _database(servers: Servers, stack: ExitStack, shape: Shape) -> str:
    url = asyncio.run(create_database(servers.admin_url))
    stack.callback(lambda: asyncio.run(drop_database(servers.admin_url, url)))
    asyncio.run(fill(settings_for(url, servers.redis_url), shape))
    return url


def _environment(servers: Servers, database_url: str) -> dict[str, str]:
    chosen = {"DATABASE_URL": database_url, "REDIS_URL": servers.redis_url, **SETTINGS}
    chosen["CACHE_PREFIX"] = f"bench-{database_url.rpartition('/')[2]}"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        **{f"{PREFIX}{name}": value for name, value in chosen.items()},
        "BENCH_FOLDER": str(servers.folder),
    }


def _take_turns(path: str, contenders: list[Contender], options: argparse.Namespace) -> list[Row]:
    loads: dict[str, list[Load]] = {contender.name: [] for contender in contenders}
    for turn in range(options.repeat):
        for contender in contenders:
            console.print(f"{path}, {turn + 1} of {options.repeat}: {contender.name}", highlight=False)
            for seconds, connections in ((1, 4), (options.seconds, CONNECTIONS)):  # the first run warms up
                load = put_under_load(
                    contender.url,
                    contender.server,
                    seconds=seconds,
                    headers=contender.headers,
                    script=contender.script,
                    connections=connections,
                    pinned=options.processes == 1,
                )
                # Returns when the server has worked off wrk's last requests, before the next run starts.
                httpx.get(contender.url, timeout=60)
            if load.requests == 0:
                raise RuntimeError(f"{contender.name} gave no answer: make the runs longer")
            loads[contender.name].append(load)
    return [Row(name, of_contender) for name, of_contender in loads.items()]


def _print_table(title: str, rows: list[Row], markdown: bool) -> None:
    hit = next(row for row in rows if row.name == HIT)
    lines: list[tuple[str, ...]] = [
        (title, "requests/s", "p50", "p99", "hit: times as many", "server's time", "hit: times as little"),
        *(
            (
                row.name,
                f"{row.per_second:,.0f}",
                f"{row.p50:.2f} ms",
                f"{row.p99:.2f} ms",
                f"{hit.per_second / row.per_second:,.3g}",
                f"{row.cpu:,.1f} µs",
                f"{row.cpu / hit.cpu:,.3g}",
            )
            for row in rows
        ),
    ]
    if markdown:
        lines.insert(1, ("---", *("---:" for _ in lines[0][1:])))
        print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print()
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        print("  ".join(cells))
    print()


if __name__ == "__main__":
    main()
