"""A service with sample data, a worker and keys, to compare with the OpenAPI document."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.worker.demo import sample
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import run_migrations
from tests.processes import environment, running, serving, until

REQUESTS = 2_000
KEY = "let-me-in"


async def _fill(server: PostgresServer, name: str) -> None:
    admin = await asyncpg.connect(server.url())
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    await run_migrations(server.url(name), create_tables=True)
    connection = await asyncpg.connect(server.url(name))
    await sample.load(connection, count=REQUESTS, end=datetime.now(UTC), loaded=lambda _done: None)
    await connection.close()


@pytest.fixture(scope="module")
def service(
    postgres: PostgresServer, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a running service, at its root and with its key."""
    folder = tmp_path_factory.mktemp("openapi")
    database = f"openapi_{os.getpid()}_{folder.name.translate({ord('-'): '_'})}"
    asyncio.run(_fill(postgres, database))
    env = environment(
        postgres.url(database),
        redis.url,
        cache_prefix=database,
        windows="all",
        api_keys=KEY,
        admin_token=KEY,
        rate_limit_misses="",
        rate_limit_rows="",
        connect_timeout_seconds=10,  # a busy machine is no outage
    )
    with (
        running("worker", env=env, log=folder / "worker.log"),
        serving(env, folder / "service.log") as client,
        httpx.Client(
            base_url=client.base_url.copy_with(path="/"), headers={"Authorization": f"Bearer {KEY}"}
        ) as service,
    ):
        until(lambda: service.get("/health/ready").json()["status"] == "ready", what=lambda: "the worker")
        yield service


@pytest.fixture(scope="module")
def document(service: httpx.Client) -> dict[str, Any]:
    return service.get("/openapi.json").json()
