"""Looks up answers in Redis: one look-up at a time per key, and a short wait where there is a local copy."""

import asyncio
import time

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.freshness import CacheState, Freshness
from chat_stats.service.cache.local_cache import LocalCache
from chat_stats.service.cache.store import Cache
from chat_stats.service.cache.watched import Watched
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.concurrency.single_flight import SingleFlight

#: Seconds to wait for Redis where a local copy can be served instead.
REDIS_PATIENCE_SECONDS = 0.1
#: Bytes of a body from which on only the head of an entry is read first: mostly, Redis has the same one.
LARGE_BYTES = 64 * 1024


class LookUps:
    """The look-ups under way. One per process; what they find becomes a local copy."""

    def __init__(self, cache: Cache, local: LocalCache, freshness: Freshness, watched: Watched) -> None:
        self._cache = cache
        self._local = local
        self._freshness = freshness
        self._watched = watched
        #: The result of a look-up: whether Redis answers and lost the entry.
        self._flights = SingleFlight[bool]()

    async def find(self, query: Query) -> Entry | None:
        """Look `query` up in Redis; return the local copy that there is then.

        With a local copy, wait at most `REDIS_PATIENCE_SECONDS`: a hanging Redis delays no known answer. None
        when there is no copy either, and when Redis answers but lost the entry, so that it is recomputed.
        """
        key = query.key()
        copy = self._local.last_good(key)
        if copy is not None and self._cache.paused:
            return copy
        flight = self._flights.start(key, lambda: self._look_up(query))
        if copy is None or self._freshness.state(copy) is None:
            await asyncio.shield(flight.task)
        elif self._cache.reachable:
            patience = flight.began_at + REDIS_PATIENCE_SECONDS - time.monotonic()
            await asyncio.wait({flight.task}, timeout=max(0, patience))
        done = flight.task.done() and not flight.task.cancelled()
        return None if done and flight.task.result() else self._local.last_good(key)

    async def close(self) -> None:
        await self._flights.close()

    async def _look_up(self, query: Query) -> bool:
        """Copy what Redis has; return whether Redis answers and lost the entry.

        It is lost when Redis has nothing, or nothing that can be decoded; or, after a failover or restored
        from an old dump, a stale entry that is older than the local copy.
        """
        if query.range.window is not None:
            self._watched.note(query.range.window)
        key = query.key()
        began_at = time.monotonic()
        entry = await self._get(query)
        if entry is None and not self._cache.reachable:
            return False
        copy = self._local.last_good(key)
        if entry is not None and not self._is_outdated(entry, copy):
            self._local.put(key, entry, taken_at=began_at)
            return False
        if copy is None or self._cache.can_store(key, copy, self._freshness.lifetime(query)):
            return True
        self._local.put(key, copy, taken_at=began_at)  # the only one, and Redis would not store it
        return False

    async def _get(self, query: Query) -> Entry | None:
        key, on_demand = query.key(), self._freshness.lifetime(query) is not None
        generation = None
        copy = self._local.last_good(key)
        if copy is not None and len(copy.body) >= LARGE_BYTES and await self._cache.holds(key, copy):
            entry: Entry | None = copy
            generation = await self._cache.last_generation() if on_demand else None
        elif on_demand:
            # A refresh ends answers on demand without replacing them.
            entry, generation = await self._cache.get_with_generation(key)
        else:
            entry = await self._cache.get(key)
        if generation is not None:
            self._freshness.refreshed(generation)
        return entry

    def _is_outdated(self, entry: Entry, copy: Entry | None) -> bool:
        """Return whether the entry in Redis is to be recomputed because the local copy is newer.

        A fresh entry is not: a refresh replaces what was computed live since the refresh began.
        """
        return (
            copy is not None
            and self._cache.clock.is_newer(copy.computed_at, entry.computed_at)
            and self._freshness.state(entry) is not CacheState.HIT
        )
