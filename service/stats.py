"""The flow. A request: cache, else compute once and store. A refresh: compute all, publish together.

read     local copy -> Redis -> (absent) one computation, for which everybody who asks waits
                             -> (too old) served as stale, one computation in the background
         one over all processes (`service.lease`), and no wait for a Redis that hangs where a copy is known
refresh  one database snapshot -> every aggregation x window -> one generation in Redis
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from service import metrics, tracing
from service.aggregations import AGGREGATIONS, MODEL, MODELS, Query, Totals, narrowed
from service.cache import Cache, Stored
from service.compute import Computed, catalogue, compute, provider_ids
from service.database import Database, Snapshot
from service.entry import Entry, Generation
from service.errors import (
    ChatStatsError,
    ComputationTimedOut,
    DatabaseUnavailable,
    InvalidParameter,
    NotFound,
    SchemaError,
    TooManyRequests,
    Unavailable,
)
from service.lease import LEASE_SECONDS, Leases
from service.local_cache import CAPACITY, LocalCache
from service.rows import Data
from service.settings import Settings
from service.timerange import TimeRange

logger = logging.getLogger(__name__)

#: Asked before an answer is computed for somebody who waits for it; raises when it may not be.
Admit = Callable[[], Awaitable[None]]

#: Seconds by which the clocks of two machines may differ without anybody noticing.
CLOCK_SKEW_SECONDS = 5.0
#: Seconds for which answers that the worker does not keep computed are kept as stale.
UNPLANNED_STALE_SECONDS = 600.0
#: Seconds to wait for Redis where a copy is known that can be served instead.
REDIS_PATIENCE_SECONDS = 0.1
#: Seconds of waiting for a computation after which it is looked whether the database still answers.
PROBE_SECONDS = 0.7


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
    #: Of a miss: whether it was stored, so that the next one is a hit.
    stored: bool = True


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

    def summary(self) -> Generation:
        return Generation(
            self.generation, self.computed_at, round(self.duration_ms, 1), self.entries, len(self.failed)
        )

    @property
    def failed(self) -> list[Refreshed]:
        return [result for result in self.results if result.error is not None]


@dataclass(frozen=True, slots=True)
class LookUp:
    """A question to Redis that is not answered yet."""

    task: asyncio.Task[None]
    #: In monotonic seconds.
    began_at: float


class Stats:
    """Reads and refreshes. One per process."""

    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self._settings = settings
        self._database = database
        self._cache = cache
        self._local = LocalCache(settings.local_cache_seconds, settings.local_cache_megabytes * 1_000_000)
        self._leases = Leases(cache)
        self._looking_up: dict[str, LookUp] = {}
        self._computing: dict[str, asyncio.Task[Stored]] = {}
        self._retries = Retries()
        self._longest_stale = settings.fresh_seconds + settings.stale_seconds

    async def read(self, query: Query, *, admit: Admit | None = None) -> Answer:
        """Answer `query` from the cache, or compute it, unless `admit` refuses that by raising.

        Raises `NotFound` for an unknown model, `InvalidParameter` for a time series of too many points or in
        a time zone that the database lacks, `SchemaError`, or `Unavailable` when nothing is known and
        nothing can be computed.
        """
        answer = await self.known(query)
        if answer is not None:
            return answer
        key = query.key()
        joins = key in self._computing
        try:
            stored = await self._wait_for(self._compute_once(query, self._local.last_good(key), admit))
        except TooManyRequests:
            if joins:  # it was refused to somebody else
                return await self.read(query, admit=admit)
            raise
        except Unavailable:
            entry = self._local.last_good(key)
            if entry is None:
                raise
            return Answer(entry, CacheState.STALE)
        state = CacheState.MISS if self._cache.reachable else CacheState.BYPASS
        return Answer(stored.entry, state, stored=stored.kept)

    def recent(self, key: str) -> Entry | None:
        """Return this process's own copy if it is a hit and so recent that Redis need not be asked."""
        entry = self._local.recent(key)
        return entry if entry is not None and self._state(entry) is CacheState.HIT else None

    async def known(self, query: Query) -> Answer | None:
        """Answer from this process's own copy or from Redis; None when neither has it."""
        key = query.key()
        entry = self._local.recent(key) or await self._look_up(query)
        if entry is None or (state := self._state(entry)) is None:
            return None
        if state is CacheState.STALE:
            self._compute_in_background(query, entry)
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
            last = await self._cache.last_generation()
            if last is not None and 0 <= _seconds_since(last.computed_at) < unless_newer_than_seconds:
                return None
            started = time.perf_counter()
            # Only now that nobody else publishes: what is published later is then of a later snapshot.
            async with self._database.snapshot(wait_seconds=self._settings.query_timeout_seconds) as snapshot:
                report = RefreshReport(new_generation(), snapshot.opened_at)
                entries: dict[str, Entry] = {}
                for window in windows:
                    for name in _computed_names(names):
                        entries |= await self._refresh_one(snapshot, Query(name, TimeRange(window)), report)
                        await lock.keep()
            report.entries = len(entries)
            report.duration_ms = (time.perf_counter() - started) * 1000
            generation = report.summary() if everything else None
            report.published = await self._cache.publish(entries, generation)
        return report

    def local_entries(self) -> int:
        """Return how many answers are in this process's own memory."""
        return len(self._local)

    async def close(self) -> None:
        """End the computations that are under way."""
        tasks = [*self._computing.values(), *(look_up.task for look_up in self._looking_up.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _state(self, entry: Entry) -> CacheState | None:
        """Return how `entry` may be served now; None: it is too old for that."""
        seconds = _seconds_since(entry.computed_at)
        if -CLOCK_SKEW_SECONDS <= seconds <= self._settings.fresh_seconds:
            return CacheState.HIT
        # From the future, beyond what two clocks differ by: nobody knows how old it really is.
        return CacheState.STALE if seconds <= self._longest_stale else None

    async def _look_up(self, query: Query) -> Entry | None:
        """Ask Redis, once for all who ask at the same time; return what is known then.

        Who has a copy waits for a moment only: from a Redis that hangs, the others may learn it later.
        """
        key = query.key()
        copy = self._local.last_good(key)
        if copy is not None and self._cache.paused:
            return copy
        look_up = self._looking_up.get(key)
        if look_up is None:
            look_up = LookUp(asyncio.create_task(self._ask_redis(query)), time.monotonic())
            self._looking_up[key] = look_up
            look_up.task.add_done_callback(lambda _: self._looking_up.pop(key, None))
        if copy is None or self._state(copy) is None:
            await asyncio.shield(look_up.task)
        elif self._cache.reachable:
            patience = look_up.began_at + REDIS_PATIENCE_SECONDS - time.monotonic()
            await asyncio.wait({look_up.task}, timeout=max(0, patience))
        return self._local.last_good(key)

    async def _ask_redis(self, query: Query) -> None:
        key = query.key()
        began_at = time.monotonic()
        entry = await self._cache.get(key)
        if entry is not None:
            self._local.put(key, entry, taken_at=began_at)
        elif self._cache.reachable and (copy := self._local.last_good(key)) is not None:
            # Redis lost what it held: give it back what is known here, for the other processes.
            if self._cache.accepting and self._state(copy) is not None:
                lifetime = self._lifetime(query, copy)
                copy = (await self._cache.store(key, copy, lifetime_seconds=lifetime)).entry
            self._local.put(key, copy, taken_at=began_at)

    def _compute_in_background(self, query: Query, known: Entry) -> None:
        if self._retries.may_try(query.key()):
            self._compute_once(query, known)

    def _compute_once(
        self, query: Query, known: Entry | None, admit: Admit | None = None
    ) -> asyncio.Task[Stored]:
        """Start the computation of `query`, or join the one that is under way, here or elsewhere.

        An entry that somebody else stores is taken for it when it is another than the `known` one.
        """
        key = query.key()
        task = self._computing.get(key)
        if task is None:
            task = asyncio.create_task(self._compute_over_all(query, known, admit))
            self._computing[key] = task
            task.add_done_callback(lambda done: self._computed(key, done))
        return task

    async def _compute_over_all(self, query: Query, known: Entry | None, admit: Admit | None) -> Stored:
        if admit is not None:
            await admit()

        def suffices(entry: Entry) -> bool:
            state = self._state(entry)
            other = known is None or entry.generation != known.generation
            return state is CacheState.HIT or (state is CacheState.STALE and other)

        stored = await self._leases.once(
            query.key(),
            lambda: self._compute_and_store(query),
            suffices=suffices,
            # What the methods' time-outs add up to, and a lease that has to expire first.
            wait_seconds=2 * self._settings.query_timeout_seconds + LEASE_SECONDS,
        )
        if stored.entry is not self._local.last_good(query.key()):
            self._local.put(query.key(), stored.entry, taken_at=0.0)  # somebody else's, and who knows when
        return stored

    async def _wait_for(self, computation: asyncio.Task[Stored]) -> Stored:
        """Wait for a computation as long as the database answers: not for one that hangs."""
        while not (await asyncio.wait({computation}, timeout=PROBE_SECONDS))[0]:
            await self._database.probe()
        return computation.result()

    def _computed(self, key: str, task: asyncio.Task[Stored]) -> None:
        self._computing.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, TooManyRequests):
            return
        if error is None:
            self._retries.succeeded(key)
            return
        metrics.computation_failed(key.partition(":")[0], error)
        if self._local.last_good(key) is not None:  # else nothing is computed behind anybody's back
            self._retries.failed(key)
        # Whoever waits gets the error itself; for a background computation this is the only trace. (That the
        # database is away has a log line of its own.)
        if not isinstance(error, ChatStatsError):
            logger.error("could not compute %s", key, exc_info=error)
        elif not isinstance(error, NotFound | InvalidParameter | DatabaseUnavailable):
            logger.warning("could not compute %s: %s: %s", key, type(error).__name__, error)

    async def _compute_and_store(self, query: Query) -> Stored:
        timeout = self._settings.query_timeout_seconds
        async with self._database.snapshot(wait_seconds=timeout) as snapshot:
            computed = await compute(snapshot, query, timeout=timeout)
        entry = _entry(computed, computed.data, computed.totals, new_generation(), snapshot.opened_at)
        began_at = time.monotonic()
        stored = await self._cache.store(query.key(), entry, lifetime_seconds=self._lifetime(query, entry))
        self._local.put(query.key(), stored.entry, taken_at=began_at)
        return stored

    def _lifetime(self, query: Query, entry: Entry) -> float | None:
        """Return how long to keep a live answer; None: as long as what the worker computes.

        Anybody may ask for any range and any id: those answers are kept briefly, lest they fill Redis.
        """
        unknown_provider = query.provider_id is not None and entry.body == b"[]"
        kept_computed = AGGREGATIONS[query.aggregation].kept_computed
        if kept_computed and query.range.window in self._settings.windows and not unknown_provider:
            return None
        return self._settings.fresh_seconds + min(UNPLANNED_STALE_SECONDS, self._settings.stale_seconds)

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


def new_generation() -> str:
    """Return a name for what one snapshot gives; names sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(3)}"


def _computed_names(names: Iterable[str]) -> Iterable[str]:
    """Return what to compute: one model's row is taken from the rows of all."""
    return dict.fromkeys(MODELS.name if name == MODEL.name else name for name in names)


def _seconds_since(moment: datetime) -> float:
    return time.time() - moment.timestamp()


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
