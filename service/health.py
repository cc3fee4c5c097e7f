"""What is reachable and how old things are: one look for readiness, `/metrics` and `chat-stats status`.

Every part has a time limit, and a result is shared for some seconds: a caller neither hangs with what is
looked at nor loads it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from chat_stats.service.cache.entry import EntryHeader, Generation
from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.store import Cache
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database import queries
from chat_stats.service.database.errors import ERRORS
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.database.standbys import StandbyHealth
from chat_stats.service.errors import ChatStatsError, SchemaError
from chat_stats.service.queue import Queue
from chat_stats.service.rollup.connection import foreign_lock
from chat_stats.service.rollup.state import ROLLUP_TABLES, RollupState, fetch_in, state_in
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds for which the result of a look is shared: a plain one, and one with the details that metrics show.
LOOK_SECONDS = 1.0
DETAILED_SECONDS = 5.0
#: Seconds that one part of a detailed look may take, and that its callers wait for the whole of it.
PART_SECONDS = 1.5
WAIT_SECONDS = 2.5

NO_WORKER = "no worker has reported lately"


@dataclass(slots=True)
class CacheHealth:
    #: Why Redis cannot be used; None: it answers.
    trouble: str | None = None
    #: The last refresh of everything, and its age by the database's clock.
    last: Generation | None = None
    age_seconds: float | None = None
    #: Ages and headers of the entries that the worker keeps computed. Only in a detailed look, like all below
    #: that says so.
    entries: dict[Query, tuple[float, EntryHeader]] = field(default_factory=dict)


@dataclass(slots=True)
class QueueHealth:
    trouble: str | None = None
    worker_alive: bool = False
    #: Jobs that wait or run. Only in a detailed look.
    jobs: int | None = None


@dataclass(frozen=True, slots=True)
class RollupFigures:
    drift: int
    unfolded_deltas: int
    rollup_bytes: int
    #: Seconds since the last fold and audit; None: there was none.
    fold_age_seconds: float | None
    audit_age_seconds: float | None


@dataclass(slots=True)
class DatabaseHealth:
    #: Whether Postgres answers.
    reachable: bool = False
    #: Why the requests cannot be read, also where it answers.
    trouble: str | None = None
    #: None: it could not be looked at, for what `rollup_trouble` says.
    rollup: RollupState | None = None
    rollup_trouble: str | None = None
    #: Which role that is not ours holds a lock of the rollup's upkeep.
    foreign_lock: str | None = None
    #: Only in a detailed look, and only where there is a rollup that our role may read.
    figures: RollupFigures | None = None


@dataclass(frozen=True, slots=True)
class Health:
    cache: CacheHealth
    queue: QueueHealth
    database: DatabaseHealth
    #: Whether the last refresh is older than `Settings.late_seconds`, or there is none.
    late: bool
    standbys: list[StandbyHealth] = field(default_factory=list)


class HealthChecks:
    """Looks at Redis, the queue, the worker and Postgres."""

    def __init__(self, settings: Settings, database: Database, cache: Cache, queue: Queue) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
        self._publication = Publication(cache)
        self._queue = queue
        self._looks = SingleFlight[Health](shared_seconds=LOOK_SECONDS)
        self._detailed = SingleFlight[Health](shared_seconds=DETAILED_SECONDS)

    async def look(self) -> Health:
        """Look at everything, within the time-outs of the settings."""
        return await self._looks.run(None, lambda: self._look(detailed=False))

    async def look_in_detail(self) -> Health:
        """Look at what metrics show, too, within `WAIT_SECONDS`."""
        look = self._detailed.start(None, lambda: self._look(detailed=True)).task
        await asyncio.wait({look}, timeout=WAIT_SECONDS)
        if look.done():
            return look.result()
        late = "it does not answer"
        return Health(CacheHealth(late), QueueHealth(late), DatabaseHealth(trouble=late), late=True)

    async def close(self) -> None:
        await self._looks.close()
        await self._detailed.close()

    async def _look(self, *, detailed: bool) -> Health:
        cache, queue, database = CacheHealth(), QueueHealth(), DatabaseHealth()
        redis_seconds = PART_SECONDS if detailed else self._settings.redis_timeout_seconds
        # Without a limit of its own: each wait of a transaction has the time-out of the settings.
        database_seconds = PART_SECONDS if detailed else None
        standbys, *_ = await asyncio.gather(
            self._database.standbys.look(seconds=database_seconds),
            _within(redis_seconds, cache, "Redis", self._look_at_cache(cache, detailed)),
            _within(redis_seconds, queue, "the queue's Redis", self._look_at_queue(queue, detailed)),
            _within(database_seconds, database, "the database", self._look_at_database(database, detailed)),
        )
        late = cache.age_seconds is None or cache.age_seconds > self._settings.late_seconds
        return Health(cache, queue, database, late, standbys)

    async def _look_at_cache(self, found: CacheHealth, detailed: bool) -> None:
        found.last = await self._publication.last_generation()
        now = self._database.clock.now()
        if found.last is not None:
            found.age_seconds = found.last.age_seconds(now)
        if detailed:
            headers = await self._cache.entry_headers(query.key() for query in self._kept())
            for query in self._kept():
                if (header := headers.get(query.key())) is not None:
                    found.entries[query] = max(0.0, (now - header.computed_at).total_seconds()), header

    def _kept(self) -> Iterable[Query]:
        """Yield the queries that the worker keeps computed, without those of one provider or model."""
        for aggregation in AGGREGATIONS.values():
            if aggregation.narrowed_by != "model_id":
                for window in self._settings.windows:
                    yield Query(aggregation.name, TimeRange(window))

    async def _look_at_queue(self, found: QueueHealth, detailed: bool) -> None:
        found.worker_alive = await self._queue.worker_alive()
        if detailed:
            found.jobs = await self._queue.jobs()

    async def _look_at_database(self, found: DatabaseHealth, detailed: bool) -> None:
        seconds = PART_SECONDS if detailed else self._settings.connect_timeout_seconds
        async with self._database.transaction(reads=False) as snapshot:
            found.reachable = True
            try:
                await self._database.check_tables(snapshot)
            except SchemaError as error:
                found.trouble = str(error)
            try:
                found.rollup = await state_in(snapshot, timeout=seconds)
                found.foreign_lock = await foreign_lock(fetch_in(snapshot, timeout=seconds))
                if detailed:
                    found.figures = await _figures(snapshot, found.rollup)
            except ChatStatsError as error:
                found.rollup_trouble = str(error)
            except ERRORS as error:
                logger.warning("the state of the rollup cannot be read: %s: %s", type(error).__name__, error)
                found.rollup_trouble = "its state cannot be read; the log has the error"


async def _figures(snapshot: Snapshot, rollup: RollupState) -> RollupFigures | None:
    if rollup.state == "off" or rollup.trouble in ("tables", "forbidden"):
        return None
    fetch = fetch_in(snapshot, timeout=PART_SECONDS)
    [found] = await fetch(queries.load("rollup_vitals_citus" if snapshot.in_citus else "rollup_vitals"))
    [sizes] = await fetch(queries.load("rollup_sizes"), list(ROLLUP_TABLES))

    def since(moment: datetime | None) -> float | None:
        return None if moment is None else max(0.0, (snapshot.now - moment).total_seconds())

    return RollupFigures(
        drift=found["drift"],
        unfolded_deltas=found["unfolded_deltas"],
        rollup_bytes=sizes["rollup_bytes"],
        fold_age_seconds=since(found["folded_at"]),
        audit_age_seconds=since(found["audited_at"]),
    )


async def _within(
    seconds: float | None,
    found: CacheHealth | QueueHealth | DatabaseHealth,
    name: str,
    looking: Awaitable[None],
) -> None:
    """Look at one part; note its trouble beside what was found before."""
    try:
        async with asyncio.timeout(seconds):
            await looking
    except ChatStatsError as error:
        found.trouble = str(error)
    except TimeoutError:
        found.trouble = f"{name} does not answer"
