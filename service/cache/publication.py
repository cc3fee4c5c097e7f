"""What a refresh publishes: all of its entries at once, and their generation.

chat-stats:v2:generation    what the last refresh of everything published (JSON)
"""

from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import ResponseError, WatchError

from chat_stats.service.cache.entry import Entry, Generation, decode_generation, encode
from chat_stats.service.cache.errors import TROUBLE, is_foreign, unavailable
from chat_stats.service.cache.store import Cache


class Publication:
    """Publishing to the cache. Raises `CacheUnavailable` when Redis does not answer."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def generation_key(self) -> str:
        return self._cache.key("generation")

    async def publish(self, entries: Mapping[str, Entry], generation: Generation | None) -> bool:
        """Make all entries of one refresh appear together; with `generation`, if it was of everything.

        Returns False, and changes nothing, when a later refresh was published already (by another worker,
        while this one was delayed). An entry that was computed live in between is replaced, so that all
        answers are of one generation.
        """
        clock = self._cache.clock
        computed_at = max((entry.computed_at for entry in entries.values()), default=clock.now())
        try:
            async with self._cache.redis.pipeline() as pipe:
                await pipe.watch(self.generation_key)
                last = await self._last(pipe)
                if last is not None and clock.is_newer(last.computed_at, computed_at):
                    return False
                pipe.multi()  # type: ignore[no-untyped-call]
                for query_key, entry in entries.items():
                    pipe.set(self._cache.entry_key(query_key), encode(entry), px=self._cache.lifetime)
                if generation is not None:
                    pipe.set(self.generation_key, generation.encode())
                await pipe.execute()
        except WatchError:
            return False
        except TROUBLE as error:
            raise unavailable(error) from error
        self._cache.accepts()
        return True

    async def last_generation(self) -> Generation | None:
        """Return what the last refresh of everything published."""
        try:
            return await self._last(self._cache.redis)
        except TROUBLE as error:
            raise unavailable(error) from error

    async def _last(self, redis: Redis) -> Generation | None:
        try:
            return decode_generation(await redis.get(self.generation_key))
        except ResponseError as error:
            if is_foreign(error):
                return None
            raise
