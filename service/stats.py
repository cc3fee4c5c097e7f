"""The request path and the refresh path.

read     local copy -> Redis -> absent: one computation over all processes (`service.cache.computations`),
                                for which all requests wait; only briefly when there is a local copy
                             -> too old: served as stale, one computation in the background
         With a local copy, a hanging Redis delays no answer (`service.cache.look_up`).
         One model, some models, or the first of an order: the entry of all is read so, and the answer cut
         from its rows (`service.cache.cuts`).
refresh  one database snapshot -> every aggregation x window -> one generation in Redis
         Between refreshes, with the rollup on, those of the windows that clients watch (`publish_totals`).
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from chat_stats.service.cache.computations import Admit, Computations
from chat_stats.service.cache.cuts import Cuts
from chat_stats.service.cache.entry import Entry, Generation
from chat_stats.service.cache.freshness import CacheState, Freshness
from chat_stats.service.cache.local_cache import LocalCache
from chat_stats.service.cache.look_up import LookUps
from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.refresh_report import RefreshReport, new_generation
from chat_stats.service.cache.store import Cache, Stored
from chat_stats.service.cache.watched import Watched
from chat_stats.service.catalogue.aggregations import (
    AGGREGATIONS,
    MODEL,
    MODELS,
    Query,
    key_names,
)
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.compute.changes import Changes
from chat_stats.service.compute.ladder import compute
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import (
    SchemaError,
    StillComputing,
    TooManyRequests,
    Unavailable,
)
from chat_stats.service.generation import entry_of, next_generation
from chat_stats.service.observability import tracing
from chat_stats.service.settings import Settings

#: Seconds between two probes of the database while a request waits for a computation.
PROBE_SECONDS = 0.7

#: Seconds to wait for the computation of an entry that Redis lost and a local copy can stand for.
LOST_PATIENCE_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Answer:
    entry: Entry
    state: CacheState
    #: Whether the cache kept a computed answer, so that the next request is a hit.
    stored: bool = True


class Stats:
    """Reads and refreshes. One per process."""

    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
        self._publication = Publication(cache)
        self.watched = Watched(cache)
        self.changes = Changes()
        self._clock = clock = database.clock
        self._local = LocalCache(settings.local_cache_seconds, clock)
        self._cuts = Cuts(self._local)
        self._freshness = Freshness(settings, clock)
        self._look_ups = LookUps(cache, self._local, self._freshness, self.watched)
        self._computations = Computations(
            cache,
            self._local,
            self._freshness,
            self._compute_and_store,
            compute_seconds=settings.computation_seconds,
        )

    async def read(self, query: Query, *, admit: Admit | None = None) -> Answer:
        """Answer `query` from the cache, or compute it unless `admit` refuses that by raising.

        Raises `NotFound` for an unknown model, `InvalidParameter` for a time series of too many points or in
        a time zone that the database lacks, `SchemaError`, or `Unavailable` when no answer is cached and none
        can be computed, or not within the answer's timeout (`StillComputing`).
        """
        base = self._base(query)
        if base is not None:
            answer = self._cut(query, base, await self.read(base, admit=admit))
            if answer is not None:
                return answer
        return await self._read_entry(query, admit)

    async def _read_entry(self, query: Query, admit: Admit | None) -> Answer:
        """Read what has an entry of its own."""
        deadline = asyncio.get_running_loop().time() + self._settings.answer_seconds
        cached = await self._cached_entry(query)
        if cached is not None:
            return cached
        key = query.key()
        copy = self._local.last_good(key)  # Redis lost it, or it is too old
        joins = self._computations.under_way(key)
        computation = self._computations.start(query, copy, admit)
        try:
            if copy is not None and self._freshness.state(copy) is not None:
                await asyncio.wait({computation}, timeout=LOST_PATIENCE_SECONDS)
                if not computation.done():
                    return self._answer_from(copy, key)
            stored = await self._wait_for(computation, deadline)
        except TooManyRequests:
            if copy is not None:
                return self._answer_from(copy, key)
            if joins:  # the client that started it was refused, not this one
                return await self._read_entry(query, admit)
            raise
        except (Unavailable, SchemaError) as error:
            last_good = self._local.last_good(key)
            if last_good is None or (copy is None and isinstance(error, SchemaError)):
                raise
            await self._restore(query, last_good)
            return self._answer_from(last_good, key)
        state = CacheState.MISS if self._cache.reachable else CacheState.BYPASS
        return Answer(stored.entry, state, stored=stored.kept)

    def _base(self, query: Query) -> Query | None:
        return query.base(kept=self._freshness.keeps(query))

    def _cut(self, query: Query, base: Query, answer: Answer) -> Answer | None:
        """Return the answer to `query`, cut from the answer to its base; None if that cannot answer it."""
        entry = self._cuts.cut(query, base, answer.entry)
        return None if entry is None else replace(answer, entry=entry)

    async def _cached_entry(self, query: Query) -> Answer | None:
        """Answer from the local copy or from Redis; a stale entry is recomputed in the background.

        None when neither has an entry that may be served, or Redis lost it.
        """
        key = query.key()
        entry = self._local.recent(key) or await self._look_ups.find(query)
        if entry is None or (state := self._freshness.state(entry)) is None:
            return None
        if state is CacheState.STALE:
            self._computations.start_in_background(query, entry)
        return Answer(entry, state)

    def recent(self, key: str) -> Entry | None:
        """Return the local copy if it is a hit and so recent that Redis need not be asked."""
        entry = self._local.recent(key)
        return entry if entry is not None and self._freshness.state(entry) is CacheState.HIT else None

    async def known(self, query: Query) -> Entry | None:
        """Return what is cached, however old; nothing is computed."""
        key = query.key()
        return self._local.recent(key) or await self._look_ups.find(query) or self._local.last_good(key)

    def expire_local_copies(self) -> None:
        """Have the next requests read from Redis: a generation was published."""
        self._local.expire()

    def recent_stale(self, query: Query) -> Entry | None:
        """Return the local copy if it is stale and so recent that Redis need not be asked; it is recomputed.

        None for what is cut from another entry: that one is recomputed.
        """
        entry = self._local.recent(query.key())
        if entry is None or self._freshness.state(entry) is not CacheState.STALE or self._base(query):
            return None
        self._computations.start_in_background(query, entry)
        return entry

    def _answer_from(self, copy: Entry, key: str) -> Answer:
        """Answer with a local copy, where nothing newer can be had; it counts as recent again."""
        self._local.put(key, copy)
        return Answer(copy, CacheState.STALE)

    async def _restore(self, query: Query, copy: Entry) -> None:
        """Store a copy in Redis that lost it, since it cannot be computed: other processes may have none."""
        if self._cache.reachable and self._cache.accepting and self._freshness.state(copy) is not None:
            lifetime = self._freshness.lifetime(query)
            await self._cache.store(query.key(), copy, lifetime_seconds=lifetime)

    async def _wait_for(self, computation: asyncio.Task[Stored], deadline: float) -> Stored:
        """Wait for a computation until the deadline, as long as the database answers.

        The computation goes on after that: its answer is there when the client asks again.
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
        entry = entry_of(computed, generation, snapshot.now, snapshot.consistency)
        entry = replace(entry, on_demand=self._freshness.lifetime(query) is not None)
        began_at = time.monotonic()
        stored = await self._cache.store(query.key(), entry, lifetime_seconds=self._freshness.lifetime(query))
        self._local.put(query.key(), stored.entry, taken_at=began_at)
        return stored

    @tracing.traced("refresh")
    async def refresh(
        self,
        names: Iterable[str] = (),
        windows: Iterable[str] = (),
        *,
        also: Iterable[str] = (),
        unless_newer_than_seconds: float = 0,
    ) -> RefreshReport | None:
        """Compute the named aggregations over the windows.

        Without names: those that are kept computed, and the questions of the settings. Without windows: the
        configured ones and those of `also`. All come from one snapshot and are published together as one
        generation. One that cannot be computed is reported, and its older entry stays. Leaves out windows
        that a refresh of everything has refreshed within the last `unless_newer_than_seconds`, and returns
        None when no window is left. Raises `RefreshRunning` when another refresh of this cache is under way,
        and `Unavailable` when the database or Redis cannot be reached.
        """
        names, windows = tuple(names), tuple(windows)
        all_names = not names
        everything = all_names and not windows
        names = names or _kept_names()
        windows = windows or tuple(dict.fromkeys((*self._settings.windows, *also)))
        async with self._database.lock(self._cache.name) as lock:
            last = await self._publication.last_generation()
            windows = self._due(windows, names, last, unless_newer_than_seconds)
            if not windows:
                return None
            # Opened under the lock, so that what is published later comes from a later snapshot.
            async with self._database.snapshot(wait_seconds=self._settings.query_timeout_seconds) as snapshot:
                timeout = self._settings.refresh_timeout_seconds
                async with next_generation(snapshot, self._publication, timeout=timeout) as following:
                    for queries in self._to_refresh(names, windows, questions=all_names):
                        await following.compute(queries)
                        await lock.keep()
                    report = await following.done()
                    generation = report.summary(key_names(names), windows, last)
                    await following.publish(generation, of_everything=everything)
                    if everything and report.published:
                        self._freshness.refreshed(generation)
        return report

    def _due(
        self, windows: tuple[str, ...], names: tuple[str, ...], last: Generation | None, seconds: float
    ) -> tuple[str, ...]:
        """Return the windows that no refresh of everything has refreshed within the last `seconds`.

        Another version, whose answers have other fields, may have refreshed last: then all are due. Of the
        workers with different windows each refreshes its own, and one of them those that several have.
        """
        known = last.windows if last is not None and last.aggregations == key_names(names) else {}
        return tuple(
            window
            for window in windows
            if window not in known or not 0 <= self._clock.seconds_since(known[window]) < seconds
        )

    @tracing.traced("totals")
    async def publish_totals(self) -> RefreshReport | None:
        """Publish what is kept computed of the watched windows, as one generation, between two refreshes.

        Computes nothing and returns None unless clients listen to events, the rollup is read and has changes
        that were not published, and no refresh is under way. Answers on demand, and what the functions do not
        answer, stay as fresh as they are. Raises `Unavailable` when the database or Redis cannot be reached;
        when nothing could be computed, the reason.
        """
        watched = await self.watched.windows()
        windows = tuple(window for window in self._settings.windows if window in watched)
        if not windows:
            return None
        timeout = self._settings.query_timeout_seconds
        async with self._database.snapshot(wait_seconds=timeout) as snapshot:
            if not await self.changes.are_new(snapshot, timeout=timeout):
                return None
            # Looked for after the snapshot was opened: a later refresh has a later one, and replaces this.
            if await self._database.is_locked(self._cache.name, snapshot):
                return None
            # Functions only: other methods scan, or know less than what is published.
            async with next_generation(
                snapshot, self._publication, timeout=timeout, functions_only=True
            ) as following:
                for queries in self._to_refresh(_kept_names(), windows, questions=False):
                    await following.compute(queries)
                report = await following.done()
                if not report.entries and following.failure is not None:
                    raise following.failure
                await following.publish(replace(report.summary((), (), None), totals=windows))
            if report.published:  # else a refresh or a computation came before it
                self.changes.published(snapshot)
        return report

    def local_entries(self) -> int:
        """Return how many local copies there are."""
        return len(self._local)

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._look_ups.close()
        await self._computations.close()

    def _to_refresh(
        self, names: Iterable[str], windows: tuple[str, ...], *, questions: bool
    ) -> Iterable[list[Query]]:
        """Yield what to compute: the aggregations of each window together, then questions of the settings.

        Over the configured windows these are all questions, else those over one of the windows.
        """
        for window in windows:
            yield [Query(name, TimeRange(window)) for name in _computed_names(names)]
        for query in sorted(self._settings.kept_questions, key=Query.key) if questions else ():
            if windows == self._settings.windows or query.range.window in windows:
                yield [query]


def _kept_names() -> tuple[str, ...]:
    return tuple(name for name, each in AGGREGATIONS.items() if each.kept_computed)


def _computed_names(names: Iterable[str]) -> Iterable[str]:
    """Return what to compute: the row of one model comes from the rows of all."""
    return dict.fromkeys(MODELS.name if name == MODEL.name else name for name in names)
