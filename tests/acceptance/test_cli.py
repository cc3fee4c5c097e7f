"""The command line as an operator and a script use it."""

import json
import re
from pathlib import Path

import asyncpg
import pytest

from chat_stats.worker.cli import status as worker_status
from chat_stats.worker.local_servers import RedisServer
from tests.processes import chat_stats, environment, on_a_terminal, running, serving, until


def test_help_names_every_command() -> None:
    done = chat_stats("--help", env=environment("", ""))
    assert done.returncode == 0
    for command in ("serve", "worker", "migrate", "refresh", "status", "import", "sample", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["serve", "worker", "migrate", "refresh", "status"])
def test_a_wrong_setting_stops_the_start_and_is_named(command: str) -> None:
    env = environment("postgresql://u:secret-password@127.0.0.1:1/x", "redis://127.0.0.1:1", port="eighty")
    done = chat_stats(command, env=env)
    assert done.returncode == 2
    assert "CHAT_STATS_PORT" in done.stderr
    assert "secret-password" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_invalid_host_is_named() -> None:
    done = chat_stats("serve", "--host", "unknown.invalid", env=environment("postgresql://h/x", "redis://h"))
    assert done.returncode == 2
    assert "CHAT_STATS_HOST: 'unknown.invalid' is neither" in done.stderr


def test_migrate_says_what_it_did_and_is_safe_to_repeat(empty_database: str, redis: RedisServer) -> None:
    env = environment(empty_database, redis.url)
    for _ in range(2):
        done = chat_stats("migrate", env=env)
        assert (done.returncode, done.stderr.count("error")) == (0, 0)
        assert "migrated" in done.stdout


def test_migrate_without_a_database_says_so(redis: RedisServer) -> None:
    done = chat_stats("migrate", env=environment("postgresql://u:pw@127.0.0.1:1/x", redis.url))
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_local_refresh_prints_each_aggregation_with_method_rows_and_time(env: dict[str, str]) -> None:
    done = chat_stats("refresh", "--local", env=env)
    assert done.returncode == 0, done.stderr
    for word in ("providers", "models", "counts", "summary", "24h", "all", "rpc", "generation"):
        assert word in done.stdout


def test_refresh_of_one_aggregation_and_window_as_json(env: dict[str, str]) -> None:
    done = chat_stats("refresh", "counts", "--window", "7d", "--local", "--json", env=env)
    report = json.loads(done.stdout)
    assert [(result["aggregation"], result["window"]) for result in report["results"]] == [("counts", "7d")]
    assert (report["published"], report["entries"]) == (True, 1)


@pytest.mark.parametrize("arguments", [("nothing",), ("--window", "1y"), ("--timeout", "0")])
def test_refresh_with_a_wrong_argument_is_wrong_usage(
    env: dict[str, str], arguments: tuple[str, ...]
) -> None:
    assert chat_stats("refresh", "--local", *arguments, env=env).returncode == 2


def test_refresh_without_a_worker_says_what_to_do(env: dict[str, str]) -> None:
    done = chat_stats("refresh", env=env)
    assert done.returncode == 4
    assert "--local" in done.stderr


