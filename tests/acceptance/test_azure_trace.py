"""A real trace through the whole of chat-stats: import, worker, service, and each method in turn.

The trace is the Azure LLM inference trace 2023 (code), CC BY 4.0: Patel et al., "Splitwise: Efficient
generative LLM inference using phase splitting", ISCA 2024.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.processes import chat_stats, running, serving, until
from tests.tools import TRACE, need

REQUESTS, INPUT_TOKENS, OUTPUT_TOKENS = 8_819, 18_059_974, 245_896

NAMES = ("providers", "models", "counts", "summary")

#: Statements that disable the methods one after the other, each for a reason that occurs in real databases.
DROP_FUNCTIONS = (
    "DROP FUNCTION get_provider_request_stats, get_models_with_requests, get_model_request_counts, "
    "get_chat_request_summary"
)
FORBID_TOKEN_COLUMNS = (
    "REVOKE SELECT ON chat_completion_requests FROM {role}; "
    "GRANT SELECT (id, model_id, created_at) ON chat_completion_requests TO {role}"
)
#: Reading a slice of them is as quick as ever.
MAKE_READING_ALL_ROWS_SLOW = (
    "ALTER TABLE chat_completion_requests RENAME TO stored_requests; "
    "CREATE VIEW chat_completion_requests AS "
    "SELECT * FROM stored_requests WHERE current_query() LIKE '%LIMIT%' OR pg_sleep(0.01) IS NOT NULL; "
    "GRANT SELECT (id, model_id, created_at) ON chat_completion_requests TO {role}"
)


@pytest.fixture
def trace() -> Path:
    return need(TRACE)


@pytest.fixture
async def admin(env: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(env["CHAT_STATS_DATABASE_URL"])
    yield connection
    await connection.close()


@pytest.fixture
async def role(admin: asyncpg.Connection) -> AsyncIterator[str]:
    """A role that may only read the three tables."""
    name = f"reader_{await admin.fetchval('SELECT current_database()')}"
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'reader'")
    await admin.execute(f"GRANT SELECT ON providers, models, chat_completion_requests TO {name}")
    yield name
    await admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def get(client: httpx.Client, name: str) -> dict[str, Any]:
    response = client.get(f"/{name}", timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def check(client: httpx.Client, method: str, cache: str, names: Iterable[str] = NAMES) -> None:
    """Check method, cache state and the exact totals of each answer."""
    tokens_known = method in ("rpc", "fallback_optimized")
    for name in names:
        body = get(client, name)
        assert (body["metadata"]["method"], body["metadata"]["cache"]) == (method, cache)
        if name == "providers":
            assert [row["total_requests"] for row in body["data"]] == [REQUESTS]
        elif name == "counts":
            assert [row["request_count"] for row in body["data"]] == [REQUESTS]
        else:
            stats = body["data"][0]["stats"] if name == "models" else body["data"]
            assert stats["total_requests"] == REQUESTS
            assert stats["total_input_tokens"] == (INPUT_TOKENS if tokens_known else 0)
            assert stats["total_output_tokens"] == (OUTPUT_TOKENS if tokens_known else 0)
            assert stats["total_tokens"] == (INPUT_TOKENS + OUTPUT_TOKENS if tokens_known else 0)
            assert stats["avg_processing_time_ms"] == 0  # the trace has no times
            assert ("total_tokens" in body["metadata"]["unavailable"]) == (not tokens_known)


async def test_the_trace_gives_exact_totals_by_every_method(
    trace: Path, env: dict[str, str], admin: asyncpg.Connection, role: str, tmp_path: Path
) -> None:
    done = chat_stats("import", str(trace), env=env)
    assert done.returncode == 0, done.stderr

    with serving(env, tmp_path / "service") as client:
        check(client, "rpc", "miss")
        check(client, "rpc", "hit")
        age = get(client, "counts")["metadata"]["cache_age_seconds"]
        await asyncio.sleep(0.1)
        assert get(client, "counts")["metadata"]["cache_age_seconds"] >= age + 0.1

    def as_reader(cache: str) -> dict[str, str]:
        url = httpx.URL(env["CHAT_STATS_DATABASE_URL"]).copy_with(username=role, password="reader")
        prefix = f"{env['CHAT_STATS_CACHE_PREFIX']}-{cache}"
        return {
            **env,
            "CHAT_STATS_DATABASE_URL": str(url),
            "CHAT_STATS_CACHE_PREFIX": prefix,
            "CHAT_STATS_QUERY_TIMEOUT_SECONDS": "4",
        }

    await admin.execute(DROP_FUNCTIONS)
    with serving(as_reader("optimized"), tmp_path / "service") as client:
        check(client, "fallback_optimized", "miss")
    await admin.execute(FORBID_TOKEN_COLUMNS.format(role=role))
    with serving(as_reader("counts"), tmp_path / "service") as client:
        check(client, "fallback_with_counts", "miss")
    await admin.execute(MAKE_READING_ALL_ROWS_SLOW.format(role=role))
    with serving(as_reader("slices"), tmp_path / "service") as client:
        check(client, "fallback", "miss", ["counts", "summary"])


def test_the_worker_computes_the_trace_before_the_first_request(
    trace: Path, env: dict[str, str], tmp_path: Path
) -> None:
    assert chat_stats("import", str(trace), env=env).returncode == 0
    with (
        running("worker", env=env, log=tmp_path / "worker"),
        serving(env, tmp_path / "service") as client,
    ):
        until(lambda: chat_stats("status", env=env).returncode == 0)
        check(client, "rpc", "hit")
