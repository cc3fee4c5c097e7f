"""The flow. A request: cache, else compute once and store. A refresh: compute all, publish together.

read     local copy -> Redis -> (absent) one computation, for which everybody who asks waits; not for long
                                where a copy is known
                             -> (too old) served as stale, one computation in the background
         one over all processes (`service.cache.single_flight`), and no wait for a Redis that hangs
         where a copy is known (`service.cache.look_up`)
refresh  one database snapshot -> every aggregation x window -> one generation in Redis
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson

from service.cache.entry import Entry
from service.cache.freshness import CacheState, Freshness
from service.cache.local_cache import LocalCache
from service.cache.look_up import LookUps
from service.cache.publication import Publication
from service.cache.refresh_report import Refreshed, RefreshReport, new_generation
from service.cache.single_flight import Admit, SingleFlight
from service.cache.store import Cache, Stored
from service.catalogue.aggregations import AGGREGATIONS, MODEL, MODELS, Query, Totals, key_names, narrowed
from service.catalogue.rows import Data
from service.catalogue.timerange import TimeRange
from service.compute.ladder import Computed, compute
from service.compute.usage import catalogue, provider_ids
from service.database.pool import Database
from service.database.snapshot import Snapshot
from service.errors import (
    ComputationTimedOut,
    InvalidParameter,
    SchemaError,
    StillComputing,
    TooManyRequests,
    Unavailable,
)
from service.observability import tracing
from service.settings import Settings

#: Seconds of waiting for a computation after which it is looked whether the database still answers.
PROBE_SECONDS = 0.7

#: Seconds to wait for a computation where a copy is known of what Redis lost.
LOST_PATIENCE_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Answer:
    entry: Entry
    state: CacheState
    #: Of a miss: whether it was stored, so that the next one is a hit.
    stored: bool = True


class Stats:
    """Reads and refreshes. One per process."""

    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
        self._publication = Publication(cache)
        self._clock = clock = database.clock
        self._local = LocalCache(settings.local_cache_seconds, clock)
        self._freshness = Freshness(settings, clock)
        self._look_ups = LookUps(cache, self._local, self._freshness)
        self._flights = SingleFlight(
            cache,
            self._local,
            self._freshness,
            self._compute_and_store,
            compute_seconds=settings.computation_seconds,
        )

    async def read(self, query: Query, *, admit: Admit | None = None) -> Answer:
        """Answer `query` from the cache, or compute it, unless `admit` refuses that by raising.

        Raises `NotFound` for an unknown model, `InvalidParameter` for a time series of too many points or in
        a time zone that the database lacks, `SchemaError`, or `Unavailable` when nothing is known and
        nothing can be computed, or not as soon as anybody waits (`StillComputing`).
        """
        deadline = asyncio.get_running_loop().time() + self._settings.answer_seconds
        answer = await self.known(query)
        if answer is not None:
            return answer
        key = query.key()
        copy = self._local.last_good(key)
        joins = self._flights.under_way(key)
        computation = self._flights.once(query, copy, admit)
        try:
            if copy is not None and self._freshness.state(copy) is not None:
                await asyncio.wait({computation}, timeout=LOST_PATIENCE_SECONDS)
                if not computation.done():
                    return self._copy_again(key, copy)
            stored = await self._wait_for(computation, deadline)
        except TooManyRequests:
            if copy is not None:
                return self._copy_again(key, copy)
            if joins:  # it was refused to somebody else
                return await self.read(query, admit=admit)
            raise
        except (Unavailable, SchemaError) as error:
            entry = self._local.last_good(key)
            if entry is None or (copy is None and isinstance(error, SchemaError)):
                raise
            await self._give_back(query, entry)
            return self._copy_again(key, entry)
        state = CacheState.MISS if self._cache.reachable else CacheState.BYPASS
        return Answer(stored.entry, state, stored=stored.kept)

    def _copy_again(self, key: str, copy: Entry) -> Answer:
        """Answer with a copy of what cannot be had now; Redis is not asked again for a moment."""
        self._local.put(key, copy)
        return Answer(copy, CacheState.STALE)

    async def _give_back(self, query: Query, copy: Entry) -> None:
        """Store in Redis what it lost and nobody can compute now: the other processes may know nothing."""
        if self._cache.reachable and self._cache.accepting and self._freshness.state(copy) is not None:
            lifetime = self._freshness.lifetime(query, copy)
            await self._cache.store(query.key(), copy, lifetime_seconds=lifetime)

    def recent(self, key: str) -> Entry | None:
        """Return this process's own copy if it is a hit and so recent that Redis need not be asked."""
        entry = self._local.recent(key)
        return entry if entry is not None and self._freshness.state(entry) is CacheState.HIT else None

    async def known(self, query: Query) -> Answer | None:
        """Answer from this process's own copy or from Redis; None when neither has it, or Redis lost it."""
        key = query.key()
        entry = self._local.recent(key) or await self._look_ups.find(query)
        if entry is None or (state := self._freshness.state(entry)) is None:
            return None
        if state is CacheState.STALE:
            self._flights.in_background(query, entry)
        return Answer(entry, state)

    @tracing.traced("refresh")
    async def refresh(
        self,
        names: Iterable[str] = (),
        windows: Iterable[str] = (),
        *,
        unless_newer_than_seconds: float = 0,
    ) -> RefreshReport | None:
        """Compute the named aggregations over the windows.

        Without names those that are kept computed, without windows the configured ones. All come from one
        snapshot and are published together as one generation. One that cannot be computed is reported, and
        its older entry stays. Returns None when a refresh of everything took place within the last
        `unless_newer_than_seconds`. Raises `RefreshRunning` when another refresh of this cache is under way,
        and `Unavailable` when the database or Redis is not there.
        """
        names, windows = tuple(names), tuple(windows)
        everything = not names and not windows
        names = names or tuple(name for name, each in AGGREGATIONS.items() if each.kept_computed)
        windows = windows or self._settings.windows
        async with self._database.lock(self._cache.name) as lock:
            last = await self._publication.last_generation()
            # After one by another version, whose answers have other fields, those of this one are still due.
            if (
                last is not None
                and last.aggregations == key_names(names)
                and 0 <= self._clock.seconds_since(last.computed_at) < unless_newer_than_seconds
            ):
                return None
            started = time.perf_counter()
            # Only now that nobody else publishes: what is published later is then of a later snapshot.
            async with self._database.snapshot(wait_seconds=self._settings.query_timeout_seconds) as snapshot:
                snapshot.percentiles_of_all = {}
                report = RefreshReport(new_generation(snapshot.now), snapshot.now)
                entries: dict[str, Entry] = {}
                by_id: dict[str, list[str]] = {}
                for window in windows:
                    for name in _computed_names(names):
                        query = Query(name, TimeRange(window))
                        computed = await self._refresh_one(snapshot, query, report)
                        entries |= computed
                        if name == MODELS.name and computed:
                            by_id[query.key()] = [key for key in computed if key != query.key()]
                        await lock.keep()
            report.entries = len(entries)
            report.duration_ms = (time.perf_counter() - started) * 1000
            generation = report.summary(key_names(names)) if everything else None
            report.published = await self._publication.publish(entries, generation, by_id=by_id)
        return report

    def local_entries(self) -> int:
        """Return how many answers are in this process's own memory."""
        return len(self._local)

    async def close(self) -> None:
        """End what is under way."""
        await self._look_ups.close()
        await self._flights.close()

    async def _wait_for(self, computation: asyncio.Task[Stored], deadline: float) -> Stored:
        """Wait for a computation until the deadline, as long as the database answers: not for one that hangs.

        It goes on without those who wait, and its answer is there when they ask again.
        """
        try:
            async with asyncio.timeout_at(deadline):
                while not (await asyncio.wait({computation}, timeout=PROBE_SECONDS))[0]:
                    await self._database.probe()
        except TimeoutError:
            raise StillComputing("this takes a while to compute: ask again for the answer") from None
        return computation.result()

    @tracing.traced("compute")
    async def _compute_and_store(self, query: Query) -> Stored:
        timeout = self._settings.query_timeout_seconds
        async with self._database.snapshot(wait_seconds=timeout) as snapshot:
            computed = await compute(snapshot, query, timeout=timeout)
        generation = new_generation(snapshot.now)
        entry = _entry(computed, computed.data, computed.totals, generation, snapshot.now)
        began_at = time.monotonic()
        stored = await self._cache.store(
            query.key(), entry, lifetime_seconds=self._freshness.lifetime(query, entry)
        )
        self._local.put(query.key(), stored.entry, taken_at=began_at)
        return stored

    async def _refresh_one(self, snapshot: Snapshot, query: Query, report: RefreshReport) -> dict[str, Entry]:
        """Compute one aggregation over one window; return its entries, those of providers and models too."""
        timeout = self._settings.refresh_timeout_seconds
        window = str(query.range.window)
        try:
            computed = await compute(snapshot, query, timeout=timeout)
        except (ComputationTimedOut, SchemaError, InvalidParameter) as error:
            report.results.append(Refreshed(query.aggregation, window, None, 0, 0.0, str(error)))
            return {}
        rows = computed.data if isinstance(computed.data, list) else [computed.data]
        derived = {query: computed.data}
        if query.aggregation == MODELS.name:
            known = await catalogue(snapshot, timeout=timeout)
            derived |= narrowed(query.range, rows, known, await provider_ids(snapshot, timeout=timeout))
        report.results.append(
            Refreshed(query.aggregation, window, computed.method, len(rows), computed.compute_ms)
        )
        return {
            each.key(): _entry(
                computed,
                data,
                each.metadata(data),
                report.generation,
                report.computed_at,
            )
            for each, data in derived.items()
        }


def _computed_names(names: Iterable[str]) -> Iterable[str]:
    """Return what to compute: one model's row is taken from the rows of all."""
    return dict.fromkeys(MODELS.name if name == MODEL.name else name for name in names)


def _entry(computed: Computed, data: Data, totals: Totals, generation: str, computed_at: datetime) -> Entry:
    return Entry(
        body=orjson.dumps(data),
        totals=totals,
        method=computed.method,
        computed_at=computed_at,
        compute_ms=round(computed.compute_ms, 3),
        generation=generation,
        unavailable=computed.unavailable,
        precision=computed.precision,
    )
