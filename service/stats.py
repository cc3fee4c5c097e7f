"""The flow. A request: cache, else compute once and store. A refresh: compute all, publish together.

read     local copy -> Redis -> (absent) one computation, for which everybody who asks waits
                             -> (too old) served as stale, one computation in the background
refresh  one database snapshot -> every aggregation x window -> one generation in Redis
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from service.aggregations import AGGREGATIONS, MODEL, MODELS, Data, Query, narrowed
from service.cache import Cache, Entry
from service.compute import Computed, catalogue, compute, provider_ids
from service.database import Database, Snapshot
from service.errors import ChatStatsError, ComputationTimedOut, NotFound, RefreshRunning, Unavailable
from service.local_cache import LocalCache
from service.settings import Settings
from service.timerange import TimeRange

logger = logging.getLogger(__name__)


class CacheState(StrEnum):
    """Where an answer came from, as `metadata.cache` states it."""

    HIT = "hit"
    MISS = "miss"
    #: Older than it should be, served anyway.
    STALE = "stale"
    #: Computed live without a cache, because Redis does not answer.
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Answer:
    entry: Entry
    state: CacheState


@dataclass(frozen=True, slots=True)
class Refreshed:
    """One aggregation over one window, as a refresh computed it; `error` says why it could not."""

    aggregation: str
    window: str
    method: str | None
    rows: int
    compute_ms: float
    error: str | None = None


@dataclass(slots=True)
class RefreshReport:
    """What one refresh did. Without `published` a later refresh had been published already."""

    generation: str
    computed_at: datetime
    results: list[Refreshed] = field(default_factory=list)
    entries: int = 0
    duration_ms: float = 0.0
    published: bool = False

    @property
    def failed(self) -> list[Refreshed]:
        return [result for result in self.results if result.error is not None]


class Stats:
    """Reads and refreshes. One per process."""

    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
        self._local = LocalCache(settings.local_cache_seconds)
        self._computing: dict[str, asyncio.Task[Entry]] = {}

    async def read(self, query: Query) -> Answer:
        """Answer `query` from the cache, or compute it.

        Raises `NotFound` for an unknown model, `SchemaError`, or `Unavailable` when nothing is known and
        nothing can be computed.
        """
        key = query.key()
        entry = self._local.recent(key)
        if entry is None:
            entry = await self._cache.get(key)
            if entry is not None:
                self._local.put(key, entry)
            elif not self._cache.reachable:
                entry = self._local.last_good(key)
        if entry is not None:
            age = entry.age_seconds(datetime.now(UTC))
            if age <= self._settings.fresh_seconds:
                return Answer(entry, CacheState.HIT)
            if age <= self._settings.fresh_seconds + self._settings.stale_seconds:
                self._compute_in_background(query)
                return Answer(entry, CacheState.STALE)
        try:
            entry = await asyncio.shield(self._compute_once(query))
        except Unavailable:
            entry = self._local.last_good(key)
            if entry is None:
                raise
            return Answer(entry, CacheState.STALE)
        return Answer(entry, CacheState.MISS if self._cache.reachable else CacheState.BYPASS)

    async def refresh(self, names: Iterable[str] = (), windows: Iterable[str] = ()) -> RefreshReport:
        """Compute the named aggregations (all if none) over the windows (the configured ones if none).

        All come from one snapshot and are published together as one generation. One that cannot be computed
        in time is reported, and its older entry stays. Raises `RefreshRunning` when another refresh of this
        cache is under way, and `Unavailable` when the database or Redis is not there.
        """
        names, windows = tuple(names), tuple(windows)
        everything = not names and not windows
        names = names or tuple(AGGREGATIONS)
        windows = windows or self._settings.windows
        started = time.perf_counter()
        async with self._database.snapshot(wait_seconds=self._settings.query_timeout_seconds) as snapshot:
            # The lock ends with the transaction, so also with a worker that was killed.
            if not await snapshot.try_lock(self._cache.generation_key):
                raise RefreshRunning("another refresh is under way")
            sequence = await self._cache.next_sequence()
            report = RefreshReport(new_generation(), datetime.now(UTC))
            entries: dict[str, Entry] = {}
            for window in windows:
                entries |= await self._refresh_window(snapshot, names, TimeRange(window), report)
            report.entries = len(entries)
            report.duration_ms = (time.perf_counter() - started) * 1000
            report.published = await self._cache.publish(
                entries, sequence=sequence, summary=_summary(report) if everything else None
            )
        return report

    async def close(self) -> None:
        """End the computations that are under way."""
        tasks = list(self._computing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _compute_in_background(self, query: Query) -> None:
        self._compute_once(query)

    def _compute_once(self, query: Query) -> asyncio.Task[Entry]:
        """Start the computation of `query`, or join the one that is under way in this process."""
        key = query.key()
        task = self._computing.get(key)
        if task is None:
            task = asyncio.create_task(self._compute_and_store(query))
            self._computing[key] = task
            task.add_done_callback(lambda done: self._computed(key, done))
        return task

    def _computed(self, key: str, task: asyncio.Task[Entry]) -> None:
        self._computing.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, NotFound):
            # Whoever waits gets the error itself; for a background computation this is the only trace.
            level = logging.WARNING if isinstance(error, ChatStatsError) else logging.ERROR
            logger.log(level, "could not compute %s: %s: %s", key, type(error).__name__, error)

    async def _compute_and_store(self, query: Query) -> Entry:
        timeout = self._settings.query_timeout_seconds
        async with self._database.snapshot(wait_seconds=timeout) as snapshot:
            computed_at = datetime.now(UTC)
            computed = await compute(snapshot, query, timeout=timeout)
        entry = _entry(computed, computed.data, computed.totals, new_generation(), computed_at)
        self._local.put(query.key(), entry)
        await self._cache.store(query.key(), entry)
        return entry

    async def _refresh_window(
        self, snapshot: Snapshot, names: tuple[str, ...], range_: TimeRange, report: RefreshReport
    ) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        timeout = self._settings.refresh_timeout_seconds
        # One model's row is taken from the full rows, as are those of one provider.
        wanted = [MODELS.name if name == MODEL.name else name for name in names]
        for name in dict.fromkeys(wanted):
            query = Query(name, range_)
            try:
                computed = await compute(snapshot, query, timeout=timeout)
            except ComputationTimedOut as error:
                report.results.append(Refreshed(name, str(range_.window), None, 0, 0.0, str(error)))
                continue
            derived = {query: computed.data}
            if name == MODELS.name:
                known = await catalogue(snapshot, timeout=timeout)
                derived |= narrowed(
                    range_, _rows(computed.data), known, await provider_ids(snapshot, timeout=timeout)
                )
            for derived_query, data in derived.items():
                totals = AGGREGATIONS[derived_query.aggregation].totals(data)
                entries[derived_query.key()] = _entry(
                    computed, data, totals, report.generation, report.computed_at
                )
            report.results.append(
                Refreshed(
                    name, str(range_.window), computed.method, len(_rows(computed.data)), computed.compute_ms
                )
            )
        return entries


def new_generation() -> str:
    """Return a name for what one snapshot gives; names sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(3)}"


def _rows(data: Data) -> list[dict[str, object]]:
    return data if isinstance(data, list) else [data]


def _entry(
    computed: Computed, data: Data, totals: dict[str, int], generation: str, computed_at: datetime
) -> Entry:
    return Entry(
        body=orjson.dumps(data),
        totals=totals,
        method=computed.method,
        computed_at=computed_at,
        compute_ms=round(computed.compute_ms, 3),
        generation=generation,
        unavailable=computed.unavailable,
    )


def _summary(report: RefreshReport) -> dict[str, object]:
    return {
        "generation": report.generation,
        "computed_at": report.computed_at.isoformat(),
        "duration_ms": round(report.duration_ms, 1),
        "entries": report.entries,
        "failed": len(report.failed),
    }
