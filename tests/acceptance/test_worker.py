"""The worker as a process: it refreshes, survives, hands over and stops."""

import json
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from chat_stats.worker.local_servers import PostgresServer, RedisServer, postgres_server, redis_server
from tests.processes import chat_stats, environment, running, serving, until

ADD_REQUEST = (
    "INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one') ON CONFLICT DO NOTHING;"
    "INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha') ON CONFLICT DO NOTHING;"
    "INSERT INTO chat_completion_requests (model_id, input_tokens) VALUES (1, 10)"
)


def psql(postgres: PostgresServer, url: str, statement: str) -> str:
    program = postgres.binaries / "psql"
    done = subprocess.run(
        [program, url, "-AtX", "-v", "ON_ERROR_STOP=1", "-c", statement],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


def generation(redis: RedisServer, env: dict[str, str]) -> dict[str, Any]:
    client = redis_client.Redis.from_url(redis.url)
    stored = client.get(f"{env['CHAT_STATS_CACHE_PREFIX']}:v2:generation")
    client.close()
    return json.loads(stored) if isinstance(stored, bytes) else {}


@pytest.mark.slow
def test_it_refreshes_at_every_interval(redis: RedisServer, env: dict[str, str], log: Path) -> None:
    with running("worker", env=env, log=log):
        seen: dict[str, None] = {}

        def refreshes() -> int:
            if found := generation(redis, env):
                seen[found["computed_at"]] = None
            return len(seen)

        until(lambda: refreshes() == 5)
    first, *_, last = (datetime.fromisoformat(moment) for moment in seen)
    # Four intervals of a second; none of them starts as late as that.
    assert (last - first).total_seconds() > 2


@pytest.mark.slow
def test_two_workers_share_the_schedule(redis: RedisServer, env: dict[str, str], tmp_path: Path) -> None:
    with (
        running("worker", env=env, log=tmp_path / "one") as one,
        running("worker", env=env, log=tmp_path / "two") as two,
    ):
        until(lambda: generation(redis, env))
        started = time.monotonic()
        time.sleep(3)
        until(lambda: (one.output() + two.output()).count("refreshed") >= 3)
        refreshes = (one.output() + two.output()).count("refreshed")
        assert refreshes <= 1 + time.monotonic() - started + 2
    assert "Traceback" not in one.output() + two.output()


def test_after_a_kill_the_next_worker_refreshes_within_seconds(
    redis: RedisServer, env: dict[str, str], postgres: PostgresServer, tmp_path: Path
) -> None:
    """The worker dies in the middle of a refresh, with its job taken and its lock held."""
    url = env["CHAT_STATS_DATABASE_URL"]
    psql(postgres, url, ADD_REQUEST)  # without any, nothing asks whether there are costs
    psql(
        postgres,
        url,
        "CREATE OR REPLACE FUNCTION chat_stats_has_cost() RETURNS boolean LANGUAGE sql "
        "AS 'SELECT true FROM pg_sleep(3)'",
    )
    with running("worker", env=env, log=tmp_path / "one") as worker:
        until(lambda: psql(postgres, url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        worker.send(signal.SIGKILL)
        worker.wait()
    psql(
        postgres,
        url,
        "CREATE OR REPLACE FUNCTION chat_stats_has_cost() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    )
    assert generation(redis, env) == {}
    with running("worker", env=env, log=tmp_path / "two"):
        until(lambda: generation(redis, env), seconds=8)


@pytest.mark.slow
def test_the_next_worker_takes_over_the_refresh_of_a_killed_worker(
    redis: RedisServer, env: dict[str, str], postgres: PostgresServer, tmp_path: Path
) -> None:
    env = {**env, "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "3600"}
    url = env["CHAT_STATS_DATABASE_URL"]
    with running("worker", env=env, log=tmp_path / "one") as worker:
        until(lambda: generation(redis, env))
        first = generation(redis, env)
        psql(postgres, url, "ALTER FUNCTION chat_stats_usage COST 1; ALTER TABLE models RENAME TO hidden")
        psql(postgres, url, "CREATE VIEW models AS SELECT * FROM hidden WHERE pg_sleep(30) IS NOT NULL")
        psql(postgres, url, ADD_REQUEST.replace("INTO models", "INTO hidden"))
        asked = chat_stats("refresh", "--no-wait", env=env)
        assert asked.returncode == 0, asked.stderr
        until(lambda: psql(postgres, url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        worker.send(signal.SIGKILL)
        worker.wait()
    psql(postgres, url, "DROP VIEW models; ALTER TABLE hidden RENAME TO models")
    with running("worker", env=env, log=tmp_path / "two"):
        until(lambda: generation(redis, env) != first, seconds=20)


def test_sigterm_lets_the_running_refresh_finish(
    redis: RedisServer, env: dict[str, str], postgres: PostgresServer, log: Path
) -> None:
    url = env["CHAT_STATS_DATABASE_URL"]
    psql(postgres, url, ADD_REQUEST)
    psql(
        postgres,
        url,
        "CREATE OR REPLACE FUNCTION chat_stats_has_cost() RETURNS boolean LANGUAGE sql "
        "AS 'SELECT true FROM pg_sleep(1)'",
    )
    with running("worker", env=env, log=log) as worker:
        until(lambda: psql(postgres, url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert generation(redis, env)["failed"] == 0
    assert "Traceback" not in worker.output()
    assert chat_stats("status", "--worker", env=env).returncode == 1


def test_without_redis_and_postgres_it_waits_and_begins_when_they_appear(
    tmp_path: Path, server_folder: Path
) -> None:
    late_postgres = postgres_server(server_folder / f"late-{time.monotonic_ns()}")
    late_redis = redis_server(tmp_path / "redis")
    env = environment(late_postgres.url(), late_redis.url, refresh_interval_seconds=1, admin_token="t")
    try:
        with (
            serving(env, tmp_path / "service") as client,
            running("worker", env=env, log=tmp_path / "worker") as worker,
        ):
            assert (
                client.get("http://" + client.base_url.netloc.decode() + "/health/ready").status_code == 503
            )
            assert client.get("/counts").status_code == 503
            late_redis.start()
            late_postgres.start()
            assert chat_stats("migrate", env=env).returncode == 0
            until(lambda: client.get("/counts").status_code == 200)
            until(lambda: client.get("/summary").json().get("metadata", {}).get("cache") == "hit")
            assert worker.popen.poll() is None
            until(lambda: chat_stats("status", "--worker", env=env).returncode == 0)
    finally:
        late_redis.stop()
        late_postgres.stop()


def test_restarting_the_worker_changes_ages_and_not_numbers(
    redis: RedisServer, env: dict[str, str], postgres: PostgresServer, tmp_path: Path
) -> None:
    psql(postgres, env["CHAT_STATS_DATABASE_URL"], ADD_REQUEST)
    with serving(env, tmp_path / "service") as client:
        with running("worker", env=env, log=tmp_path / "one") as worker:
            until(lambda: generation(redis, env))
            worker.send(signal.SIGKILL)
            worker.wait()
        time.sleep(1.2)
        alone = client.get("/summary").json()
        with running("worker", env=env, log=tmp_path / "two"):
            until(lambda: client.get("/summary").json()["metadata"]["cache_age_seconds"] < 1)
            again = client.get("/summary").json()
    assert alone["metadata"]["cache_age_seconds"] > 1
    assert alone["data"] == again["data"]
    assert alone["data"]["total_requests"] == 1
