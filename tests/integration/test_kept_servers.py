"""The servers of `make quick` outlast a run, and the next run finds them empty."""

import asyncio
from pathlib import Path

import asyncpg
import psutil
import redis

from chat_stats.worker.local_servers import PostgresServer
from tests import kept_servers


def test_a_running_server_is_reused_without_data_of_earlier_runs(server_folder: Path) -> None:
    folder = server_folder / "kept"
    try:
        postgres = kept_servers.kept_postgres(folder / "main" / "postgres", {"fsync": "off"})
        cache = kept_servers.kept_redis(folder / "main" / "redis")
        assert postgres.process is not None
        assert cache.process is not None
        asyncio.run(
            execute(postgres, "CREATE DATABASE test_1", "CREATE ROLE reader", "GRANT pg_monitor TO reader")
        )
        with redis.Redis.from_url(cache.url) as client:
            client.set("key", "value")

        again = kept_servers.kept_postgres(folder / "main" / "postgres", {"fsync": "off"})
        cache_again = kept_servers.kept_redis(folder / "main" / "redis")
        assert (again.url(), again.process) == (postgres.url(), None)
        assert (cache_again.url, cache_again.process) == (cache.url, None)
        asyncio.run(execute(again, "CREATE DATABASE test_1", "CREATE ROLE reader"))
        with redis.Redis.from_url(cache.url) as client:
            assert client.dbsize() == 0
    finally:
        kept_servers.stop(folder)
    assert not folder.exists()
    for process in (postgres.process, cache.process):
        assert process.wait(10) == 0
        assert not psutil.pid_exists(process.pid)


async def execute(server: PostgresServer, *statements: str) -> None:
    connection = await asyncpg.connect(server.url())
    for statement in statements:
        await connection.execute(statement)
    await connection.close()
