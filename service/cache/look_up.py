"""Looks for an answer in Redis: once for all who ask at once, and not for long where a copy is known."""

import asyncio
import time
from dataclasses import dataclass

from service.cache.entry import Entry
from service.cache.freshness import CacheState, Freshness
from service.cache.local_cache import LocalCache
from service.cache.store import Cache
from service.catalogue.aggregations import Query

#: Seconds to wait for Redis where a copy is known that can be served instead.
REDIS_PATIENCE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LookUp:
    """A question to Redis that is not answered yet."""

    #: Its result says whether Redis is well and has no such answer.
    task: asyncio.Task[bool]
    #: In monotonic seconds.
    began_at: float


class LookUps:
    """Those under way. One per process; what they find is put among its copies."""

    def __init__(self, cache: Cache, local: LocalCache, freshness: Freshness) -> None:
        self._cache = cache
        self._local = local
        self._freshness = freshness
        self._under_way: dict[str, LookUp] = {}

    async def find(self, query: Query) -> Entry | None:
        """Ask Redis, once for all who ask at the same time; return what is known then.

        Who has a copy waits for a moment only: from a Redis that hangs, the others may learn it later. None
        when neither has it; and when Redis is well and lost it, since somebody wants it computed anew.
        """
        key = query.key()
        copy = self._local.last_good(key)
        if copy is not None and self._cache.paused:
            return copy
        look_up = self._under_way.get(key)
        if look_up is None:
            look_up = LookUp(asyncio.create_task(self._ask_redis(query)), time.monotonic())
            self._under_way[key] = look_up
            look_up.task.add_done_callback(lambda _: self._under_way.pop(key, None))
        if copy is None or self._freshness.state(copy) is None:
            await asyncio.shield(look_up.task)
        elif self._cache.reachable:
            patience = look_up.began_at + REDIS_PATIENCE_SECONDS - time.monotonic()
            await asyncio.wait({look_up.task}, timeout=max(0, patience))
        done = look_up.task.done() and not look_up.task.cancelled()
        return None if done and look_up.task.result() else self._local.last_good(key)

    async def close(self) -> None:
        tasks = [look_up.task for look_up in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_redis(self, query: Query) -> bool:
        """Take what Redis has; return whether it is well and lost the answer.

        It did when it has nothing, or nothing that can be read; or, restored from an old dump or after a
        failover, something stale that is older than our copy.
        """
        key = query.key()
        began_at = time.monotonic()
        entry = await self._cache.get(key)
        if entry is None and not self._cache.reachable:
            return False
        copy = self._local.last_good(key)
        if entry is not None and not self._is_outdated(entry, copy):
            self._local.put(key, entry, taken_at=began_at)
            return False
        if copy is None or self._cache.takes(key, copy, self._freshness.lifetime(query, copy)):
            return True
        self._local.put(key, copy, taken_at=began_at)  # it is nowhere else, and nobody need ask again soon
        return False

    def _is_outdated(self, entry: Entry, copy: Entry | None) -> bool:
        """Return whether Redis' entry is to be computed again because of the newer copy that we have.

        A fresh one is not: a refresh replaces what was computed live since it began.
        """
        return (
            copy is not None
            and self._cache.clock.is_newer(copy.computed_at, entry.computed_at)
            and self._freshness.state(entry) is not CacheState.HIT
        )
