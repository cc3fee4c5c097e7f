"""A service's start, and its memory over many requests for many answers."""

import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import httpx
import psutil

from bench.measure import MEGABYTE
from bench.wrk import put_under_load
from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.settings import PREFIX
from chat_stats.worker.local_servers import free_port

BASE = "/api/monitoring/chat-requests"
MODELS, PROVIDERS = 500, 20
STEPS = 4

#: Requests the paths in turn, every third one as gzip.
_SCRIPT = """
local paths = {{}}
for line in io.lines("{file}") do paths[#paths + 1] = line end
local n = 0
request = function()
    n = n + 1
    local headers = n % 3 == 0 and {{["Accept-Encoding"] = "gzip"}} or {{}}
    return wrk.format("GET", paths[(n * 7919) % #paths + 1], headers)
end
"""


def start_seconds(environment: dict[str, str], folder: Path, path: str, repeat: int) -> list[float]:
    """Start `chat-stats serve` repeatedly; return the seconds until each first answer."""
    seconds = []
    for _ in range(repeat):
        port = free_port()
        started = time.perf_counter()
        process = serve(environment, folder, port)
        try:
            first_answer(f"http://127.0.0.1:{port}{path}")
            seconds.append(time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait(20)
    return seconds


def memory_over(environment: dict[str, str], folder: Path, requests: int) -> str:
    """Describe a service's memory: at its start, with everything cached, and during `requests` requests."""
    environment = {**environment, f"{PREFIX}WINDOWS": ",".join(WINDOWS)}
    subprocess.run(
        [sys.executable, "-m", "chat_stats", "refresh", "--local"],
        env=environment,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    paths = _paths()
    (folder / "paths").write_text("\n".join(paths))
    script = folder / "paths.lua"
    script.write_text(_SCRIPT.format(file=folder / "paths"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    popen = serve(environment, folder, port)
    try:
        process = psutil.Process(popen.pid)
        first_answer(f"{url}/health")
        sizes = [process.memory_info().rss]
        with httpx.Client(base_url=url) as client:
            for path in paths:  # a model without requests in a window is no part of what the refresh stored
                client.get(path).raise_for_status()
            for path in paths:
                assert client.get(path).json()["metadata"]["cache"] == "hit", path
        sizes.append(process.memory_info().rss)
        done, step = 0, 1
        while done < requests:
            done += put_under_load(url, process, seconds=5, script=script).requests
            if done >= requests * step / STEPS:
                sizes.append(process.memory_info().rss)
                step = int(done * STEPS / requests) + 1
    finally:
        popen.terminate()
        popen.wait(20)
    start, cached, *along = (f"{size / MEGABYTE:.1f}" for size in sizes)
    many = f"{len(paths):,} answers cached ({MODELS} models, {len(WINDOWS)} windows)"
    return (
        f"memory    {start} MB at the start, {cached} MB with {many}, "
        f"then {', '.join(along)} MB along {done:,} requests for them"
    )


def _paths() -> list[str]:
    narrow = [f"models/{n}" for n in range(1, MODELS + 1)]
    narrow += [f"models?provider_id={n}" for n in range(1, PROVIDERS + 1)]
    return [
        f"{BASE}/{path}{'&' if '?' in path else '?'}window={window}"
        for path, window in product(("providers", "models", "counts", "summary", *narrow), WINDOWS)
    ]


def serve(environment: dict[str, str], folder: Path, port: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "chat_stats", "serve", "--port", str(port)],
        env=environment,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )


def first_answer(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(url, timeout=10).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"nothing answered at {url}")
