"""Collects the state of cache, worker, database and functions for `chat-stats status`."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.timerange import WINDOWS, TimeRange
from chat_stats.service.compute import percentiles
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ChatStatsError, Unavailable
from chat_stats.service.queue import Queue
from chat_stats.service.rollup.state import RollupState, state_in
from chat_stats.service.settings import Settings
from chat_stats.worker.cli import rights

#: An empty range: a call over it shows at almost no cost whether the function works.
_NO_TIME = TimeRange(None, datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC))
_CHECK_SECONDS = 5.0

_OUR_FUNCTION = re.compile(r"\b(get_chat_|get_model|get_provider_|chat_stats_)\w+\(")
NO_WORKER = "no worker has reported lately; start one: chat-stats worker"


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
    #: "ok", or which of our tables hide rows from our role. For the gateway's tables, `database` says so.
    row_security: str = "ok"
    #: None: it could not be looked at, for what `database` says.
    rollup: RollupState | None = None
    #: By function: "ok", or what is wrong with it.
    functions: dict[str, str] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        parts = (self.redis, self.database, self.rights, self.row_security, *self.functions.values())
        refreshed = self.last_refresh is not None and not self.late and self.last_refresh["failed"] == 0
        damaged = self.rollup is None or self.rollup.state == "damaged"
        return all(part == "ok" for part in parts) and self.worker == "alive" and refreshed and not damaged


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
    database = Database(settings, application_name="chat-stats status")
    await _check_database(database, status)
    await _check_cache(settings, database.clock, status)  # its ages are by the database's clock
    try:
        status.worker = "alive" if await worker_alive(settings) else NO_WORKER
    except Unavailable as error:
        status.worker = str(error)
    return status


async def _check_cache(settings: Settings, clock: Clock, status: Status) -> None:
    cache = Cache(settings, connect(settings.redis_url.get_secret_value(), timeout_seconds=2), clock)
    try:
        last = await Publication(cache).last_generation()
        entries = await cache.entries()
        status.on_demand_bytes = await cache.on_demand_bytes()
    except Unavailable as error:
        status.redis = str(error)
        return
    finally:
        await cache.close()
    now = clock.now()
    if last is not None:
        status.last_refresh = {**last.figures(), "age_seconds": round(last.age_seconds(now), 1)}
    status.late = last is None or last.age_seconds(now) > settings.late_seconds
    groups: dict[tuple[str, str], CachedGroup] = {}
    names = {aggregation.key_name: name for name, aggregation in AGGREGATIONS.items()}
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
    await database.open()
    try:
        async with database.transaction(reads=False) as snapshot:
            status.rights = await rights.rights(snapshot)
            status.row_security = await rights.row_security(snapshot)
            status.rollup = await state_in(snapshot, timeout=_CHECK_SECONDS)
        await database.check()
        async with database.transaction() as snapshot:
            for aggregation in AGGREGATIONS.values():
                status.functions[aggregation.function] = await _function_state(snapshot, aggregation.name)
            by_provider = Query("models", _NO_TIME, provider_id="0")
            status.functions["get_models_with_requests_by_provider"] = await _call(snapshot, by_provider)
            status.functions["get_chat_request_percentiles"] = await _run(
                snapshot, percentiles.call(["none"]), *_NO_TIME.bounds(snapshot.now), None, None
            )
            status.functions |= await rights.overloads(snapshot)
    except ChatStatsError as error:
        status.database = str(error)
    finally:
        await database.close()


async def _function_state(snapshot: Snapshot, name: str) -> str:
    return await _call(snapshot, Query(name, _NO_TIME, model_id="0" if name == "model" else None))


async def _call(snapshot: Snapshot, query: Query) -> str:
    statement, narrowed = AGGREGATIONS[query.aggregation].rpc(query)
    return await _run(snapshot, statement, *query.range.bounds(snapshot.now), *narrowed)


async def _run(snapshot: Snapshot, statement: str, *arguments: Any) -> str:
    try:
        await snapshot.fetch(statement, *arguments, timeout=_CHECK_SECONDS)
    except asyncpg.PostgresError as error:
        if isinstance(error, asyncpg.InsufficientPrivilegeError) and _OUR_FUNCTION.search(f"{error}("):
            [row] = await snapshot.fetch("SELECT quote_ident(current_user) AS role", timeout=_CHECK_SECONDS)
            return f"{error}; its owner can run: SELECT chat_stats_grant_read('{row['role']}')"
        # The same error stands for an operator that a column's type lacks, which migrating does not fix.
        if isinstance(error, asyncpg.UndefinedFunctionError) and _OUR_FUNCTION.search(str(error)):
            return "missing; run: chat-stats migrate"
        return f"fails with {type(error).__name__}: {error}"
    return "ok"