@pytest.mark.slow
def test_refresh_without_a_database_fails_with_its_exit_code(redis: RedisServer) -> None:
    env = environment("postgresql://u:pw@127.0.0.1:1/x", redis.url)
    done = chat_stats("refresh", "--local", env=env)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_first_read_after_a_refresh_that_was_waited_for_is_newer(
    env: dict[str, str], tmp_path: Path
) -> None:
    env = {**env, "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "3600"}
    with serving(env, tmp_path / "service") as client, running("worker", env=env, log=tmp_path / "worker"):
        until(lambda: chat_stats("status", "--worker", env=env).returncode == 0)
        for _ in range(3):
            before = client.get("/counts").json()["metadata"]
            done = chat_stats("refresh", "--wait", "--json", env=env)
            after = client.get("/counts").json()["metadata"]
            assert done.returncode == 0, done.stderr
            assert after["generation"] == json.loads(done.stdout)["generation"] != before["generation"]
            assert after["computed_at"] > before["computed_at"]


@pytest.mark.slow
def test_the_refresh_endpoint_waits_too(env: dict[str, str], tmp_path: Path) -> None:
    env = {**env, "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "3600"}
    with serving(env, tmp_path / "service") as client, running("worker", env=env, log=tmp_path / "worker"):
        until(lambda: chat_stats("status", "--worker", env=env).returncode == 0)
        url = client.base_url.copy_with(path="/api/monitoring/refresh", query=b"wait=true")
        done = client.post(url, headers={"Authorization": "Bearer let-me-in"}, timeout=30).json()
        assert done["data"]["status"] == "complete"
        read = client.get("/counts").json()["metadata"]
        assert read["generation"] == done["data"]["report"]["generation"]


def test_status_sets_its_exit_code_and_says_what_it_found(env: dict[str, str], tmp_path: Path) -> None:
    before = chat_stats("status", "--json", env=env)
    assert before.returncode == 1
    assert json.loads(before.stdout)["worker"] == worker_status.START_WORKER
    assert chat_stats("sample", "--requests", "200", env=env).returncode == 0
    with running("worker", env=env, log=tmp_path / "worker"):
        until(lambda: chat_stats("status", env=env).returncode == 0)
        shown = on_a_terminal("status", env=env)
        piped = chat_stats("status", env=env).stdout
        found = json.loads(chat_stats("status", "--json", env=env).stdout)
    assert found["healthy"] is True
    assert {group["method"] for group in found["cached"]} == {"rpc"}
    assert set(found["functions"].values()) == {"ok"}
    assert shown.startswith("\x1b[1;32mAll is well"), shown
    rows = [re.split(r"\s{2,}", re.sub(r"\x1b\[[\d;]*m", "", line)) for line in shown.splitlines()]
    assert len(rows) <= 12, "a verdict, a matrix and what else is known: a dozen lines"
    assert ["computed ago", "24h", "all"] in [[cell for cell in row if cell] for row in rows]
    for name in ("providers", "models", "counts", "summary"):
        (row,) = [row for row in rows if row[0] == name]
        assert [re.sub(r"\d+", "N", cell) for cell in row[1:3]] == ["N s", "N s"]

    lines = [line.split("\t") for line in piped.splitlines()]
    assert lines[0] == ["status", "well", "0"]
    assert ["part", "worker", "alive"] in lines
    assert ["function", "get_models_with_requests_by_provider", "ok"] in lines
    answers = [line for line in lines if line[0] == "answers"]
    assert [line[1:4] for line in answers] == [
        [group["aggregation"], group["window"], str(group["entries"])] for group in found["cached"]
    ]
    assert {tuple(line[5:]) for line in answers} == {("fresh", "rpc")}


async def test_an_empty_database_is_greeted_with_three_ways_to_begin(
    env: dict[str, str], connection: asyncpg.Connection
) -> None:
    steps = ("1. connect", "chat-stats migrate", "2. import", "3. demo")
    shown = on_a_terminal("status", env=env, exit_code=1)
    assert all(step in shown for step in steps), shown
    assert "requests\tnone\n" in chat_stats("status", env=env).stdout
    await connection.execute("INSERT INTO chat_completion_requests (status) VALUES ('completed')")
    assert "1. connect" not in on_a_terminal("status", env=env, exit_code=1)
    assert "requests\tsome\n" in chat_stats("status", env=env).stdout
    await connection.execute("DROP TABLE chat_completion_requests")
    shown = on_a_terminal("status", env=env, exit_code=1)
    assert "the database lacks the table(s) chat_completion_requests" in shown
    assert all(step in shown for step in steps), shown


@pytest.mark.slow
async def test_a_damaged_rollup_is_said_by_status_and_makes_readiness_degraded(
    env: dict[str, str], connection: asyncpg.Connection, tmp_path: Path
) -> None:
    assert chat_stats("rollup", "enable", env=env).returncode == 0
    with serving(env, tmp_path / "service") as client, running("worker", env=env, log=tmp_path / "worker"):
        ready = client.base_url.copy_with(path="/health/ready")
        until(lambda: client.get(ready).json()["status"] == "ready")
        assert client.get(ready).json()["rollup"] == {"ok": True, "detail": "on"}
        assert "part\trollup\ton\n" in chat_stats("status", env=env).stdout

        await connection.execute("DROP TRIGGER chat_stats_insert ON chat_completion_requests")
        until(lambda: client.get(ready).json()["status"] == "degraded")
        damaged = "3 of its 4 triggers fire; run: chat-stats rollup enable"
        assert client.get(ready).json()["rollup"] == {"ok": False, "detail": f"damaged: {damaged}"}
        plain = chat_stats("status", env=env)
        as_json = chat_stats("status", "--json", env=env)
        assert (plain.returncode, as_json.returncode) == (1, 1)
        assert damaged in plain.stdout
        assert json.loads(as_json.stdout)["rollup"] == {
            "state": "damaged",
            "reason": damaged,
            "trouble": "triggers",
        }

        assert chat_stats("rollup", "enable", env=env).returncode == 0
        until(lambda: client.get(ready).json()["status"] == "ready")


def test_status_names_a_function_that_is_missing(empty_database: str, redis: RedisServer) -> None:
    env = environment(empty_database, redis.url, cache_prefix="missing")
    assert "providers" in json.loads(chat_stats("status", "--json", env=env).stdout)["database"]
    assert chat_stats("migrate", env=env).returncode == 0
    found = json.loads(chat_stats("status", "--json", env=env).stdout)
    assert found["functions"]["get_model_request_counts"] == "ok"


def test_the_sample_fills_only_an_empty_database(env: dict[str, str]) -> None:
    done = chat_stats("sample", "--requests", "2000", env=env)
    assert (done.returncode, done.stdout) == (0, "2,000 requests loaded\n"), done.stderr
    again = chat_stats("sample", env=env)
    assert again.returncode == 3
    assert "the database has rows already" in again.stderr
    report = json.loads(chat_stats("refresh", "counts", "--local", "--json", env=env).stdout)
    assert {result["error"] for result in report["results"]} == {None}
    assert max(result["rows"] for result in report["results"]) > 20


async def test_status_distinguishes_missing_and_failing_functions(
    database_url: str, connection: asyncpg.Connection, redis: RedisServer
) -> None:
    await connection.execute(
        "INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');"
        "INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');"
        "DROP FUNCTION get_model_request_counts"
    )
    await connection.execute(
        "ALTER TABLE chat_completion_requests ALTER created_at DROP DEFAULT, ALTER created_at TYPE text"
    )
    done = chat_stats("status", "--json", env=environment(database_url, redis.url, cache_prefix="fails"))
    functions = json.loads(done.stdout)["functions"]
    assert functions["get_model_request_counts"] == "missing; run: chat-stats migrate"
    assert functions["get_provider_request_stats"].startswith("fails with UndefinedFunctionError: operator")
