"""Minutes of mixed load at half of the machine's capacity, while the worker refreshes and folds each second.

    python -m bench.soak [--minutes 10]

The load: hits of many answers, plain, compressed and 304; a few answers that are not cached; pages of single
requests; a writer. One service runs on its own core. It reports errors, latencies and memory during the run.
"""

import argparse
import os
import re
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.measure import MEGABYTE
from bench.wrk import CONNECTIONS, LOAD_CORE, SERVER_CORE, pin
from tests.drills.world import BASE, World, world
from tests.processes import chat_stats

WINDOWS = "1h,24h,7d,30d,all"
CAPACITY_SECONDS = 10

FILL = """
INSERT INTO models (id, provider_id, model_name)
    SELECT n, 1 + n % 2, 'Model ' || n FROM generate_series(4, 100) AS n;
INSERT INTO chat_completion_requests
        (model_id, input_tokens, output_tokens, processing_time_ms, status, created_at)
    SELECT 1 + n % 100, n % 900, n % 300, 100 + n % 3000,
        CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END, now() - n * interval '20 seconds'
    FROM generate_series(1, 100000) AS n;
GRANT ALL ON ALL TABLES IN SCHEMA public TO chat_stats;
"""

#: One request in 2,000 is for a range that is not cached, one in 1,000 for a page of single requests.
SCRIPT = """
local paths = {{}}
for line in io.lines("{paths}") do paths[#paths + 1] = line end
local n, etag = 0, nil
request = function()
    n = n + 1
    if n % 2000 == 0 then
        local start = os.date("!%Y-%m-%dT%H:%M:%S", 946684800 + os.time() % 1000000 + n)
        return wrk.format("GET", "{base}/counts?start_date=" .. start)
    elseif n % 1000 == 500 then
        return wrk.format("GET", "{base}?limit=20&offset=" .. n % 5000)
    elseif n % 4 == 1 then
        return wrk.format("GET", paths[(n * 7919) % #paths + 1], {{["Accept-Encoding"] = "gzip"}})
    elseif n % 4 == 2 then
        return wrk.format("GET", paths[(n * 7919) % #paths + 1], {{["If-None-Match"] = "*"}})
    end
    return wrk.format("GET", paths[(n * 7919) % #paths + 1])
end
delay = function() return {delay} end
done = function(summary, latency, requests)
    local e = summary.errors
    print(string.format("figures %d %d %d %d %d %d", summary.requests, e.status,
        e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""


@dataclass(frozen=True, slots=True)
class Run:
    requests: int
    seconds: float
    #: Answers with a status of 400 and above, and requests that got none.
    refused: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    p999_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-stats-soak-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        settings = {
            "windows": WINDOWS,
            "fresh_seconds": 3,
            "query_timeout_seconds": 10,
            "rate_limit_misses": "",
            "rate_limit_rows": "",
        }
        with world(folder, services=1, **settings) as started:
            started.execute(FILL)
            enabled = chat_stats("rollup", "enable", env=_as_owner(started))
            assert enabled.returncode == 0, enabled.stderr
            service = psutil.Process(started.services[0].popen.pid)
            for child in psutil.Process().children():
                pin(child, SERVER_CORE if child.pid == service.pid else LOAD_CORE)
            capacity = _run(started, folder, CAPACITY_SECONDS, delay_ms=0)
            per_second = capacity.requests / capacity.seconds
            # Each connection pauses between requests, so that all together send half of the capacity.
            delay_ms = CONNECTIONS / (per_second / 2) * 1000 - capacity.p50_ms / 2
            print(f"machine    {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
            print(
                f"capacity   {per_second:,.0f} requests/s of this mixture, {_failures(capacity)}", flush=True
            )
            sizes: list[float] = []
            stopping = threading.Event()
            watching = threading.Thread(target=_watch, args=(service, sizes, stopping))
            watching.start()
            soak = _run(started, folder, round(options.minutes * 60), delay_ms=max(1, round(delay_ms)))
            stopping.set()
            watching.join()
            _report(started, soak, sizes)


def _report(started: World, soak: Run, sizes: list[float]) -> None:
    waiting = started.query("SELECT count(*) FROM chat_stats_deltas")
    refreshes = started.logs().count("refreshed ")
    per_second = soak.requests / soak.seconds
    print(f"soak       {soak.requests:,} requests in {soak.seconds / 60:.1f} min, {per_second:,.0f}/s")
    print(f"errors     {_failures(soak)}, {len(started.tracebacks())} tracebacks")
    print(f"latency    p50 {soak.p50_ms:.1f} ms, p99 {soak.p99_ms:.1f} ms, p99.9 {soak.p999_ms:.1f} ms")
    step = max(1, len(sizes) // 10)
    print(f"memory     {', '.join(f'{size:.1f}' for size in sizes[::step])} MB, median {median(sizes):.1f}")
    print(f"worker     {refreshes} refreshes; {waiting} deltas are not folded yet")


def _failures(run: Run) -> str:
    return f"{run.refused} answers with an error, {run.unanswered} requests without one"


def _run(started: World, folder: Path, seconds: int, *, delay_ms: int) -> Run:
    names = ("providers", "models", "counts", "summary", "models?provider_id=1", "timeseries?bucket=1d")
    paths = [
        f"{BASE}/{name}{'&' if '?' in name else '?'}window={window}"
        for name in (*names, *(f"models/{number}" for number in range(1, 41)))
        for window in WINDOWS.split(",")
    ]
    (folder / "paths").write_text("\n".join(paths))
    script = folder / "soak.lua"
    script.write_text(SCRIPT.format(paths=folder / "paths", base=BASE, delay=delay_ms))
    began_at = time.monotonic()
    url = f"http://127.0.0.1:{started.ports[0]}"
    output = subprocess.run(
        [
            *("taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"),
            *("--timeout", "10s", "-s", str(script), url),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"figures (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert found is not None, output
    requests, refused, unanswered, *latencies = (int(figure) for figure in found.groups())
    p50, p99, p999 = (latency / 1000 for latency in latencies)
    return Run(requests, time.monotonic() - began_at, refused, unanswered, p50, p99, p999)


def _watch(service: psutil.Process, sizes: list[float], stopping: threading.Event) -> None:
    while not stopping.wait(5):
        sizes.append(service.memory_info().rss / MEGABYTE)


def _as_owner(started: World) -> dict[str, str]:
    return {**started.env, "CHAT_STATS_DATABASE_URL": started.postgres.url()}


if __name__ == "__main__":
    main()
