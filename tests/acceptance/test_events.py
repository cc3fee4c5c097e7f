"""Events over real connections: from the command that publishes to the client, and the end of the service."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from chat_stats.worker.local_servers import PostgresServer, free_port
from tests.acceptance.test_worker import ADD_REQUEST, psql
from tests.processes import COMMAND, ROOT, answers, chat_stats, running, serving, until

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


def datas(lines: Iterator[str], kind: str) -> Iterator[dict[str, Any]]:
    """Return what the events of a kind say."""
    for line in lines:
        if line == f"event: {kind}":
            found: dict[str, Any] = orjson.loads(next(lines).removeprefix("data: "))
            yield found


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


def test_a_commit_is_in_the_answers_of_who_listens_long_before_the_refresh(
    postgres: PostgresServer, env: dict[str, str], tmp_path: Path
) -> None:
    url = env["CHAT_STATS_DATABASE_URL"]
    psql(postgres, url, ADD_REQUEST)
    assert chat_stats("rollup", "enable", env=env).returncode == 0
    env = {**env, "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "3600"}
    with (
        running("worker", env=env, log=tmp_path / "worker") as worker,
        serving(env, tmp_path / "service") as client,
        httpx.Client(base_url=client.base_url.copy_with(path="/api/monitoring"), timeout=60) as listener,
        listener.stream("GET", "/events") as response,
    ):
        until(lambda: "refreshed" in worker.output())
        events = datas(response.iter_lines(), "totals")
        for expected in range(2, 5):
            # As a page does when it opens.
            assert client.get("/summary", params={"window": "24h"}).status_code == 200
            psql(postgres, url, ADD_REQUEST)
            for event in events:  # what was folded meanwhile may have one of its own
                assert event["windows"] == ["24h"]
                answer = client.get("/summary", params={"window": "24h"}).json()
                assert answer["metadata"]["generation"] >= event["generation"]
                if answer["data"]["total_requests"] == expected:
                    break
        assert worker.output().count("refreshed") == 1
    assert "Traceback" not in worker.output()
