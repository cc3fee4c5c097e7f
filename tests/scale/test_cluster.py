"""A Redis Cluster is refused, with what to use instead."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from chat_stats.service.cache.errors import TROUBLE, trouble_of
from chat_stats.service.cache.store import connect
from chat_stats.worker.local_servers import RedisServer, redis_server
from tests.processes import chat_stats, environment

INSTEAD = "use a single Redis, or Sentinel for failover"
NO_POSTGRES = "postgresql://127.0.0.1:1/none"


@pytest.fixture(scope="module")
def cluster(server_folder: Path) -> Iterator[RedisServer]:
    """One server that is a whole cluster, with a user who may use our keys alone."""
    server = redis_server(server_folder / "cluster")
    server.options["cluster-enabled"] = "yes"
    server.start()
    with Redis(port=server.port) as admin:
        admin.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        admin.acl_setuser(
            "stats",
            enabled=True,
            passwords=["+secret"],
            keys=["chat-stats:*"],
            categories=["+@read", "+@write"],
        )
    yield server
    server.stop()


@pytest.mark.parametrize("command", ["serve", "worker"])
@pytest.mark.parametrize("variable", ["redis_url", "queue_redis_url"])
def test_a_server_that_is_a_cluster_ends_the_start(
    cluster: RedisServer, redis: RedisServer, command: str, variable: str
) -> None:
    url = f"redis://stats:secret@127.0.0.1:{cluster.port}/0"
    urls = {"redis_url": redis.url, variable: url}
    env = environment(NO_POSTGRES, urls.pop("redis_url"), redis_timeout_seconds=10, **urls)
    ended = chat_stats(command, env=env)
    assert ended.returncode != 0
    assert f"CHAT_STATS_{variable.upper()}: is a Redis Cluster" in ended.stderr
    assert INSTEAD in " ".join(ended.stderr.split())


async def test_one_that_became_a_cluster_later_is_named(cluster: RedisServer) -> None:
    client = connect(cluster.url, timeout_seconds=5)
    pipe: Any = client.pipeline().set("chat-stats:one", 1)
    pipe.rename("chat-stats:one", "chat-stats:other")
    with pytest.raises(TROUBLE) as raised:
        await pipe.execute()
    await client.aclose(close_connection_pool=True)
    assert INSTEAD in trouble_of(raised.value)
