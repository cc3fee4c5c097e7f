"""What a refresh publishes: all of its entries at once, and their generation.

chat-stats:v2:generation               what the last refresh of everything published (JSON)
chat-stats:v2:next:GENERATION:counts:24h  an entry to be published; it expires if that never happens
chat-stats:v2:published                the channel on which each generation is announced once it is published

Entries are stored one at a time, as soon as they are computed, beside those that readers see; publishing
renames them. So it takes Redis no longer than a few commands, whatever their size, and neither this process
nor Redis ever holds all of them in one command.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from redis.asyncio import Redis
from redis.exceptions import ResponseError, WatchError

from chat_stats.service.cache.entry import Entry, Generation, decode_generation, encode
from chat_stats.service.cache.errors import TROUBLE, is_foreign, trouble_of, unavailable
from chat_stats.service.cache.store import Cache
from chat_stats.service.errors import CacheUnavailable

logger = logging.getLogger(__name__)

#: Lifetime of an entry that is never published. A refresh whose next entry takes longer is not published.
STAGED = timedelta(minutes=20)


class Publication:
    """Publishing to the cache. Raises `CacheUnavailable` when Redis does not answer."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def channel(self) -> str:
        return channel_of(self._cache)

    @asynccontextmanager
    async def prepare(self, generation: str) -> AsyncIterator["Prepared"]:
        """Collect the entries of a generation; what was not published when the block ends is removed."""
        prepared = Prepared(self._cache, generation)
        try:
            yield prepared
        finally:
            await prepared.discard()

    async def last_generation(self) -> Generation | None:
        """Return what the last refresh of everything published."""
        try:
            return await _last(self._cache.redis, self._cache.generation_key)
        except TROUBLE as error:
            raise unavailable(error) from error


class Prepared:
    """The entries of one generation, which no reader sees before they are published."""

    def __init__(self, cache: Cache, generation: str) -> None:
        self._cache = cache
        self._generation = generation
        #: The key under which an entry waits, by its query's key.
        self._waiting: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def add(self, query_key: str, entry: Entry) -> None:
        """Store an entry where it waits for the others."""
        waiting = self._cache.key("next", self._generation, query_key)
        try:
            await self._cache.redis.set(waiting, encode(entry), px=STAGED)
        except TROUBLE as error:
            raise unavailable(error) from error
        self._waiting[query_key] = waiting

    async def publish(self, generation: Generation, *, of_everything: bool, keep_newer: bool = False) -> bool:
        """Make all entries appear together, as those of `generation`.

        One `of_everything` is remembered as the last. Returns False, and changes nothing, when a later
        refresh was published already (by another worker, while this one was delayed). An entry that was
        computed live in between is replaced, so that all answers are of one generation; with `keep_newer`,
        for what a standby gave and may be from long before, and for totals between two refreshes, a newer one
        stays.
        """
        waiting = list(self._waiting.values())
        try:
            async with self._cache.redis.pipeline() as pipe:
                await pipe.watch(self._cache.generation_key, *waiting)
                if generation.totals:  # no lock keeps another worker from publishing newer ones right now
                    await pipe.watch(*map(self._cache.entry_key, self._waiting))
                kept = set[str]()
                if keep_newer or generation.totals:
                    kept = await self._newer_than(generation.computed_at)
                last = await _last(pipe, self._cache.generation_key)
                if last is not None and self._cache.clock.is_newer(last.computed_at, generation.computed_at):
                    return False
                if waiting and await pipe.exists(*waiting) < len(waiting):
                    raise CacheUnavailable("Redis has lost entries that were to be published")
                pipe.multi()  # type: ignore[no-untyped-call]
                for query_key, key in self._waiting.items():
                    if query_key in kept:
                        pipe.unlink(key)
                        continue
                    entry_key = self._cache.entry_key(query_key)
                    pipe.unlink(entry_key)  # freed in the background, which RENAME would not do
                    pipe.rename(key, entry_key)
                    pipe.pexpire(entry_key, self._cache.lifetime)
                if of_everything:
                    pipe.set(self._cache.generation_key, generation.encode())
                await pipe.execute()
        except WatchError:
            return False
        except TROUBLE as error:
            raise unavailable(error) from error
        self._waiting.clear()
        self._cache.accepts()
        await self._announce(generation)
        return True

    async def _newer_than(self, moment: datetime) -> set[str]:
        """Return the keys of which newer entries are stored."""
        stored = await self._cache.entry_headers(self._waiting)
        is_newer = self._cache.clock.is_newer
        return {key for key, header in stored.items() if is_newer(header.computed_at, moment)}

    async def _announce(self, generation: Generation) -> None:
        """Tell all processes. Not in the transaction: a user of Redis without a right to the channel may
        publish all the same; processes then find the generation by looking (`announcements`)."""
        try:
            await self._cache.redis.publish(channel_of(self._cache), generation.encode())
        except TROUBLE as error:
            logger.debug("could not announce %s: Redis %s", generation.generation, trouble_of(error))

    async def discard(self) -> None:
        """Remove what was not published."""
        if self._waiting:
            with suppress(*TROUBLE):  # it expires
                await self._cache.redis.unlink(*self._waiting.values())


def channel_of(cache: Cache) -> str:
    return cache.key("published")


async def _last(redis: Redis, key: str) -> Generation | None:
    try:
        return decode_generation(await redis.get(key))
    except ResponseError as error:
        if is_foreign(error):
            return None
        raise
