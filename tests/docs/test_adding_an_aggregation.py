"""The worked example of docs/adding-an-aggregation.md, carried out on a copy of the project."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from chat_stats.worker.local_servers import RedisServer, free_port
from tests.docs.documents import ROOT
from tests.processes import chat_stats, environment, serving, until

TEXT = (ROOT / "docs/adding-an-aggregation.md").read_text()
NEW_FILES = re.findall(r"^`([\w/]+\.sql)`:\n\n```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CHANGES = re.findall(r"^```diff\n--- a/(\S+)\n\+\+\+ b/\1\n@@\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

CAPTURED: Any = {"capture_output": True, "text": True, "timeout": 400, "check": False}

#: Five requests of models that have a provider, and three of others.
ROWS = """
    INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
    INSERT INTO models (id, provider_id, model_name)
    VALUES (1, 1, 'Alpha'), (2, NULL, 'Stray'), (4, 2, 'Beta');
    INSERT INTO chat_completion_requests (model_id, status)
    VALUES (1, 'ok'), (1, 'failed'), (1, 'ok'), (4, 'ok'), (4, NULL), (4, 'error'),
           (2, 'failed'), (3, 'failed'), (NULL, 'failed');
"""
EXPECTED = [
    {"provider_id": 2, "name": "Two", "total_requests": 3, "failed_requests": 2},
    {"provider_id": 1, "name": "One", "total_requests": 3, "failed_requests": 1},
]


def test_it_touches_at_most_four_files() -> None:
    assert len({name for name, _ in (*NEW_FILES, *CHANGES)}) <= 4
    assert len(TEXT.splitlines()) <= 180


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project to which the document was applied."""
    copy = tmp_path / "project"
    without = shutil.ignore_patterns("__pycache__")
    for folder in ("chat_stats", "service", "worker", "sql", "docs", "tests", "monitoring"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=without)
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, copy / file)
    assert NEW_FILES
    assert CHANGES
    for name, text in NEW_FILES:
        assert not (copy / name).exists()
        (copy / name).write_text(text)
    for name, lines in CHANGES:
        change(copy / name, lines)
    return copy


def change(file: Path, lines: str) -> None:
    """Apply one hunk of a diff, wherever its old lines are."""
    old = re.sub(r"^(\+.*\n| )", "", lines, flags=re.MULTILINE).replace("\n-", "\n").removeprefix("-")
    new = re.sub(r"^(-.*\n| |\+)", "", lines, flags=re.MULTILINE)
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} has no such place, or several: {old}"
    file.write_text(text.replace(old, new))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_worked_example_works_as_it_is_written(
    project: Path, empty_database: str, redis: RedisServer, tmp_path: Path
) -> None:
    env = environment(
        empty_database,
        redis.url,
        cache_prefix=f"example-{free_port()}",
        connect_timeout_seconds=10,  # a busy machine is no outage
        query_timeout_seconds=30,
    )
    tests = (
        "tests/unit/test_aggregations.py",
        "tests/unit/test_answers_in_keys.py",
        "tests/docs/test_complete.py",
        "tests/docs/test_sql_functions.py",
        "tests/sql/test_methods_agree.py::test_all_methods_give_the_expected_failures",
    )
    for arguments in (
        ["pytest", "-q", "-p", "no:cacheprovider", *tests],
        ["ruff", "check", "--no-cache", "service", "tests"],
        ["ruff", "format", "--no-cache", "--check", "service", "tests"],
    ):
        finished(subprocess.run([sys.executable, "-m", *arguments], cwd=project, **CAPTURED))

    finished(chat_stats("migrate", env=env))
    execute(empty_database, ROWS)
    finished(chat_stats("refresh", "--local", env=env))

    finished(chat_stats("migrate", env=env, project=project))
    with serving(env, tmp_path / "upgraded.log", project) as client:
        for name in ("counts", "summary"):  # what the version without it left in the cache
            assert client.get(f"/{name}?window=24h").json()["metadata"]["cache"] == "hit"
    report = finished(chat_stats("refresh", "--local", "--json", env=env, project=project))
    refreshed = {
        (each["aggregation"], each["window"], each["method"]) for each in orjson.loads(report)["results"]
    }
    assert ("failures", "24h", "rpc") in refreshed

    with serving(env, tmp_path / "service.log", project) as client:
        until(lambda: client.get("/failures?window=24h").json()["metadata"]["cache"] == "hit")
        cached = client.get("/failures?window=24h").json()
        assert cached["data"] == EXPECTED
        assert cached["metadata"]["method"] == "rpc"
        assert cached["metadata"]["total_providers"] == 2
        document = client.get(client.base_url.copy_with(path="/openapi.json")).json()
        assert "/api/monitoring/chat-requests/failures" in document["paths"]

        execute(empty_database, "DROP FUNCTION get_provider_failures")
        live = client.get("/failures?start_date=2000-01-01").json()
        assert (live["data"], live["metadata"]["method"]) == (EXPECTED, "fallback_optimized")


def finished(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a command, which must have succeeded."""
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def execute(url: str, sql: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(work())
