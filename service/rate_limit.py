"""How often one client may make the service work. Redis counts, so that all processes count together.

When Redis is away each process counts by itself; how much it computes at a time is capped anyway.
"""

import logging
import time
from enum import StrEnum
from hashlib import blake2b

from fastapi import Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from service.cache import connect
from service.errors import TooManyRequests
from service.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds after a failure of Redis during which it is not asked.
PAUSE_SECONDS = 1.0


class Work(StrEnum):
    """What is counted; the value is its setting's last part."""

    #: Any call of the API.
    REQUESTS = "requests"
    #: An answer that has to be computed.
    MISSES = "misses"
    #: A call of an endpoint that reads single requests.
    ROWS = "rows"


class RateLimiter:
    """Counts work by client. One per process."""

    def __init__(self, settings: Settings) -> None:
        limits = {work: getattr(settings, f"rate_limit_{work}") for work in Work}
        self._limits: dict[Work, RateLimitItem] = {work: parse(text) for work, text in limits.items() if text}
        url = settings.redis_url.get_secret_value()
        self._redis = connect(url, timeout_seconds=settings.redis_timeout_seconds)
        storage = RedisStorage(
            "async+redis://",  # the connections are given
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=f"{settings.cache_prefix}:rate",
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]
        )
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._paused_until = 0.0

    def limits(self, work: Work) -> bool:
        return work in self._limits

    async def spend(self, work: Work, client: str) -> None:
        """Count one piece of work for `client`; `TooManyRequests` when it has had its share."""
        limit = self._limits.get(work)
        if limit is None:
            return
        if time.monotonic() >= self._paused_until:
            try:
                await self._spend(self._shared, limit, work, client)
            except StorageError as error:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                logger.debug("Redis does not count, this process does (%s)", error)
            else:
                return
        await self._spend(self._own, limit, work, client)

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _spend(
        self, limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, work: Work, client: str
    ) -> None:
        if await limiter.hit(limit, work, client):
            return
        stats = await limiter.get_window_stats(limit, work, client)
        raise TooManyRequests(
            f"at most {limit} {_NAMES[work]} for one client",
            retry_after=max(1, round(stats.reset_time - time.time())),
        )


_NAMES = {
    Work.REQUESTS: "requests",
    Work.MISSES: "answers that are not cached",
    Work.ROWS: "requests for single rows",
}


async def count_request(request: Request) -> None:
    """Count a call of the API; a dependency of its routes."""
    limiter: RateLimiter = request.app.state.rate_limiter
    await limiter.spend(Work.REQUESTS, client_of(request))


async def count_rows(request: Request) -> None:
    """Count a call of an endpoint that reads single requests; a dependency of its route."""
    limiter: RateLimiter = request.app.state.rate_limiter
    await limiter.spend(Work.ROWS, client_of(request))


def client_of(request: Request) -> str:
    """Return who asks: the key it brings where keys are needed, else its address."""
    if request.app.state.settings.api_keys:
        key = request.headers.get("authorization") or request.headers.get("x-api-key") or ""
        return blake2b(key.encode("latin-1"), digest_size=12).hexdigest()
    return request.client.host if request.client else "unknown"
