"""The worker ends within a bounded time after SIGTERM, also when a server hangs in the midst of a job."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import PostgresServer, RedisServer
from chat_stats.worker.main import END_SECONDS, STOP_SECONDS
from tests.acceptance.test_worker import ADD_REQUEST, psql
from tests.processes import Process, running, until

SLOW = (
    "CREATE OR REPLACE FUNCTION chat_stats_has_cost() RETURNS boolean LANGUAGE sql "
    "AS 'SELECT true FROM pg_sleep(60)'"
)
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes for a while: their connections stay open, and never answer."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def seconds_to_end(worker: Process) -> float:
    started = time.monotonic()
    worker.send(signal.SIGTERM)
    worker.wait(60)
    return time.monotonic() - started


@pytest.mark.parametrize(
    "hanging",
    [pytest.param("postgres", marks=pytest.mark.slow), pytest.param("redis", marks=pytest.mark.slow), "both"],
)
def test_it_ends_in_time_when_a_server_hangs_in_the_midst_of_a_refresh(
    postgres: PostgresServer, redis: RedisServer, env: dict[str, str], log: Path, hanging: str
) -> None:
    url = env["CHAT_STATS_DATABASE_URL"]
    psql(postgres, url, ADD_REQUEST)  # without any, nothing asks whether there are costs
    psql(postgres, url, SLOW)
    with running("worker", env=env, log=log) as worker:
        until(lambda: psql(postgres, url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"), seconds=60)
        pids = []
        if hanging != "redis":
            pids += [int(pid) for pid in psql(postgres, url, BACKENDS).split()]
        if hanging != "postgres":
            assert redis.process is not None
            pids.append(redis.process.pid)
        with stopped(pids):
            assert seconds_to_end(worker) < END_SECONDS + 5
    assert "not stopped after" not in worker.output()
    assert "Traceback" not in worker.output()


def test_it_ends_at_once_when_no_job_runs(redis: RedisServer, env: dict[str, str], log: Path) -> None:
    idle = {**env, "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "3600"}
    with running("worker", env=idle, log=log) as worker:
        until(lambda: "refreshed" in worker.output(), seconds=60)
        assert seconds_to_end(worker) < STOP_SECONDS
        assert worker.popen.returncode == 0
