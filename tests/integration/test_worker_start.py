"""The worker, when its queue fails during its start."""

import asyncio
from typing import Any

import arq.worker
import pytest
from redis.exceptions import TimeoutError as RedisTimeout

from chat_stats.service.queue import Queue
from chat_stats.service.settings import Settings
from chat_stats.worker.main import run

# arq closes its connections by a name that redis has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_it_continues_when_redis_answers_again_just_as_its_start_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_redis_info = arq.worker.log_redis_info  # type: ignore[attr-defined]
    starts = 0

    async def late_at_first(*arguments: Any) -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise RedisTimeout("Timeout reading from Redis")
        await log_redis_info(*arguments)

    monkeypatch.setattr(arq.worker, "log_redis_info", late_at_first)
    queue = Queue(settings)
    working = asyncio.create_task(run(settings))
    try:
        async with asyncio.timeout(10):
            while not await queue.worker_alive():
                assert not working.done(), working.result()
                await asyncio.sleep(0.05)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await queue.close()
    assert starts == 2
