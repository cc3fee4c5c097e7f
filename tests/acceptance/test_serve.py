"""`chat-stats serve` with several processes: one is slow, or their parent is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from chat_stats.worker.local_servers import free_port
from tests.processes import ROOT, environment, running, until


def test_it_loads_no_module_that_only_other_commands_need() -> None:
    """Each unused module that is loaded delays the first answer."""
    others = (
        "chat_stats.worker.main",
        "chat_stats.worker.tasks",
        "chat_stats.worker.cli.status",
        "chat_stats.worker.cli.tables",
        "chat_stats.worker.importer.load",
        "tenacity",
    )
    code = (
        "import sys, chat_stats.worker.cli.app, chat_stats.service.http.server, chat_stats.service.app;"
        " print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(others) & set(ran.stdout.split())


def test_the_processes_end_and_free_the_port_when_their_parent_is_killed(log: Path) -> None:
    port = free_port()
    env = environment("postgresql://user@127.0.0.1:1/none", "redis://127.0.0.1:1/0")
    with running("serve", "--port", str(port), "--workers", "2", env=env, log=log) as service:
        until(lambda: service.output().count("Application startup complete") == 2, what=service.output)
        children = psutil.Process(service.popen.pid).children()
        try:
            service.send(signal.SIGKILL)
            until(lambda: _free(port), seconds=8, what=lambda: f"the port: {service.output()}")
            until(lambda: not any(child.is_running() for child in children), seconds=8)
        finally:
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
        assert "Traceback" not in service.output()


def test_a_host_name_that_is_looked_up_too_late_is_one_line_of_the_log(log: Path) -> None:
    """uvloop leaves the look-up behind when the attempt to connect times out."""
    late = "a host name of Redis or Postgres could not be looked up"
    port = free_port()
    env = environment(
        "postgresql://user@postgres.invalid/none",
        "redis://redis.invalid:6379/0",
        redis_timeout_seconds=0.0001,
        connect_timeout_seconds=0.0001,
    )
    with running("serve", "--port", str(port), env=env, log=log) as service:
        until(lambda: "Application startup complete" in service.output(), what=service.output)
        for _ in range(3):
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=60)
        until(lambda: late in service.output(), seconds=45, what=service.output)
        assert service.output().count(late) == 1
        assert "never retrieved" not in service.output()


@pytest.mark.slow
def test_a_process_that_gets_no_cpu_for_a_while_is_not_replaced(log: Path) -> None:
    env = environment("postgresql://user@127.0.0.1:1/none", "redis://127.0.0.1:1/0")
    with running("serve", "--port", str(free_port()), "--workers", "2", env=env, log=log) as service:
        until(lambda: service.output().count("Application startup complete") == 2, what=service.output)
        children = psutil.Process(service.popen.pid).children()
        try:
            for child in children:
                child.suspend()
            time.sleep(7)
            for child in children:
                child.resume()
            time.sleep(1)
            assert psutil.Process(service.popen.pid).children() == children
            assert "died" not in service.output()
        finally:
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def _free(port: int) -> bool:
    with socket.socket() as listening, suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        return True
    return False
