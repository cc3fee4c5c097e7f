"""Single flight: one computation of a key at a time, in this process and, by a lease, over all of them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from service.cache.entry import Entry
from service.cache.freshness import CacheState, Freshness
from service.cache.lease import LEASE_SECONDS, Leases
from service.cache.local_cache import CAPACITY, LocalCache
from service.cache.store import Cache, Stored
from service.catalogue.aggregations import Query
from service.errors import ChatStatsError, DatabaseUnavailable, InvalidParameter, NotFound, TooManyRequests
from service.observability import metrics

logger = logging.getLogger(__name__)

#: Asked before an answer is computed for somebody who waits for it; raises when it may not be.
Admit = Callable[[], Awaitable[None]]


class SingleFlight:
    """The computations under way. One per process."""

    def __init__(
        self,
        cache: Cache,
        local: LocalCache,
        freshness: Freshness,
        compute: Callable[[Query], Awaitable[Stored]],
        *,
        compute_seconds: float,
    ) -> None:
        """`compute` computes and stores; it takes at most about `compute_seconds`."""
        self._local = local
        self._freshness = freshness
        self._clock = cache.clock
        self._compute = compute
        # A lease that has to expire first.
        self._wait_seconds = compute_seconds + LEASE_SECONDS
        self._leases = Leases(cache)
        self._under_way: dict[str, asyncio.Task[Stored]] = {}
        self._retries = Retries()

    def under_way(self, key: str) -> bool:
        return key in self._under_way

    def in_background(self, query: Query, known: Entry) -> None:
        """Compute what is `known` anew, unless that failed a moment ago."""
        if self._retries.may_try(query.key()):
            self.once(query, known)

    def once(self, query: Query, known: Entry | None, admit: Admit | None = None) -> asyncio.Task[Stored]:
        """Start the computation of `query`, or join the one that is under way, here or elsewhere.

        An entry that another process stored is taken for it when it is fresh, or newer than the `known` one.
        """
        key = query.key()
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._over_all(query, known, admit))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return task

    async def close(self) -> None:
        """End the computations that are under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _over_all(self, query: Query, known: Entry | None, admit: Admit | None) -> Stored:
        if admit is not None:
            await admit()

        def suffices(entry: Entry) -> bool:
            state = self._freshness.state(entry)
            # Of what took longer to compute than it stays fresh, those who waited take one that is stale.
            newer = known is None or self._clock.is_newer(entry.computed_at, known.computed_at)
            return state is CacheState.HIT or (state is CacheState.STALE and newer)

        key = query.key()
        stored = await self._leases.once(
            key, lambda: self._compute(query), suffices=suffices, wait_seconds=self._wait_seconds
        )
        if stored.entry is not self._local.last_good(key):
            self._local.put(key, stored.entry, taken_at=0.0)  # somebody else's, and who knows when
        return stored

    def _done(self, key: str, task: asyncio.Task[Stored]) -> None:
        self._under_way.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, TooManyRequests):
            return
        if error is None:
            self._retries.succeeded(key)
            return
        metrics.computation_failed(key.partition("@")[0], error)
        if self._local.last_good(key) is not None:  # else nothing is computed behind anybody's back
            self._retries.failed(key)
        # Whoever waits gets the error itself; for a background computation this is the only trace. (That the
        # database is away has a log line of its own.)
        if not isinstance(error, ChatStatsError):
            logger.error("could not compute %s", key, exc_info=error)
        elif not isinstance(error, NotFound | InvalidParameter | DatabaseUnavailable):
            logger.warning("could not compute %s: %s: %s", key, type(error).__name__, error)


class Retries:
    """Holds back the background computation of what has just failed: from 1 s up to 30 s, by key."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def may_try(self, key: str) -> bool:
        return time.monotonic() >= self._failures.get(key, (0, 0.0))[1]

    def failed(self, key: str) -> None:
        count = self._failures.get(key, (0, 0.0))[0] + 1
        if len(self._failures) >= CAPACITY:
            self._failures.clear()
        self._failures[key] = (count, time.monotonic() + min(30.0, 2.0 ** (count - 1)))

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
