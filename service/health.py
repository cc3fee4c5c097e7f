"""What is reachable and how old things are, looked up when `/metrics` is scraped.

Every look has a time limit, and its result is shared for some seconds: a scrape neither hangs with what it
watches nor loads it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable

import asyncpg

from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.store import Cache
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database import queries
from chat_stats.service.database.errors import OUTAGES
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import ChatStatsError
from chat_stats.service.observability import metrics
from chat_stats.service.observability.metrics import Labels, Metric
from chat_stats.service.queue import Queue
from chat_stats.service.rollup.state import ROLLUP_TABLES, STATES, TROUBLES, fetch_in, state_in
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds for which the result of a look is shared.
SHARED_SECONDS = 5.0
#: Seconds that one part of a look may take, and that a scrape waits for the whole of it.
PART_SECONDS = 1.5
WAIT_SECONDS = 2.5

Seen = dict[str, dict[Labels, float]]


class Vitals:
    """Looks at Redis, Postgres, the queue and the worker."""

    def __init__(self, settings: Settings, database: Database, cache: Cache, queue: Queue) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
        self._publication = Publication(cache)
        self._queue = queue
        self._looks = SingleFlight[Seen](shared_seconds=SHARED_SECONDS)

    async def look(self) -> Seen:
        """Return gauges by metric and labels, at most a few seconds old; unknown ones are left out."""
        look = self._looks.start(None, self._look).task
        await asyncio.wait({look}, timeout=WAIT_SECONDS)
        return look.result() if look.done() else self._nothing()

    async def close(self) -> None:
        await self._looks.close()

    async def _look(self) -> Seen:
        seen = self._nothing()
        await asyncio.gather(
            _part("Redis", self._look_at_cache(seen)),
            _part("the queue", self._look_at_queue(seen)),
            _part("Postgres", self._look_at_database(seen)),
        )
        return seen

    def _nothing(self) -> Seen:
        """Return the gauges for when nothing answers."""
        seen: Seen = {}
        for metric in (metrics.REDIS_UP, metrics.POSTGRES_UP, metrics.QUEUE_UP, metrics.WORKER_UP):
            _put(seen, metric, 0)
        _put(seen, metrics.REFRESH_INTERVAL, self._settings.refresh_interval_seconds)
        _put(seen, metrics.FRESH, self._settings.fresh_seconds)
        return seen

    async def _look_at_cache(self, seen: Seen) -> None:
        last = await self._publication.last_generation()
        _put(seen, metrics.REDIS_UP, 1)
        now = self._database.clock.now()
        if last is not None:
            _put(seen, metrics.GENERATION_AGE, last.age_seconds(now))
            _put(seen, metrics.GENERATION_DURATION, last.duration_ms / 1000)
            _put(seen, metrics.GENERATION_ENTRIES, last.entries)
            _put(seen, metrics.GENERATION_FAILURES, last.failed)
        headers = await self._cache.entry_headers(query.key() for query in self._kept())
        for query in self._kept():
            if (header := headers.get(query.key())) is not None:
                labels = (query.aggregation, str(query.range.window))
                _put(seen, metrics.ENTRY_AGE, max(0.0, (now - header.computed_at).total_seconds()), *labels)
                _put(seen, metrics.ENTRY_METHOD, 1, *labels, header.method)

    def _kept(self) -> Iterable[Query]:
        """Yield the queries that the worker keeps computed, without those of one provider or model."""
        for aggregation in AGGREGATIONS.values():
            if aggregation.narrowed_by != "model_id":
                for window in self._settings.windows:
                    yield Query(aggregation.name, TimeRange(window))

    async def _look_at_queue(self, seen: Seen) -> None:
        alive = await self._queue.worker_alive()
        _put(seen, metrics.QUEUE_UP, 1)
        _put(seen, metrics.WORKER_UP, alive)
        _put(seen, metrics.QUEUE_JOBS, await self._queue.jobs())

    async def _look_at_database(self, seen: Seen) -> None:
        async with self._database.transaction(reads=False) as snapshot:
            _put(seen, metrics.POSTGRES_UP, 1)
            state = await state_in(snapshot, timeout=PART_SECONDS)
            for name in STATES:
                _put(seen, metrics.ROLLUP_STATE, name == state.state, name)
            for reason in TROUBLES:
                _put(seen, metrics.ROLLUP_TROUBLE, reason == state.trouble, reason)
            if state.state == "off" or state.trouble in ("tables", "forbidden"):
                return
            fetch = fetch_in(snapshot, timeout=PART_SECONDS)
            [found] = await fetch(queries.load("rollup_vitals"))
            [sizes] = await fetch(queries.load("rollup_sizes"), list(ROLLUP_TABLES))
        _put(seen, metrics.ROLLUP_DRIFT, found["drift"])
        _put(seen, metrics.ROLLUP_DELTAS, found["unfolded_deltas"])
        _put(seen, metrics.ROLLUP_BYTES, sizes["rollup_bytes"])
        for metric, moment in (
            (metrics.ROLLUP_FOLD_AGE, found["folded_at"]),
            (metrics.ROLLUP_AUDIT_AGE, found["audited_at"]),
        ):
            if moment is not None:
                _put(seen, metric, max(0.0, (snapshot.now - moment).total_seconds()))


def _put(seen: Seen, metric: Metric, value: float, *labels: str) -> None:
    seen.setdefault(metric.name, {})[labels] = float(value)


async def _part(name: str, looking: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(PART_SECONDS):
            await looking
    except (ChatStatsError, TimeoutError, asyncpg.PostgresError, *OUTAGES) as error:
        # Its metric says so; outages are logged where answers are read.
        logger.debug("could not look at %s: %s: %s", name, type(error).__name__, error)
