"""A process with few file descriptors serves its clients however many connections others hold open."""

import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from chat_stats.worker.local_servers import free_port
from tests.processes import Process, environment, running, until

DESCRIPTORS = 256
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(connection: socket.socket) -> bytes:
    connection.sendall(HEALTH)
    received = b""
    while not received.endswith(b"}"):
        chunk = connection.recv(4096)
        assert chunk, f"closed after {received!r}"
        received += chunk
    return received


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def service(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service that may open 128 files, and could raise that to 256."""
    limited = f'ulimit -Sn 128; ulimit -Hn {DESCRIPTORS}; exec "$0" -m chat_stats "$@"'
    with running(
        *("serve", "--port", str(port)),
        env=environment("postgresql://user@127.0.0.1:1/none", "redis://127.0.0.1:1/0"),
        log=tmp_path_factory.mktemp("service") / "log",
        command=("sh", "-c", limited, sys.executable),
    ) as process:
        until(lambda: "running on" in process.output(), seconds=60, what=process.output)
        yield process


def test_its_soft_limit_of_open_files_is_raised_to_the_hard_one(service: Process) -> None:
    assert resource.prlimit(service.popen.pid, resource.RLIMIT_NOFILE) == (DESCRIPTORS, DESCRIPTORS)


def test_clients_are_served_while_600_idle_connections_are_opened(service: Process, port: int) -> None:
    with ExitStack() as stack:
        known = socket.create_connection(("127.0.0.1", port), timeout=20)
        stack.enter_context(known)
        for number in range(600):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            if number % 20 == 0:
                assert b"200 OK" in answer(known)
            if number % 100 == 99:
                assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=20).status_code == 200
        assert len(list(Path(f"/proc/{service.popen.pid}/fd").iterdir())) < DESCRIPTORS
    assert "Traceback" not in service.output()


def test_new_clients_are_answered_after_600_connections_at_once(service: Process, port: int) -> None:
    with ExitStack() as stack:
        for _ in range(600):
            idle = socket.socket()
            idle.setblocking(False)
            idle.connect_ex(("127.0.0.1", port))
            stack.enter_context(idle)
        for _ in range(20):
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=20).status_code == 200
    assert "Traceback" not in service.output()
