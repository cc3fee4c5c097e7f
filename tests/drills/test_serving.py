"""Several server processes on one port: replaced one by one, stopped and killed under load."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from chat_stats.worker.local_servers import free_port
from tests.drills.load import Reply, load
from tests.drills.world import KNOWN, World
from tests.processes import Process, chat_stats, running, until

RATE = 200.0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@contextmanager
def service(world: World, log: Path, *, workers: int) -> Iterator[tuple[Process, int]]:
    """Run a service of several processes; yield it and its port, once all of them answer."""
    port = free_port()
    arguments = ("serve", "--port", str(port), "--workers", str(workers))
    with running(*arguments, env=world.env, log=log) as process:
        until(lambda: process.output().count("Application startup complete") >= workers, what=process.output)
        try:
            yield process, port
        finally:
            for child in psutil.Process(process.popen.pid).children() if process.popen.poll() is None else ():
                child.kill()


def outcomes(replies: list[Reply]) -> Counter[str]:
    return Counter(str(reply.status) if reply.status else reply.error.partition(":")[0] for reply in replies)


def workers_of(process: Process) -> set[int]:
    found = set()
    for child in psutil.Process(process.popen.pid).children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_all_processes_are_replaced_one_by_one_without_a_failed_request(world: World, log: Path) -> None:
    with service(world, log, workers=2) as (process, port):
        before = workers_of(process)
        with load(RATE, lambda: (port, KNOWN[0])) as replies:
            time.sleep(0.3)
            process.send(signal.SIGHUP)
            until(lambda: len(now := workers_of(process)) == 2 and not now & before, seconds=40)
            time.sleep(0.3)
        assert outcomes(replies) == {"200": len(replies)}
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_fails_no_accepted_request(world: World, log: Path, workers: int) -> None:
    with service(world, log, workers=workers) as (process, port):
        with load(RATE, lambda: (port, KNOWN[0])) as replies:
            time.sleep(0.5)
            process.send(signal.SIGTERM)
            process.wait(20)
        assert outcomes(replies)["200"] > 50
        assert set(outcomes([reply for reply in replies if not reply.first])) == {"200"}
        # The others were not accepted: the port was closed, or closing while they queued.
        not_taken = {"ConnectionRefusedError", "ConnectionResetError"}
        assert set(outcomes([reply for reply in replies if reply.first])) <= {"200", *not_taken}
        assert "Traceback" not in process.output()


def test_a_process_that_is_killed_is_replaced(world: World, log: Path) -> None:
    with service(world, log, workers=2) as (process, port):
        victim = min(workers_of(process))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(now := workers_of(process)) == 2 and victim not in now)
        with load(RATE, lambda: (port, KNOWN[0])) as replies:
            time.sleep(0.5)
        assert outcomes(replies) == {"200": len(replies)}


def test_wrong_settings_and_a_port_in_use_end_it_with_one_line(world: World) -> None:
    wrong = {**world.env, "CHAT_STATS_FRESH_SECONDS": "soon"}
    ended = chat_stats("serve", "--workers", "2", env=wrong)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: CHAT_STATS_FRESH_SECONDS")
    in_use = chat_stats("serve", "--workers", "2", "--port", str(world.ports[0]), env=world.env)
    assert in_use.returncode == 1
    assert "Traceback" not in in_use.stderr + ended.stderr
