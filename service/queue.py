"""Asks the worker for a refresh: the one place outside `worker.main` that knows its queue.

A request for what is already queued, and has not begun yet, gets the queued job.

    chat-stats:refresh:models:24h,all    id of the job that refreshes these, until it begins
    chat-stats:worker:purge              what came of the last purge by a worker (JSON)
    chat-stats:worker:windows            windows of the workers that share the queue (a sorted set)
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import orjson
from arq.connections import ArqRedis
from arq.jobs import Job, ResultNotFound, SerializationError

from chat_stats.service.cache.errors import TROUBLE, trouble_of
from chat_stats.service.connecting.redis_pools import redis_pool
from chat_stats.service.errors import ChatStatsError, QueueUnavailable
from chat_stats.service.settings import Settings

REFRESH_JOB = "refresh"

#: Seconds after which a refresh that no worker has begun is given up.
EXPIRY_SECONDS = 600

#: When a job is due. arq's default is the time at which it is enqueued: a worker whose clock is an hour
#: behind that of the service would begin it in an hour, after it has expired.
DUE_FOR_EVERY_CLOCK = datetime(2000, 1, 1, tzinfo=UTC)


def queue_name(settings: Settings) -> str:
    return f"{settings.cache_prefix}:queue"


def health_key(settings: Settings) -> str:
    """Return the key that lives as long as a worker does."""
    return f"{settings.cache_prefix}:worker:health"


def windows_key(settings: Settings) -> str:
    """Return the key of the windows that workers have in their settings, by when they last said so."""
    return f"{settings.cache_prefix}:worker:windows"


def purge_key(settings: Settings) -> str:
    """Return the key of what came of the worker's last purge (JSON)."""
    return f"{settings.cache_prefix}:worker:purge"


def waiting_key(settings: Settings, names: Iterable[str], windows: Iterable[str]) -> str:
    """Return the key that holds the id of the job that is to refresh these, until it begins."""
    return f"{settings.cache_prefix}:refresh:{_listed(names)}:{_listed(windows)}"


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(set(names)))


def serialize(job: dict[str, Any]) -> bytes:
    """Encode a job or its result as JSON; an exception becomes its text."""
    return orjson.dumps(job, default=str)


def deserialize(job: bytes) -> dict[str, Any]:
    return cast(dict[str, Any], orjson.loads(job))


def connect_queue(settings: Settings) -> ArqRedis:
    """Return arq's client, which connects when it is first used."""
    url = settings.queue_redis_url or settings.redis_url
    # Waiting for a result polls, and a worker lives by it: one slow reply must not end either.
    timeout = max(settings.redis_timeout_seconds, 2.0)
    return ArqRedis(
        redis_pool(url.get_secret_value(), max_connections=32, timeout_seconds=timeout),
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=queue_name(settings),
    )


class Queue:
    """The worker's queue, as its clients see it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = connect_queue(settings)

    async def enqueue_refresh(self, names: Iterable[str] = (), windows: Iterable[str] = ()) -> str:
        """Ask for a refresh of the named aggregations and windows (none: all); return the job's id."""
        names, windows = list(names), list(windows)
        key = waiting_key(self._settings, names, windows)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, uuid4().hex, nx=True, ex=EXPIRY_SECONDS)
                pipe.get(key)
                _, waiting = await pipe.execute()
            job_id: str = waiting.decode()
            # arq makes one job of an id. The process that chose the id may have died before that.
            await self._redis.enqueue_job(
                REFRESH_JOB,
                names,
                windows,
                _job_id=job_id,
                _expires=EXPIRY_SECONDS,
                _defer_until=DUE_FOR_EVERY_CLOCK,
            )
        except TROUBLE as error:
            raise QueueUnavailable(f"the queue's Redis {trouble_of(error)}") from error
        return job_id

    async def result(self, job_id: str, *, timeout: float) -> dict[str, Any]:
        """Wait for the job's report.

        Raises TimeoutError after `timeout` seconds, `QueueUnavailable`, and `ChatStatsError` when the job
        ended without a report.
        """
        job = Job(
            job_id,
            self._redis,
            _queue_name=queue_name(self._settings),
            _deserializer=deserialize,
        )
        try:
            return cast(dict[str, Any], await job.result(timeout=timeout, poll_delay=0.1))
        except TROUBLE as error:
            if isinstance(error, TimeoutError):
                raise
            raise QueueUnavailable(f"the queue's Redis {trouble_of(error)}") from error
        except (SerializationError, ResultNotFound) as error:
            raise ChatStatsError(f"the refresh failed in the worker: {error}") from error

    async def last_purge(self) -> dict[str, Any] | None:
        """Return what came of the worker's last purge: `at`, `requests`, `before`, `error`."""
        try:
            stored = await self._redis.get(purge_key(self._settings))
        except TROUBLE as error:
            raise QueueUnavailable(f"the queue's Redis {trouble_of(error)}") from error
        return None if stored is None else deserialize(stored)

    async def worker_alive(self) -> bool:
        """Return whether some worker has reported within the last seconds."""
        try:
            return bool(await self._redis.exists(health_key(self._settings)))
        except TROUBLE as error:
            raise QueueUnavailable(f"the queue's Redis {trouble_of(error)}") from error

    async def jobs(self) -> int:
        """Return how many jobs wait or run; `QueueUnavailable` when Redis cannot tell."""
        try:
            return int(await self._redis.zcard(queue_name(self._settings)))
        except TROUBLE as error:
            raise QueueUnavailable(f"the queue's Redis {trouble_of(error)}") from error

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)
