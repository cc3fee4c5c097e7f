"""`chat-stats key` as an operator uses it, with a service that goes by it."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from chat_stats.worker.local_servers import RedisServer
from tests.processes import chat_stats, environment, on_a_terminal, serving, until

QUERY = "query?measures=total_requests"


@pytest.fixture
async def env(connection: asyncpg.Connection, database_url: str, redis: RedisServer) -> dict[str, str]:
    await connection.execute("""
        INSERT INTO chat_completion_requests (user_id, created_at)
        SELECT 'user ' || n % 3, now() FROM generate_series(1, 9) AS n
    """)
    return environment(
        database_url, redis.url, cache_prefix=database_url.rpartition("/")[2], dimensions="user_id",
        require_key=True, connect_timeout_seconds=5,
    )  # fmt: skip


def test_a_key_is_printed_once_listed_by_its_scope_and_gone_when_it_is_revoked(
    env: dict[str, str], tmp_path: Path, database_url: str
) -> None:
    made = chat_stats("key", "create", "--name", "one", "--scope", "user_id=user 1", env=env)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert key.startswith("csk_")
    assert "warning" not in made.stderr
    with serving(env, tmp_path / "service.log") as client:
        assert client.get(QUERY).status_code == 401
        client.headers["X-API-Key"] = key
        # On a busy machine, Postgres may be late, which is a 503.
        until(lambda: client.get(QUERY).status_code == 200, what=lambda: client.get(QUERY).text)
        assert client.get(QUERY).json()["metadata"]["total"] == {"total_requests": 3}
        name, scope, made_at, trouble = chat_stats("key", "list", env=env).stdout.split("\t")
        assert (name, scope, trouble) == ("one", "user_id=user 1", "\n")
        assert datetime.fromisoformat(made_at).utcoffset() == timedelta(0)
        listed = on_a_terminal("key", "list", env=env)
        assert "user_id=user 1" in listed
        assert "\t" not in listed
        assert key not in listed
        assert chat_stats("key", "revoke", "one", env=env).stdout == "revoked: one\n"
        until(lambda: client.get(QUERY).status_code == 401, what=lambda: "the key to end")
    assert json.loads(chat_stats("key", "list", "--json", env=env).stdout) == []


def test_scripts_get_json_or_tabs(env: dict[str, str]) -> None:
    arguments = ("--name", "[one]  1", "--scope", "user_id=a=b  c", "--scope", "status=__null__", "--json")
    made = json.loads(chat_stats("key", "create", *arguments, env=env).stdout)
    assert made["key"].startswith("csk_")
    assert made == {
        "name": "[one]  1", "scope": {"status": "__null__", "user_id": "a=b  c"}, "key": made["key"],
    }  # fmt: skip
    [listed] = json.loads(chat_stats("key", "list", "--json", env=env).stdout)
    assert (listed["name"], listed["scope"], listed["trouble"]) == ("[one]  1", made["scope"], None)
    name, scope, *_ = chat_stats("key", "list", env=env).stdout.split("\t")
    assert (name, scope) == ("[one]  1", "status=__null__, user_id=a=b  c")


def test_what_is_wrong_is_said_in_one_line(env: dict[str, str]) -> None:
    def refused(*arguments: str, code: int = 2, **settings: str) -> str:
        done = chat_stats("key", *arguments, env=env | settings)
        assert done.returncode == code, done
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    one = ("create", "--name", "one", "--scope", "user_id=1")
    assert chat_stats("key", *one, env=env).returncode == 0
    assert "there is a key named 'one' already" in refused(*one)
    assert "there is no key named 'two'" in refused("revoke", "two", code=1)
    missing = {"CHAT_STATS_DIMENSIONS": "user_id, team"}
    assert "team" in refused("create", "--name", "two", "--scope", "team=red", code=3, **missing)
    listed = chat_stats("key", "list", env=env | {"CHAT_STATS_DIMENSIONS": "user_id=request_id"})
    assert listed.returncode == 1
    assert "was user_id, and is user_id=request_id now" in listed.stdout


def test_a_key_for_a_service_that_is_open_comes_with_a_warning(env: dict[str, str]) -> None:
    is_open = env | {"CHAT_STATS_REQUIRE_KEY": "false"}
    made = chat_stats("key", "create", "--name", "one", "--scope", "user_id=1", env=is_open)
    assert made.returncode == 0
    assert "CHAT_STATS_REQUIRE_KEY=true" in made.stderr
    assert made.stdout.startswith("csk_")
