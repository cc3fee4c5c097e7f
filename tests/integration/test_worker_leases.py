"""A worker's jobs after their leases expired, because it was frozen for longer than a lease."""

import asyncio

import pytest
from arq.constants import in_progress_key_prefix
from arq.worker import func

from chat_stats.service.queue import queue_name
from chat_stats.service.settings import Settings
from chat_stats.worker.main import LeasedWorker, worker_settings

# arq closes its connections by a name that redis has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_a_running_job_is_not_started_again(settings: Settings) -> None:
    begun = 0
    running, done = asyncio.Event(), asyncio.Event()

    async def work(ctx: object) -> None:
        nonlocal begun
        begun += 1
        running.set()
        await done.wait()

    chosen = worker_settings(settings)
    chosen.functions = [func(work, name="work")]  # type: ignore[attr-defined]
    worker = LeasedWorker(chosen)
    try:
        job = await worker.pool.enqueue_job("work", _queue_name=queue_name(settings))
        assert job is not None
        await worker.start_jobs([job.job_id.encode()])
        await running.wait()
        await worker.pool.delete(in_progress_key_prefix + job.job_id)
        await worker.start_jobs([job.job_id.encode()])
        done.set()
        await asyncio.gather(*worker.tasks.values())
    finally:
        await worker.close()
    assert (begun, worker.jobs_complete, worker.jobs_failed) == (1, 1, 0)
