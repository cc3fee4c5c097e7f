"""Runs wrk on one core, and measures the server's processor time on another."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Cores of the server, and of the load generator with Redis and Postgres.
SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Load:
    """Results of one run of wrk, and the processor time that the server spent on it."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float


def put_under_load(
    url: str,
    server: psutil.Process,
    *,
    seconds: int,
    headers: Sequence[str] = (),
    script: Path | None = None,
    connections: int = CONNECTIONS,
    pinned: bool = True,
) -> Load:
    """Request `url` over many connections; `RuntimeError` if any answer is an error."""
    command = ["taskset", "-c", str(LOAD_CORE)] if pinned else []
    command += ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "--timeout", "30s"]
    for header in headers:
        command += ["-H", header]
    if script is not None:
        command += ["-s", str(script)]
    before = _cpu_seconds(server)
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    cpu_seconds = _cpu_seconds(server) - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{url} did not always answer:\n{output}")
    requests = int(_find(r"(\d+) requests in", output))
    return Load(
        requests,
        float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        _milliseconds(_find(r"(?m)^\s+50%\s+(\S+)", output)),
        _milliseconds(_find(r"(?m)^\s+99%\s+(\S+)", output)),
        cpu_seconds / max(requests, 1) * 1e6,
    )


def pin(process: psutil.Process, core: int) -> None:
    """Pin a running process and its children to one core."""
    for each in (process, *process.children(recursive=True)):
        for thread in each.threads():
            psutil.Process(thread.id).cpu_affinity([core])


def _cpu_seconds(server: psutil.Process) -> float:
    times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def _find(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(f"wrk printed something else:\n{output}")
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]
