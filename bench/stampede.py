"""A thousand concurrent requests for one key over four processes, compared with the machine's limit.

    python -m bench.stampede [--rounds 5] [--requests 1000]

Prints Markdown. The limit is a bare ASGI application that returns prepared bytes, in as many processes of the
same server. The client is one thread that only sends and receives, because it shares the machine with the
servers.
"""

import argparse
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.peers import BODIES
from chat_stats.worker.local_servers import free_port
from tests.drills.world import CONTROL, FRESH_SECONDS, SERVICES, World, world
from tests.processes import until

GIVE_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Burst:
    """The outcome of concurrent requests: seconds since the first of them was sent."""

    seconds: list[float]
    failed: int

    def quantile(self, share: float) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="bursts of each kind; the median is printed")
    parser.add_argument("--requests", type=int, default=1000, help="requests of a burst")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-stats-stampede-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        with world(folder) as started, _bare(folder) as ports:
            print(
                f"{options.requests} requests at once over {SERVICES} processes, {os.cpu_count()} CPUs, ",
                end="",
            )
            print(f"load average {os.getloadavg()[0]:.1f}\n")
            print("| asked for | queries | p50 ms | p99 ms | last ms |\n|---|---:|---:|---:|---:|")
            compare(started, ports, options.rounds, options.requests)


def compare(started: World, bare_ports: list[int], rounds: int, requests: int) -> None:
    """Run the contenders in turn, and print a row for each."""
    bursts: dict[str, list[tuple[Burst, int]]] = {}
    for _ in range(rounds):
        target = started.new_target()
        start_date = target.partition("start_date=")[2]
        queries = 0

        def measure(kind: str, ports: list[int], path: str, *, of_key: str | None = None) -> None:
            nonlocal queries
            burst = at_once(ports, path, requests, path if ports is bare_ports else CONTROL)
            time.sleep(0.5)
            made = started.computations(of_key) - queries if of_key is not None else 0
            queries += made
            bursts.setdefault(kind, []).append((burst, made))

        measure("a bare ASGI application", bare_ports, "/models")
        measure("not cached", started.ports, target, of_key=start_date)
        time.sleep(FRESH_SECONDS)
        measure("stale", started.ports, target, of_key=start_date)
        until(started.answers)
        measure("cached", started.ports, f"{target.partition('?')[0]}?window=all")
    for kind, each in bursts.items():
        failed = sum(burst.failed for burst, _ in each)
        made = ", ".join(str(made) for made in sorted({made for _, made in each}))
        figures = [median(burst.quantile(share) for burst, _ in each) for share in (0.5, 0.99, 1)]
        cells = " | ".join(f"{seconds * 1000:.0f}" for seconds in figures)
        print(f"| {kind}{f', {failed} failed' if failed else ''} | {made} | {cells} |", flush=True)


def at_once(ports: list[int], target: str, requests: int, warm_up: str = CONTROL) -> Burst:
    """Send the requests over open connections, to each server in turn."""
    with ExitStack() as stack:
        sockets = {}
        poll = select.epoll()
        stack.callback(poll.close)
        for number in range(requests):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", ports[number % len(ports)]))
            )
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets[connection.fileno()] = connection
        _exchange(sockets, poll, warm_up)
        time.sleep(0.3)
        return _exchange(sockets, poll, target)


def _exchange(sockets: dict[int, socket.socket], poll: select.epoll, target: str) -> Burst:
    request = f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    received = dict.fromkeys(sockets, b"")
    seconds: list[float] = []
    failed = 0
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    began_at = time.perf_counter()
    for connection in sockets.values():
        connection.sendall(request)
    while len(seconds) < len(sockets):
        for number, _ in poll.poll(GIVE_UP_SECONDS) or sys.exit("no answer"):
            part = sockets[number].recv(262_144)
            received[number] += part
            if part and not _complete(received[number]):
                continue
            poll.unregister(number)
            seconds.append(time.perf_counter() - began_at)
            failed += not received[number].startswith(b"HTTP/1.1 200 ")
    return Burst(seconds, failed)


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


@contextmanager
def _bare(folder: Path) -> Iterator[list[int]]:
    """Serve a body of the same size as the services' from as many processes."""
    for name in BODIES.values():
        (folder / name).write_bytes(b"x" * 700)
    with ExitStack() as stack:
        ports = [free_port() for _ in range(SERVICES)]
        for port in ports:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "--factory", "bench.peers:bare_with_headers"),
                    *("--port", str(port), "--no-access-log", "--no-server-header", "--log-level", "warning"),
                    *("--app-dir", str(Path(__file__).parent.parent)),
                ],
                env={**os.environ, "BENCH_FOLDER": str(folder)},
                cwd=folder,
            )
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        for port in ports:
            until(partial(_answers, port), what=lambda: "the bare application")
        yield ports


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
