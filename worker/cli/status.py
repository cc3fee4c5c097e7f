"""Collects the state of cache, worker, database and functions for `chat-stats status`."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.catalogue import questions
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.timerange import WINDOWS, TimeRange
from chat_stats.service.compute import percentiles
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.errors import function_trouble
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.database.standbys import StandbyHealth
from chat_stats.service.errors import ChatStatsError, Unavailable
from chat_stats.service.health import NO_WORKER, Health, HealthChecks
from chat_stats.service.queue import Queue
from chat_stats.service.rollup.state import RollupState
from chat_stats.service.settings import Settings
from chat_stats.worker.cli import rights

#: An empty range: a call over it shows at almost no cost whether the function works.
_NO_TIME = TimeRange(None, datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC))
_HAS_REQUESTS = "SELECT EXISTS (SELECT FROM gateway_schema.chat_completion_requests) AS has_requests"
_CHECK_SECONDS = 5.0
_REDIS_SECONDS = 2.0

START_WORKER = f"{NO_WORKER}; start one: chat-stats worker"


@dataclass(slots=True)
class CachedGroup:
    """The entries of one aggregation over one window."""

    aggregation: str
    window: str
    entries: int
    method: str
    oldest_seconds: float
    state: str
    generation: str


@dataclass(slots=True)
class Status:
    redis: str = "ok"
    database: str = "ok"
    worker: str = "alive"
    last_refresh: dict[str, Any] | None = None
    #: What came of the worker's last purge, where it is to purge: `at`, `requests`, `before`, `error`.
    last_purge: dict[str, Any] | None = None
    #: Whether the last refresh is older than `Settings.late_seconds`, or there is none.
    late: bool = True
    cached: list[CachedGroup] = field(default_factory=list)
    #: Size of all entries' bodies.
    cached_bytes: int = 0
    #: Size of the answers on demand among them, and its limit.
    on_demand_bytes: int = 0
    on_demand_limit_bytes: int = 0
    #: "ok", or which roles other than the owner may write our tables.
    rights: str = "ok"
    #: "ok", or which role without a right to the rollup holds the lock of its upkeep.
    locks: str = "ok"
    #: "ok", or which of our tables hide rows from our role. For the gateway's tables, `database` says so.
    row_security: str = "ok"
    standbys: list[StandbyHealth] = field(default_factory=list)
    #: None: it could not be looked at, for what `database` says.
    rollup: RollupState | None = None
    #: By function: "ok", or what is wrong with it.
    functions: dict[str, str] = field(default_factory=dict)
    #: Whether there are no requests yet; None: it could not be looked at.
    empty: bool | None = None

    @property
    def healthy(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> dict[str, str]:
        """What is not well, by part."""
        found = {
            "redis": self.redis,
            "database": self.database,
            "worker": "ok" if self.worker == "alive" else self.worker,
            "rights": self.rights,
            "locks": self.locks,
            "row security": self.row_security,
            **{f"standby {each.host}": each.trouble for each in self.standbys},
            "rollup": self._rollup_problem,
            "last refresh": self._refresh_problem,
            "last purge": None if self.last_purge is None else self.last_purge["error"],
            **{f"{name}()": state for name, state in self.functions.items()},
        }
        return {part: state for part, state in found.items() if state not in (None, "ok")}

    @property
    def _rollup_problem(self) -> str | None:
        if self.rollup is None:
            return "its state cannot be read" if self.database == "ok" else None
        return str(self.rollup) if self.rollup.state == "damaged" else None

    @property
    def _refresh_problem(self) -> str | None:
        if self.last_refresh is None:
            return "there was none yet"
        if self.last_refresh["failed"]:
            return f"{self.last_refresh['failed']} of its answers could not be computed"
        return f"{self.last_refresh['age_seconds']:,.0f} s ago, too long" if self.late else None


async def worker_alive(settings: Settings) -> bool:
    """Return whether a worker has reported within the last seconds; raises `QueueUnavailable`."""
    queue = Queue(settings)
    try:
        return await queue.worker_alive()
    finally:
        await queue.close()


async def collect(settings: Settings) -> Status:
    """Return the state of all parts; an unreachable part is reported in it and raises nothing."""
    status = Status()
    settings = _patient(settings)
    database = Database(settings, application_name="chat-stats status")
    redis = connect(settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds)
    cache = Cache(settings, redis, database.clock)
    queue = Queue(settings)
    await database.open()
    try:
        found = await HealthChecks(settings, database, cache, queue).look()
        _fill_in(status, found)
        if found.database.reachable:
            await _check_database(database, status)
        if found.queue.trouble is None and settings.purge_after_days is not None:
            await _check_purge(queue, status)
        if found.cache.trouble is None:
            await _check_cache(settings, cache, database.clock, status)  # its ages are by that clock
    finally:
        await database.close()
        await cache.close()
        await queue.close()
    return status


def _patient(settings: Settings) -> Settings:
    """Return the settings with the time-outs of a command, which can wait longer than a request."""
    return settings.model_copy(
        update={
            "redis_timeout_seconds": max(settings.redis_timeout_seconds, _REDIS_SECONDS),
            "connect_timeout_seconds": max(settings.connect_timeout_seconds, _CHECK_SECONDS),
        }
    )


def _fill_in(status: Status, found: Health) -> None:
    status.redis = found.cache.trouble or "ok"
    status.database = found.database.trouble or found.database.rollup_trouble or "ok"
    status.worker = found.queue.trouble or ("alive" if found.queue.worker_alive else START_WORKER)
    status.rollup = found.database.rollup
    status.locks = found.database.foreign_lock or "ok"
    status.late = found.late
    status.standbys = found.standbys
    if found.cache.last is not None and found.cache.age_seconds is not None:
        age_seconds = round(found.cache.age_seconds, 1)
        status.last_refresh = {**found.cache.last.figures(), "age_seconds": age_seconds}


async def _check_purge(queue: Queue, status: Status) -> None:
    try:
        status.last_purge = await queue.last_purge()
    except Unavailable as error:
        status.worker = str(error)


async def _check_cache(settings: Settings, cache: Cache, clock: Clock, status: Status) -> None:
    try:
        entries = await cache.entries()
        status.on_demand_bytes = await cache.on_demand_bytes()
    except Unavailable as error:
        status.redis = str(error)
        return
    now = clock.now()
    groups: dict[tuple[str, str], CachedGroup] = {}
    names = {aggregation.key_name: name for name, aggregation in AGGREGATIONS.items()}
    names |= {questions.key_name(endpoint): endpoint for endpoint in questions.ENDPOINTS}
    for key, entry in entries.items():
        key_name, window, *_ = key.split(":")
        if (name := names.get(key_name)) is None:
            continue  # another version's
        window = window if window in WINDOWS else "(ranges)"
        age = entry.age_seconds(now)
        group = groups.setdefault(
            (name, window), CachedGroup(name, window, 0, entry.method, 0.0, "fresh", entry.generation)
        )
        group.entries += 1
        group.oldest_seconds = max(group.oldest_seconds, round(age, 1))
        if age > settings.fresh_seconds:
            group.state = "stale"
        if entry.method != group.method:
            group.method = "several"
    status.cached_bytes = sum(len(entry.body) for entry in entries.values())
    status.on_demand_limit_bytes = settings.on_demand_cache_bytes
    status.cached = sorted(
        groups.values(), key=lambda group: (group.aggregation, [*WINDOWS, "(ranges)"].index(group.window))
    )


async def _check_database(database: Database, status: Status) -> None:
    try:
        async with database.transaction(reads=False) as snapshot:
            status.rights = await rights.rights(snapshot)
            status.row_security = await rights.row_security(snapshot)
            if status.database == "ok":
                status.functions = await _functions(snapshot)
            status.empty = await _is_empty(snapshot)
    except ChatStatsError as error:
        status.database = str(error)


async def _is_empty(snapshot: Snapshot) -> bool | None:
    try:
        [row] = await snapshot.fetch(_HAS_REQUESTS, timeout=_CHECK_SECONDS)
    except asyncpg.UndefinedTableError:
        return True
    except asyncpg.PostgresError:
        return None  # such as a permission that is missing, which `database` says
    return not row["has_requests"]


async def _functions(snapshot: Snapshot) -> dict[str, str]:
    """Call each function over an empty range; return what is wrong with it."""
    [row] = await snapshot.fetch("SELECT quote_ident(current_user) AS role", timeout=_CHECK_SECONDS)

    async def call(query: Query) -> str:
        statement, narrowed = AGGREGATIONS[query.aggregation].rpc(query)
        return await run(statement, *query.range.bounds(snapshot.now), *narrowed)

    async def run(statement: str, *arguments: Any) -> str:
        try:
            await snapshot.fetch(statement, *arguments, timeout=_CHECK_SECONDS)
        except asyncpg.PostgresError as error:
            return function_trouble(error, row["role"])
        return "ok"

    return {
        **{
            aggregation.function: await call(
                Query(aggregation.name, _NO_TIME, model_id="0" if aggregation.name == "model" else None)
            )
            for aggregation in AGGREGATIONS.values()
        },
        "get_models_with_requests_by_provider": await call(Query("models", _NO_TIME, provider_id="0")),
        "chat_stats_level_percentiles": await run(
            percentiles.CALL, *_NO_TIME.bounds(snapshot.now), None, None, None, ["none"]
        ),
        **await rights.overloads(snapshot),
    }
