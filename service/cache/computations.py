"""The computations of this process: one per key at a time, and by a lease one over all processes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.freshness import CacheState, Freshness
from chat_stats.service.cache.lease import LEASE_SECONDS, Leases
from chat_stats.service.cache.local_cache import CAPACITY, LocalCache
from chat_stats.service.cache.store import Cache, Stored
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.errors import ChatStatsError, DatabaseUnavailable, InvalidParameter, NotFound
from chat_stats.service.observability import metrics

logger = logging.getLogger(__name__)

#: An answer that is older than its computation by more seconds comes from a standby that is behind.
BEHIND_SECONDS = 1.0

#: Called before an answer is computed for a client that waits for it; raises when the client may not have it.
Admit = Callable[[], Awaitable[None]]


class Computations:
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
        self._flights = SingleFlight[Stored]()
        self._retries = Retries()

    def under_way(self, key: str) -> bool:
        return key in self._flights

    def start_in_background(self, query: Query, older: Entry) -> None:
        """Recompute the `older` entry, unless that has just failed."""
        if self._retries.may_try(query.key()):
            self.start(query, older)

    def start(self, query: Query, older: Entry | None, admit: Admit | None = None) -> asyncio.Task[Stored]:
        """Start the computation of `query`, or join the one under way, here or in another process.

        An entry that another process stores meanwhile is taken when it is fresh, or newer than `older`.
        """
        return self._flights.start(query.key(), lambda: self._run(query, older, admit)).task

    async def close(self) -> None:
        """Cancel the computations under way."""
        await self._flights.close()

    async def _run(self, query: Query, older: Entry | None, admit: Admit | None) -> Stored:
        if admit is not None:
            await admit()
        key = query.key()
        began_at = time.monotonic()
        try:
            stored = await self._compute_once(query, older)
        except Exception as error:
            self._record_failure(key, error)
            raise
        if self._is_from_behind(stored.entry, time.monotonic() - began_at):
            self._retries.failed(key)
        else:
            self._retries.succeeded(key)
        return stored

    def _is_from_behind(self, entry: Entry, seconds: float) -> bool:
        """Return whether an answer that took `seconds` to compute is stale, as from a standby far behind.

        Recomputed at once, it would hardly be newer.
        """
        lag_seconds = self._clock.seconds_since(entry.computed_at) - seconds
        return lag_seconds > BEHIND_SECONDS and self._freshness.state(entry) is not CacheState.HIT

    async def _compute_once(self, query: Query, older: Entry | None) -> Stored:
        """Compute under the lease of `query`, or take what the process that holds it stores."""

        def suffices(entry: Entry) -> bool:
            state = self._freshness.state(entry)
            # A computation may take longer than its answer stays fresh: then a newer, stale one will do.
            newer = older is None or self._clock.is_newer(entry.computed_at, older.computed_at)
            return state is CacheState.HIT or (state is CacheState.STALE and newer)

        key = query.key()
        stored = await self._leases.run_once(
            key, lambda: self._compute(query), suffices=suffices, wait_seconds=self._wait_seconds
        )
        if stored.entry is not self._local.last_good(key):
            # From another process, at an unknown time: it answers no later request without Redis.
            self._local.put(key, stored.entry, taken_at=0.0)
        return stored

    def _record_failure(self, key: str, error: Exception) -> None:
        metrics.computation_failed(key.partition("@")[0], error)
        if self._local.last_good(key) is not None:  # without a local copy there is no background refresh
            self._retries.failed(key)
        # Callers that wait get the error; of a background computation the log is the only trace. An outage of
        # the database has a log line of its own.
        if not isinstance(error, ChatStatsError):
            logger.error("could not compute %s", key, exc_info=error)
        elif not isinstance(error, NotFound | InvalidParameter | DatabaseUnavailable):
            logger.warning("could not compute %s: %s: %s", key, type(error).__name__, error)


class Retries:
    """Holds back the background computation of a key that has just failed, or did not give what is fresh.

    From 1 s up to 30 s.
    """

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
