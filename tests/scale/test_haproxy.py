"""The documented HAProxy before two services: no request fails while these are replaced or have no answer."""

import csv
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from chat_stats.worker.local_servers import RedisServer, free_port
from tests.docs.documents import ROOT
from tests.drills.load import load
from tests.processes import Process, answers, chat_stats, environment, running, until
from tests.scale.failovers import TARGETS, failed
from tests.tools import HAPROXY, need

pytestmark = pytest.mark.slow

DOCUMENTED = ROOT / "docs" / "deploying" / "haproxy.cfg"
#: Nothing listens there.
NO_POSTGRES, NO_REDIS = "postgresql://127.0.0.1:1/none", "redis://127.0.0.1:1/0"


@dataclass
class Balancer:
    """HAProxy, and the ports on which it expects its services."""

    port: int
    service_ports: dict[str, int]
    admin_socket: Path

    def row(self, server: str) -> dict[str, str]:
        """Return what HAProxy says of a server."""
        lines = self.command("show stat").removeprefix("# ").splitlines()
        return next(row for row in csv.DictReader(lines) if row["svname"] == server)

    def requests(self) -> dict[str, int]:
        return {server: int(self.row(server)["stot"]) for server in self.service_ports}

    def command(self, text: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.admin_socket))
            client.sendall(f"{text}\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def until(self, server: str, state: str) -> None:
        until(lambda: self.row(server)["status"] == state, seconds=60, what=lambda: str(self.row(server)))


@contextmanager
def haproxy(folder: Path, service_ports: dict[str, int]) -> Iterator[Balancer]:
    program = need(HAPROXY)
    balancer = Balancer(free_port(), service_ports, folder / "admin.sock")
    text = DOCUMENTED.read_text()
    for documented, here in (
        ("/run/haproxy/admin.sock", str(balancer.admin_socket)),
        (r"bind :8080", f"bind 127.0.0.1:{balancer.port}"),
        (r"10\.0\.0\.11:8000", f"127.0.0.1:{service_ports['one']}"),
        (r"10\.0\.0\.12:8000", f"127.0.0.1:{service_ports['two']}"),
    ):
        text, count = re.subn(documented, here, text)
        assert count == 1, documented
    file = folder / "haproxy.cfg"
    file.write_text(text)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", file], stdout=log, stderr=log)
    try:
        until(balancer.admin_socket.exists, what=(folder / "haproxy.log").read_text)
        yield balancer
    finally:
        process.kill()
        process.wait()


def test_haproxy_accepts_the_documented_file() -> None:
    checked = subprocess.run(
        [need(HAPROXY), "-c", "-f", DOCUMENTED], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr


def test_no_request_fails_while_services_are_replaced_drained_and_unready(
    server_folder: Path, database_url: str, redis: RedisServer
) -> None:
    folder = server_folder / "haproxy"  # a short path, as those of sockets must be
    folder.mkdir()
    env = environment(
        database_url,
        redis.url,
        cache_prefix="haproxy",
        trusted_proxies="127.0.0.1",
        windows="all",
        refresh_interval_seconds=36000,
        fresh_seconds=36000,
    )
    done = chat_stats("refresh", "--local", env=env)
    assert done.returncode == 0, done.stderr
    ports = {"one": free_port(), "two": free_port()}
    with ExitStack() as stack:

        def start(name: str, env: dict[str, str] = env) -> Process:
            arguments = ("serve", "--port", str(ports[name]), "--workers", "2")
            service = stack.enter_context(running(*arguments, env=env, log=folder / f"{name}.log"))
            # HAProxy takes it for UP until two checks have failed.
            with httpx.Client(base_url=f"http://127.0.0.1:{ports[name]}") as direct:
                until(lambda: answers(direct), seconds=60, what=service.output)
            return service

        def end(service: Process) -> None:
            service.send(signal.SIGTERM)
            assert service.wait(60) == 0, service.output()

        services = {name: start(name) for name in ports}
        balancer = stack.enter_context(haproxy(folder, ports))
        for name in ports:
            balancer.until(name, "UP")
        replies = stack.enter_context(
            load(100, lambda: (balancer.port, TARGETS[time.monotonic_ns() % len(TARGETS)]))
        )
        started_at = time.time()

        for name in ports:
            end(services[name])
            services[name] = start(name)
            balancer.until(name, "UP")

        balancer.command("set server chat_stats/one state drain")
        balancer.until("one", "DRAIN")
        time.sleep(1)  # for requests that were under way
        counts = balancer.requests()
        until(lambda: balancer.requests()["two"] > counts["two"] + 50, seconds=60)
        assert balancer.requests()["one"] == counts["one"]
        balancer.command("set server chat_stats/one state ready")
        balancer.until("one", "UP")
        until(lambda: balancer.requests()["one"] > counts["one"] + 50, seconds=60)

        end(services["two"])
        services["two"] = start("two", environment(NO_POSTGRES, NO_REDIS))
        until(lambda: balancer.row("two")["check_code"] == "503", seconds=60, what=services["two"].output)
        balancer.until("two", "DOWN")
        sent = len(replies)
        until(lambda: len(replies) > sent + 100, seconds=60)

        # An overloaded machine fails all checks.
        balancer.command("disable health chat_stats/one")
        balancer.command("set server chat_stats/one health down")
        balancer.until("one", "DOWN")
        sent = len(replies)
        until(lambda: len(replies) > sent + 100, seconds=60)
    assert failed(replies, started_at) == [], (folder / "haproxy.log").read_text()
