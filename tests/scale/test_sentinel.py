"""A Sentinel's failover under load: local copies answer on, and what follows is fresh again."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_stats.service.cache.store import connect
from chat_stats.worker.local_servers import free_port
from tests.drills.load import load
from tests.processes import chat_stats, environment, running, until
from tests.scale.failovers import BRISK, FAILOVERS, FRESH_AGAIN_SECONDS, TARGETS, computed_after, failed
from tests.scale.sentinels import Sentinels, sentinels

pytestmark = pytest.mark.slow


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
    fresh_seconds: list[float] = []
    env = environment(database_url, by_sentinel.url, **BRISK)
    with (
        running("worker", env=env, log=folder / "worker.log") as worker,
        running("serve", "--port", str(port), env=env, log=folder / "service.log") as service,
        load(100, lambda: (port, TARGETS[time.monotonic_ns() % len(TARGETS)])) as replies,
    ):
        until(lambda: computed_after(replies, 0), seconds=60, what=lambda: worker.output() + service.output())
        known_at = time.time()
        for number in range(FAILOVERS):
            if number:
                by_sentinel.heal()
            failed_over_at = by_sentinel.fail_over()
            until(lambda: computed_after(replies, failed_over_at), seconds=60, what=worker.output)  # noqa: B023
            fresh_seconds.append(time.time() - failed_over_at)
            by_queue = chat_stats("refresh", env=env)
            assert by_queue.returncode == 0, by_queue.stderr
        status = chat_stats("status", env=env)
    # shown on failure, or with -s
    print("fresh after each failover:", *(f"{seconds:.1f} s" for seconds in fresh_seconds))  # noqa: T201
    assert failed(replies, known_at) == []
    assert max(fresh_seconds) < 2 * FRESH_AGAIN_SECONDS
    assert status.returncode == 0, status.stdout
    assert "Traceback" not in worker.output() + service.output()
