"""A Sentinel's failover under load: local copies answer on, and what follows is fresh again."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from chat_stats.service.cache.store import connect
from chat_stats.worker.local_servers import free_port
from tests.drills.load import Reply, load
from tests.processes import chat_stats, environment, running, until
from tests.scale.sentinels import Sentinels, sentinels

pytestmark = pytest.mark.slow

#: What the worker keeps computed.
TARGETS = [f"/api/monitoring/chat-requests/{name}?window=all" for name in ("counts", "summary", "models")]
#: Seconds after which answers are to be fresh again; a machine under load gets twice that.
FRESH_AGAIN_SECONDS = 5.0


@pytest.fixture(scope="module")
def folder(server_folder: Path) -> Path:
    folder = server_folder / "sentinel"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def by_sentinel(folder: Path) -> Iterator[Sentinels]:
    with sentinels(folder) as servers:
        yield servers


async def test_a_sentinel_that_hangs_leaves_time_for_the_others(by_sentinel: Sentinels) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as hanging:
        port = hanging.sockets[0].getsockname()[1]
        url = by_sentinel.url.replace("@", f"@127.0.0.1:{port},", 1)
        client = connect(url, timeout_seconds=10)
        async with asyncio.timeout(10):  # all that the cache waits for
            assert await client.set("key", "value")
        await client.aclose(close_connection_pool=True)


def test_no_hit_fails_while_a_replica_becomes_the_master(
    database_url: str, folder: Path, by_sentinel: Sentinels
) -> None:
    port = free_port()
    env = environment(
        database_url,
        by_sentinel.url,
        windows="all",
        refresh_interval_seconds=1,
        fresh_seconds=3,
        local_cache_seconds=0.2,
    )
    with (
        running("worker", env=env, log=folder / "worker.log") as worker,
        running("serve", "--port", str(port), env=env, log=folder / "service.log") as service,
        load(100, lambda: (port, TARGETS[time.monotonic_ns() % len(TARGETS)])) as replies,
    ):
        until(lambda: _is_hit(replies), seconds=60, what=lambda: worker.output() + service.output())
        known_at = time.time()
        failed_over_at = by_sentinel.fail_over()
        until(lambda: _computed_after(replies, failed_over_at), seconds=60, what=worker.output)
        fresh_seconds = time.time() - failed_over_at
        by_queue = chat_stats("refresh", env=env)
        status = chat_stats("status", env=env)
    after = [reply for reply in replies if reply.sent_at > known_at]
    failed = [(reply.status, reply.error, reply.body[:300]) for reply in after if reply.status != 200]
    assert failed == []
    print(f"fresh {fresh_seconds:.1f} s after the failover")  # noqa: T201  shown on failure, or with -s
    assert fresh_seconds < 2 * FRESH_AGAIN_SECONDS
    assert by_queue.returncode == 0, by_queue.stderr
    assert status.returncode == 0, status.stdout
    assert "Traceback" not in worker.output() + service.output()


def _is_hit(replies: list[Reply]) -> bool:
    return len(replies) > 100 and all(
        reply.status == 200 and reply.metadata["cache"] == "hit" for reply in replies[-50:]
    )


def _computed_after(replies: list[Reply], moment: float) -> bool:
    return all(
        reply.status == 200
        and reply.metadata["cache"] == "hit"
        and datetime.fromisoformat(reply.metadata["computed_at"]).timestamp() > moment
        for reply in replies[-20:]
    )
