"""What service and worker log while Redis and Postgres are killed and come back."""

import re
import signal
import time
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import postgres_server, redis_server
from tests.processes import chat_stats, environment, running, serving, until

pytestmark = pytest.mark.slow

#: The lines that say how the servers are; what could not be done meanwhile is said beside them.
STATES = re.compile(
    r" (Redis|the queue's Redis|the database) (does not answer|cannot be reached|answers again)"
)


def states(log: Path) -> Counter[str]:
    """Return how often each line about a server is there, without its time and the id of a request."""
    lines = (
        line.split(": ", 1)[1].split(" (")[0] for line in log.read_text().splitlines() if STATES.search(line)
    )
    return Counter(line for line in lines if STATES.match(f" {line}"))


def test_an_outage_is_told_when_it_begins_and_ends_and_no_error_escapes(
    tmp_path: Path, server_folder: Path
) -> None:
    postgres = postgres_server(server_folder / f"killed-{time.monotonic_ns()}")
    redis = redis_server(tmp_path / "redis")
    env = environment(
        postgres.url(), redis.url, dimensions="user_id", refresh_interval_seconds=3,
        redis_timeout_seconds=10, connect_timeout_seconds=10,
    )  # fmt: skip
    limits = count(1)
    logs = {name: tmp_path / name for name in ("service", "worker")}
    try:
        postgres.start()
        redis.start()
        assert chat_stats("migrate", env=env).returncode == 0
        with (
            serving(env, logs["service"]) as client,
            running("worker", env=env, log=logs["worker"]) as worker,
        ):

            def until_told(what: str) -> None:
                def told() -> bool:
                    client.get(f"/query?group_by=user_id&limit={next(limits)}")  # which no cache has
                    return all(what in log.read_text() for log in logs.values())

                until(told, seconds=60, what=lambda: what)

            until(lambda: client.get("/summary").json().get("metadata", {}).get("cache") == "hit", seconds=60)
            for server, gone, back in (
                (redis, "Redis does not answer", "Redis answers again"),
                (postgres, "the database cannot be reached", "the database answers again"),
            ):
                server.kill()
                until_told(gone)
                time.sleep(5)  # in which the worker tries four times
                server.start()
                until_told(back)
            worker.send(signal.SIGINT)
            assert worker.wait() == 0
    finally:
        redis.stop()
        postgres.stop()
    for log in logs.values():
        text = log.read_text()
        assert "Traceback" not in text
        assert "never retrieved" not in text
        assert max(states(log).values()) <= 2, text  # a busy machine may make another outage
