"""Which windows clients look at while they listen to events: for these, totals come between refreshes too.

chat-stats:v2:watched   a window, or "events" -> when it was last asked for, or listened to (sorted set)

Each process tells of what it was asked, at most every `TELL_SECONDS`, whatever the number of its clients.
They may listen to one process and ask another.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chat_stats.service.cache.errors import TROUBLE, unavailable
from chat_stats.service.cache.store import Cache

#: Seconds between two reports of one process.
TELL_SECONDS = 2.0
#: Seconds for which a window counts as watched: while events come, a page asks every 45 seconds.
WATCHED_SECONDS = 60.0
#: Seconds for which a process counts as one that has listeners.
LISTENING_SECONDS = 10.0

#: Stands for the listeners, among the windows.
_EVENTS = "events"


class Watched:
    """One per process."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._key = cache.key("watched")
        self._asked: dict[str, float] = {}

    def note(self, window: str) -> None:
        """Remember that an answer over this window was asked for."""
        self._asked[window] = self._now()

    async def keep_telling(self, listens: Callable[[], bool]) -> None:
        """Report to the worker what was noted, and whether a client `listens`, until cancelled."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            with suppress(*TROUBLE):  # the requests log that Redis is away
                await self._tell(listens())

    async def _tell(self, listens: bool) -> None:
        asked, self._asked = self._asked, {}  # what is noted from now on is told the next time
        told: dict[str, Any] = {**asked, **({_EVENTS: self._now()} if listens else {})}
        if not told:
            return
        try:
            await self._cache.redis.zadd(self._key, told)
            await self._cache.redis.zremrangebyscore(self._key, "-inf", self._now() - WATCHED_SECONDS)
        except TROUBLE:
            self._asked = {**asked, **self._asked}
            raise

    async def windows(self) -> frozenset[str]:
        """Return the watched windows; none while no client listens. Raises `CacheUnavailable`."""
        now = self._now()
        try:
            found = await self._cache.redis.zrangebyscore(
                self._key, now - WATCHED_SECONDS, "+inf", withscores=True
            )
        except TROUBLE as error:
            raise unavailable(error) from error
        told = {name.decode(): moment for name, moment in found}
        if told.pop(_EVENTS, 0.0) < now - LISTENING_SECONDS:
            return frozenset()
        return frozenset(told)

    def _now(self) -> float:
        return self._cache.clock.now().timestamp()
