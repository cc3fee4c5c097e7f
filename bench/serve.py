"""The cost of a cache hit over HTTP, compared with a bare ASGI application, proxies and cache libraries.

    make bench-serve
    python -m bench.serve --seconds 3 --repeat 3 --markdown

One server process runs on one core; wrk, Redis and Postgres on another. Runs of the contenders are
interleaved. It needs Linux with two cores, taskset and wrk; nginx and Varnish are measured if installed.
Other load on the machine lowers requests per second, but hardly changes the processor time per request. It
also measures the memory of a service with many answers over many requests, its start, and the time that a hit
spends in chat-stats' own code. It reports numbers and has no pass or fail.
"""

import argparse
import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import psutil
from rich.console import Console

from bench import proxies
from bench.dataset import Shape, fill
from bench.hit import microseconds_of_a_hit
from bench.lifetime import memory_over, start_seconds
from bench.peers import BODIES
from bench.servers import Servers, create_database, drop_database, own_servers, settings_for
from bench.wrk import CONNECTIONS, LOAD_CORE, SERVER_CORE, Load, pin, put_under_load
from chat_stats.service.settings import PREFIX
from chat_stats.worker.local_servers import free_port

BASE = "/api/monitoring/chat-requests"
#: Longer than the run, so that no refresh falls into a measurement.
SETTINGS = {"FRESH_SECONDS": "3600", "REFRESH_INTERVAL_SECONDS": "3600"}
HIT, NOT_MODIFIED, BARE = "chat-stats", "chat-stats, 304", "bare ASGI application"

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    server: psutil.Process
    url: str
    headers: tuple[str, ...] = ()


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
        urls = [_database(servers, stack, shape) for shape in (Shape(100_000), Shape(50_000, 500, 20))]
        print(f"command   python -m bench.serve {' '.join(sys.argv[1:])}".rstrip())
        print(
            f"machine   {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start"
        )
        tables = _throughput(servers, urls[0], options)
        for path, rows in tables.items():
            size = (servers.folder / BODIES[path]).stat().st_size
            _print_table(f"{path}, {size:,} bytes", rows, options.markdown)
        own = microseconds_of_a_hit(urls[0], servers.redis_url, f"{BASE}/models")
        hit = next(row for row in tables["/models"] if row.name == HIT)
        print(
            f"hit       {own:.1f} of its {hit.cpu:.1f} µs ({own / hit.cpu:.0%}) are spent outside the "
            "server's protocol code and the kernel\n"
        )
        print(memory_over(_environment(servers, urls[1]), servers.folder, options.requests))
        seconds = start_seconds(
            _environment(servers, urls[0]), servers.folder, f"{BASE}/models", options.repeat
        )
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


def _throughput(servers: Servers, database_url: str, options: argparse.Namespace) -> dict[str, list[Row]]:
    environment = _environment(servers, database_url)
    with ExitStack() as stack:

        def start(command: list[str], port: int, path: str) -> psutil.Process:
            process = subprocess.Popen(
                ["taskset", "-c", str(SERVER_CORE), *command],
                env=environment,
                cwd=servers.folder,
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            _wait_for(process, f"http://127.0.0.1:{port}{path}")
            return psutil.Process(process.pid)

        port = free_port()
        service = start([*_python("chat_stats", "serve"), "--port", str(port)], port, "/health")
        url = f"http://127.0.0.1:{port}{BASE}"
        etags = {path: _keep_body(servers.folder, url, path) for path in BODIES}
        contenders = {
            path: [
                Contender(HIT, service, url + path),
                Contender("chat-stats, gzip", service, url + path, ("Accept-Encoding: gzip",)),
                Contender(NOT_MODIFIED, service, url + path, (f"If-None-Match: {etags[path]}",)),
            ]
            for path in BODIES
        }

        def add(name: str, command: list[str] | None, at: int, base: str = "") -> None:
            if command is None:
                console.print(f"without {name}: it is not installed")
                return
            server = start(command, at, f"{base}/models")
            for path in BODIES:
                contenders[path].append(Contender(name, server, f"http://127.0.0.1:{at}{base}{path}"))

        for name, factory in {
            BARE: "bare",
            "the same, with as many headers": "bare_with_headers",
            "fastapi-cache2, objects, as documented": "fastapi_cache_objects",
            "fastapi-cache2, rendered bytes": "fastapi_cache_bytes",
            "cashews, objects, as documented": "cashews_objects",
            "cashews, rendered bytes, client-side": "cashews_bytes",
            "aiocache, objects, as documented": "aiocache_objects",
            "aiocache, rendered bytes": "aiocache_bytes",
            "FastAPI, SQL each time": "sql",
        }.items():
            at = free_port()
            add(name, [*_uvicorn(f"bench.peers:{factory}"), "--port", str(at)], at)
        at = free_port()
        add("nginx, static file", proxies.nginx(servers.folder, at), at)
        at = free_port()
        add("Varnish in front of chat-stats", proxies.varnish(servers.folder, at, port), at, BASE)
        return {path: _take_turns(path, of_body, options) for path, of_body in contenders.items()}


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
                    connections=connections,
                )
                # Returns when the server has worked off wrk's last requests, before the next run starts.
                httpx.get(contender.url, timeout=60)
            if load.requests == 0:
                raise RuntimeError(f"{contender.name} gave no answer: make the runs longer")
            loads[contender.name].append(load)
    return [Row(name, of_contender) for name, of_contender in loads.items()]


def _keep_body(folder: Path, url: str, path: str) -> str:
    """Write a hit's body into the folder, for the other contenders; return its ETag."""
    for _ in range(2):
        response = httpx.get(url + path, timeout=60).raise_for_status()
    assert response.json()["metadata"]["cache"] == "hit"
    (folder / BODIES[path]).write_bytes(response.content)
    (folder / BODIES[path]).chmod(0o644)  # nginx' worker is another user when we are root
    return response.headers["etag"]


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=10).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing answered at {url}")


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _uvicorn(factory: str) -> list[str]:
    """Return the command of uvicorn, with the options of `chat-stats serve`."""
    root = str(Path(__file__).parent.parent)
    return _python(
        "uvicorn", "--factory", factory, "--no-access-log", "--no-server-header", "--app-dir", root
    )


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
