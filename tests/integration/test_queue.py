"""The queue of refreshes, over a real Redis: requests for the same refresh before it begins share one job."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from chat_stats.service.queue import Queue, connect_queue
from chat_stats.service.settings import Settings
from chat_stats.worker.main import requested_refresh
from tests.integration.conftest import Flow


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Queue]:
    queue = Queue(settings)
    yield queue
    await queue.close()


@pytest.fixture
async def worker(settings: Settings, flow: Flow) -> AsyncIterator[dict[str, Any]]:
    """The context that arq passes to a worker's jobs."""
    redis = connect_queue(settings)
    yield {"settings": settings, "stats": flow.stats, "redis": redis, "refreshing": asyncio.Lock()}
    await redis.aclose(close_connection_pool=True)


async def test_identical_queued_refreshes_are_one_job(settings: Settings, queue: Queue) -> None:
    another = Queue(settings)
    asked = [each.enqueue_refresh(["models", "counts"], ["24h"]) for each in (queue, another) * 10]
    asked.append(queue.enqueue_refresh(["counts", "models", "counts"], ["24h"]))
    assert len(set(await asyncio.gather(*asked))) == 1
    assert await queue.jobs() == 1
    await another.close()


async def test_a_job_is_due_for_a_worker_whose_clock_is_behind(settings: Settings, queue: Queue) -> None:
    job_id = await queue.enqueue_refresh()
    redis = connect_queue(settings)
    an_hour_ago = (time.time() - 3600) * 1000
    due = await redis.zrangebyscore(f"{settings.cache_prefix}:queue", "-inf", an_hour_ago)
    assert due == [job_id.encode()]
    await redis.aclose(close_connection_pool=True)


async def test_other_refreshes_are_other_jobs(queue: Queue) -> None:
    asked = [([], []), (["models"], []), ([], ["24h"]), (["models"], ["24h"]), (["models"], ["24h", "all"])]
    assert len({await queue.enqueue_refresh(*each) for each in asked}) == len(asked)
    assert await queue.jobs() == len(asked)


async def test_a_request_after_a_refresh_began_gets_a_job_of_its_own(
    queue: Queue, worker: dict[str, Any], gateway: asyncpg.Connection
) -> None:
    first = await queue.enqueue_refresh(["counts"])
    async with worker["refreshing"]:  # the worker runs another refresh
        refreshing = asyncio.create_task(requested_refresh(worker, ["counts"], []))
        await asyncio.sleep(0.05)
        assert await queue.enqueue_refresh(["counts"]) == first
    report = await refreshing
    assert report["published"]
    assert await queue.enqueue_refresh(["counts"]) != first


async def test_a_job_that_was_announced_and_never_queued_is_queued_by_the_next_request(
    settings: Settings, queue: Queue
) -> None:
    """The process that announced it was killed before it queued the job."""
    job_id = await queue.enqueue_refresh()
    redis = connect_queue(settings)
    await redis.delete(f"{settings.cache_prefix}:queue", f"arq:job:{job_id}")
    assert await queue.enqueue_refresh() == job_id
    assert await queue.jobs() == 1
    await redis.aclose(close_connection_pool=True)
