"""A service with the demo's data, for the examples of the documentation."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from chat_stats.worker.demo import sample
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import run_migrations
from tests.processes import environment, running, serving

REQUESTS = 2_000
Run = Callable[..., str]


async def fill(url: str) -> None:
    """Create the tables in an empty database, and load requests of 90 days."""
    await run_migrations(url, create_tables=True)
    connection = await asyncpg.connect(url)
    await sample.load(connection, count=REQUESTS, end=datetime.now(UTC), loaded=lambda _done: None)
    await connection.close()


async def _create_filled(server: PostgresServer, name: str) -> None:
    admin = await asyncpg.connect(server.url())
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of another module of this process
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    await fill(server.url(name))


@pytest.fixture(scope="module")
def run(
    postgres: PostgresServer, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Runs a shell command of the documentation against this test's service; returns its output.

    With `fails` the command must fail: curl does when an error is answered.
    """
    folder = tmp_path_factory.mktemp("documentation")
    database = f"documentation_{os.getpid()}"
    asyncio.run(_create_filled(postgres, database))
    env = environment(
        postgres.url(database),
        redis.url,
        cache_prefix=database,
        admin_token="let-me-in",
        worker_metrics_port=0,
        connect_timeout_seconds=10,  # a busy machine is no outage
        dimensions=sample.DIMENSIONS,
    )
    with (
        running("worker", env=env, log=folder / "worker.log"),
        serving(env, folder / "service.log") as client,
    ):
        address = f"{client.base_url.host}:{client.base_url.port}"

        def run(command: str, *, fails: bool = False) -> str:
            done = subprocess.run(  # noqa: S602  the commands are our own
                command.replace("localhost:8000", address).replace("curl ", "curl --fail-with-body "),
                shell=True,
                cwd=folder,
                env={**env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode != 0) == fails, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            return done.stdout

        yield run
