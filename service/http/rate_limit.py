"""Rate limits by client. They are counted in Redis, so that all processes share the count.

When Redis is away, or refuses to write, each process counts on its own; the number of concurrent computations
is capped in any case. The cache knows whether Redis is away, so no request waits for it twice.
"""

import time
from enum import StrEnum
from hashlib import blake2b

from limits import RateLimitItem, WindowStats, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import ResponseError
from starlette.types import Scope

from chat_stats.service.cache.store import Cache
from chat_stats.service.errors import TooManyRequests
from chat_stats.service.http.auth import READER, UNSCOPED, accepted_key
from chat_stats.service.settings import Settings


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

    def __init__(self, settings: Settings, cache: Cache) -> None:
        limits = {work: getattr(settings, f"rate_limit_{work}") for work in Work}
        self._api_keys = settings.api_keys
        self._limits: dict[Work, RateLimitItem] = {work: parse(text) for work, text in limits.items() if text}
        self._cache = cache
        storage = RedisStorage(
            "async+redis://",  # the connections are given
            implementation="redispy",
            key_prefix=f"{settings.cache_prefix}:rate",
            connection_pool=cache.redis.connection_pool,  # type: ignore[arg-type]
        )
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())

    def limits(self, work: Work) -> bool:
        return work in self._limits

    async def spend(self, work: Work, scope: Scope) -> None:
        """Count one piece of work for the client; `TooManyRequests` when the client is over its limit."""
        limit = self._limits.get(work)
        if limit is None:
            return
        client = self._client(scope)
        limiter = self._shared
        within = await self._cache.attempt(lambda: _hit_shared(self._shared, limit, work, client))
        if within is None:
            limiter = self._own
            within = await limiter.hit(limit, work, client)
        if not within:
            raise await self._refusal(limiter, limit, work, client)

    def _client(self, scope: Scope) -> str:
        """Return what identifies the client: its key where keys are needed, else its address."""
        key = scope.get(READER, UNSCOPED).identity or accepted_key(scope["headers"], self._api_keys)
        if key is not None:
            return blake2b(key, digest_size=12).hexdigest()
        return str(scope["client"][0]) if scope.get("client") else "unknown"

    async def _refusal(
        self, limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, work: Work, client: str
    ) -> TooManyRequests:
        stats: WindowStats | None
        if limiter is self._own:
            stats = await limiter.get_window_stats(limit, work, client)
        else:
            stats = await self._cache.attempt(lambda: limiter.get_window_stats(limit, work, client))
        reset_time = time.time() + limit.get_expiry() if stats is None else stats.reset_time
        return TooManyRequests(
            f"at most {limit} {_NAMES[work]} for one client",
            retry_after=max(1, round(reset_time - time.time())),
        )


async def _hit_shared(
    limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, work: Work, client: str
) -> bool | None:
    """Count in Redis; None when Redis refuses to write: it is full, or read-only."""
    try:
        return await limiter.hit(limit, work, client)
    except ResponseError:
        return None


_NAMES = {
    Work.REQUESTS: "requests",
    Work.MISSES: "answers that are not cached",
    Work.ROWS: "requests for single rows",
}
