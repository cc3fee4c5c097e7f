"""Limits of one connection to a real server process."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chat_stats.service.http.protocol import HEAD_SECONDS, MAX_BODY_BYTES, MAX_HEAD_BYTES
from tests.processes import environment, serving

UNREACHABLE = "postgresql://user@127.0.0.1:1/none"
PLAIN = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
#: A request whose answer takes a moment.
READY = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service") / "log"


@pytest.fixture(scope="module")
def address(log: Path) -> Iterator[tuple[str, int]]:
    """The address of a service; these tests need neither Postgres nor Redis."""
    env = environment(UNREACHABLE, "redis://127.0.0.1:1/0")
    with serving(env, log) as client:
        assert client.base_url.port is not None
        yield "127.0.0.1", client.base_url.port


def ask(address: tuple[str, int], *parts: bytes) -> tuple[int, dict[str, object]]:
    """Send the parts one after the other; return the status and body of the answer."""
    with socket.create_connection(address, timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.02)
        except ConnectionError:
            pass  # the server refused it while the test was still sending
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            head, _, body = received.partition(b"\r\n\r\n")
            try:
                return int(head.split()[1]), json.loads(body)
            except (json.JSONDecodeError, IndexError):
                continue
    raise AssertionError(f"closed after {received!r}")


def test_a_usual_request_is_answered(address: tuple[str, int]) -> None:
    assert ask(address, PLAIN + b"\r\n") == (200, {"status": "ok"})


def test_a_head_in_small_pieces_is_answered(address: tuple[str, int]) -> None:
    assert ask(address, PLAIN[:9], PLAIN[9:30], PLAIN[30:], b"\r\n")[0] == 200


def test_two_requests_sent_at_once_are_both_answered(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall((PLAIN + b"\r\n") * 2)
        received = b""
        while received.count(b'{"status":"ok"}') < 2:
            chunk = connection.recv(65536)
            assert chunk, received
            received += chunk


def test_a_body_within_bounds_is_ignored(address: tuple[str, int]) -> None:
    body = b"x" * (MAX_BODY_BYTES - 1)
    assert ask(address, PLAIN + b"Content-Length: %d\r\n\r\n" % len(body) + body)[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(PLAIN + b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", id="one long header"),
        pytest.param(PLAIN + b"X-Many: 1\r\n" * (MAX_HEAD_BYTES // 10) + b"\r\n", id="many headers"),
        pytest.param(b"GET /health?" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n", id="a long query"),
        pytest.param(PLAIN + b"X-Endless: " + b"x" * MAX_HEAD_BYTES, id="a header without an end"),
    ],
)
def test_a_head_that_is_too_long_is_refused_with_431(address: tuple[str, int], head: bytes) -> None:
    status, problem = ask(address, head)
    assert (status, problem["status"], problem["success"]) == (431, 431, False)
    assert str(MAX_HEAD_BYTES) in str(problem["detail"])


def test_a_body_that_is_too_large_is_refused_or_not_read(address: tuple[str, int]) -> None:
    half = b"x" * MAX_BODY_BYTES
    status, problem = ask(
        address,
        b"POST /api/monitoring/refresh HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n" % len(half * 2)
        + half * 2
        + b"\r\n0\r\n\r\n",
    )
    assert status in (404, 413), problem


def test_a_request_that_is_not_http_gets_a_problem_document(address: tuple[str, int]) -> None:
    status, problem = ask(address, b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert (status, problem["success"]) == (400, False)


@pytest.mark.parametrize("last", [b"no HTTP\r\n\r\n", b""], ids=["no HTTP behind them", "and gone"])
def test_pipelined_requests_whose_answers_are_not_read_leave_no_traceback(
    address: tuple[str, int], log: Path, last: bytes
) -> None:
    for _ in range(5):
        with socket.create_connection(address, timeout=20) as connection:
            # With this option, closing resets the connection, like a killed client.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall((READY + b"\r\n") * 3 + last)
            if last:
                with suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
    assert ask(address, READY + b"Connection: close\r\n\r\n")[0] == 503
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_an_unfinished_head_is_disconnected_and_an_active_client_is_not(address: tuple[str, int]) -> None:
    with (
        socket.create_connection(address, timeout=0.1) as silent,
        socket.create_connection(address, timeout=5) as busy,
    ):
        silent.sendall(PLAIN)
        began = time.monotonic()
        let_go = None
        while let_go is None or time.monotonic() < let_go + 0.5:
            assert time.monotonic() - began < HEAD_SECONDS + 4
            busy.sendall(PLAIN + b"\r\n")
            received = b""
            while not received.endswith(b'{"status":"ok"}'):
                chunk = busy.recv(65536)
                assert chunk, f"closed after {time.monotonic() - began:.1f} s of asking"
                received += chunk
            with suppress(TimeoutError):
                assert silent.recv(1) == b""
                let_go = let_go or time.monotonic()
                time.sleep(0.1)
