"""The latency of a small hit beside clients that read a large answer all the time.

    python -m bench.beside

One server process on one core, the load on the other; `/summary` by 8 connections, alone and while 2
connections read `/models` of 3,000 models, plain and compressed. Medians of the interleaved runs.
"""

import argparse
import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import httpx
import psutil

from bench.dataset import Shape, fill
from bench.lifetime import BASE, first_answer, serve
from bench.measure import MEGABYTE
from bench.servers import create_database, own_servers, settings_for
from bench.wrk import LOAD_CORE, SERVER_CORE, Load, pin, put_under_load
from chat_stats.service.settings import PREFIX
from chat_stats.worker.local_servers import free_port

SHAPE = Shape(30_000, 3_000, 20)
#: What the readers of the large answer accept; None: there are none.
BESIDE = {"alone": None, "beside it, plain": (), "beside it, zstd": ("Accept-Encoding: zstd",)}


@contextmanager
def _readers(url: str, headers: tuple[str, ...] | None) -> Iterator[None]:
    if headers is None:
        yield
        return
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", "-c2", "-d60s"]
    for header in headers:
        command += ["-H", header]
    with subprocess.Popen([*command, url], stdout=subprocess.DEVNULL) as process:
        time.sleep(0.5)
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3, help="length of a run")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each")
    options = parser.parse_args()
    loads: dict[str, list[Load]] = {name: [] for name in BESIDE}
    with own_servers() as servers:
        for child in psutil.Process().children():
            pin(child, LOAD_CORE)
        url = asyncio.run(create_database(servers.admin_url))
        asyncio.run(fill(settings_for(url, servers.redis_url), SHAPE))
        port = free_port()
        environment = {
            **os.environ,
            f"{PREFIX}DATABASE_URL": url,
            f"{PREFIX}REDIS_URL": servers.redis_url,
            f"{PREFIX}FRESH_SECONDS": "36000",
        }
        process = serve(environment, servers.folder, port)
        base = f"http://127.0.0.1:{port}{BASE}"
        try:
            first_answer(f"http://127.0.0.1:{port}/health")
            pin(psutil.Process(process.pid), SERVER_CORE)
            for path in ("summary", "models"):
                size = len(httpx.get(f"{base}/{path}", timeout=60).raise_for_status().content)
            print(f"load {os.getloadavg()[0]:.1f}; the large answer has {size / MEGABYTE:.1f} MB")
            for _ in range(options.repeat):
                for name, headers in BESIDE.items():
                    with _readers(f"{base}/models", headers):
                        server = psutil.Process(process.pid)
                        load = put_under_load(
                            f"{base}/summary", server, seconds=options.seconds, connections=8
                        )
                        loads[name].append(load)
        finally:
            process.terminate()
            process.wait(20)
    print("\n| a small hit | requests/s | p50 | p99 |\n| --- | ---: | ---: | ---: |")
    for name, runs in loads.items():
        rate, p50, p99 = (
            median(getattr(run, field) for run in runs)
            for field in ("requests_per_second", "p50_ms", "p99_ms")
        )
        print(f"| {name} | {rate:,.0f} | {p50:.2f} ms | {p99:.2f} ms |")


if __name__ == "__main__":
    main()
