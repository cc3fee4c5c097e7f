"""Events over real connections: from the command that publishes to the client, and the end of the service."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chat_stats.worker.local_servers import free_port
from tests.processes import COMMAND, ROOT, answers, chat_stats, until

pytestmark = pytest.mark.slow

_FACTORY = ("--factory", "chat_stats:create_app")

SERVERS = {
    "chat-stats": (*COMMAND, "serve"),
    "several processes": (*COMMAND, "serve", "--workers", "2"),
    "uvicorn": (sys.executable, "-m", "uvicorn", *_FACTORY),
    "granian": (
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "asgi",
        *_FACTORY,
        "--working-dir",
        str(ROOT),
    ),
}


def ids(lines: Iterator[str], count: int) -> list[str]:
    """Return the ids of the next events."""
    found: list[str] = []
    while len(found) < count:
        line = next(lines)
        if line.startswith("id: "):
            found.append(line.removeprefix("id: "))
    return found


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("server", SERVERS)
def test_a_refresh_reaches_the_client_and_the_server_stops_although_it_listens(
    server: str, env: dict[str, str], tmp_path: Path
) -> None:
    assert chat_stats("refresh", "--local", env=env).returncode == 0
    port = free_port()
    with (tmp_path / "server").open("wb") as output:
        process = subprocess.Popen(
            [*SERVERS[server], "--port", str(port)], env=env, cwd=ROOT, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/monitoring", timeout=60) as client:
            until(lambda: answers(client), what=lambda: (tmp_path / "server").read_text())
            with client.stream("GET", "/events", headers={"Accept-Encoding": "gzip"}) as response:
                assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
                assert "content-encoding" not in response.headers
                lines = response.iter_lines()
                [first] = ids(lines, 1)
                assert chat_stats("refresh", "--local", env=env).returncode == 0
                [second] = ids(lines, 1)
                assert second > first
                process.send_signal(signal.SIGTERM)
                for line in lines:  # until the end of the answer, which is a proper one
                    assert not line.startswith("id: ")
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (tmp_path / "server").read_text()
