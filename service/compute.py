"""The method ladder: the RPC function first, then strictly simpler statements.

    rpc                    the function
    fallback_optimized     one GROUP BY                       when the function is missing, broken, refused
    fallback_with_counts   one COUNT per model                when the GROUP BY timed out or was refused
    fallback               counts over slices of the key      when the COUNTs timed out too

A time series has the first two alone: nobody counts requests by model, day and zone one at a time.

An outage of the database is none of these: it ends the computation (`Unavailable`). Each method gets at
most half of the time of the one before, so that a fallback never costs more than what timed out.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg

from service import metrics, purged, queries
from service.aggregations import AGGREGATIONS, Aggregation, Query, Totals, series_arguments
from service.database import SPARE_CONNECTIONS, Snapshot
from service.errors import ComputationTimedOut, NotFound, SchemaError
from service.percentiles import with_percentiles
from service.rows import (
    COST_FIELDS,
    PERCENTILE_FIELDS,
    Data,
    ModelUsage,
    Row,
    add_percentiles,
    model_row,
)
from service.timerange import TimeRange
from service.timeseries import MAX_POINTS, check_bounds, too_many_points, unknown_timezone

logger = logging.getLogger(__name__)

SLICE_ROWS = 50_000
SMALLEST_SLICE_ROWS = 500


class Method(StrEnum):
    RPC = "rpc"
    OPTIMIZED = "fallback_optimized"
    WITH_COUNTS = "fallback_with_counts"
    SLICES = "fallback"


#: The ladder, cheapest last.
LADDER = tuple(Method)


#: Counts the requests that are in the table.
Counting = Callable[[Snapshot, Query, float], Awaitable[list[ModelUsage]]]


class WrongColumns(Exception):
    """A function of the right name returned other columns or values: it is not the one that we install."""


#: What the statement of a method may meet and the next one be spared. Anything else is an error.
_REFUSED = (
    asyncpg.QueryCanceledError,  # its statement timeout
    asyncpg.InsufficientPrivilegeError,  # on a column or function that the next one does not use
    asyncpg.InsufficientResourcesError,  # out of memory or temporary space
    asyncpg.ProgramLimitExceededError,
)
STEP_DOWN: dict[Method, tuple[type[Exception], ...]] = {
    # Whatever goes wrong inside a function is about the function, except that the tables are missing.
    Method.RPC: (asyncpg.PostgresError, WrongColumns),
    Method.OPTIMIZED: _REFUSED,
    Method.WITH_COUNTS: (asyncpg.QueryCanceledError,),
    Method.SLICES: (),
}


@dataclass(frozen=True, slots=True)
class Computed:
    """The numbers of one query, and how they came about."""

    data: Data
    totals: Totals
    method: Method
    compute_ms: float
    #: Fields that the method cannot know; they are 0 in `data`.
    unavailable: tuple[str, ...] = ()
    #: "15m": an edge of the range lies where requests were purged, and is no more exact than that.
    precision: str | None = None


class MethodLog:
    """Says once when an aggregation's method changes, instead of at every computation."""

    def __init__(self) -> None:
        self._last: dict[str, Method] = {}
        self.fallbacks: Counter[str] = Counter()

    def record(self, aggregation: str, method: Method, reason: str | None) -> None:
        if method is not Method.RPC:
            self.fallbacks[method] += 1
        if self._last.get(aggregation, Method.RPC) is method:
            return
        self._last[aggregation] = method
        metrics.method_changed(aggregation, method)
        if method is Method.RPC:
            logger.warning("%s is computed by rpc again", aggregation)
        else:
            logger.warning("%s is computed by %s: %s", aggregation, method, reason)


METHOD_LOG = MethodLog()


@metrics.running
async def compute(snapshot: Snapshot, query: Query, *, timeout: float) -> Computed:
    """Compute `query` by the best method that works; its first statement may take `timeout` seconds.

    Raises `NotFound` for an unknown model, `InvalidParameter` for a time series that is too long or in a
    time zone that the database lacks, `SchemaError`, `ComputationTimedOut`, or `Unavailable`.
    """
    try:
        async with asyncio.timeout(timeout * len(LADDER)):
            return await _climb_down(snapshot, query, timeout)
    except (TimeoutError, asyncpg.QueryCanceledError) as error:
        raise ComputationTimedOut("no method could compute this in time") from error
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise SchemaError(f"{error.message}; run: chat-stats migrate") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaError(f"{error.message}; grant the chat-stats role SELECT on the three tables") from error
    except asyncpg.PostgresError as error:
        raise SchemaError(f"these tables cannot be aggregated: {error.message}") from error


async def _climb_down(snapshot: Snapshot, query: Query, timeout: float) -> Computed:
    started = time.perf_counter()
    aggregation = AGGREGATIONS[query.aggregation]
    if aggregation.is_series:
        query = await _with_bounds(snapshot, query, timeout)
    ladder = LADDER if aggregation.from_usage is not None else LADDER[:2]
    reason = None
    for step, method in enumerate(ladder):
        try:
            data, unavailable = await _run(method, snapshot, query, aggregation, timeout / 2**step)
        except STEP_DOWN[method] as error:
            # The text of an error in the statement may quote data; the log is for operators.
            reason = f"{method} failed with {type(error).__name__}: {error}"
            if method is ladder[-1]:
                raise
            continue
        if aggregation.percentiles_by is not None:
            data, unknown = await _percentiles(method, snapshot, query, aggregation, data, timeout / 2**step)
            unavailable = (*unavailable, *unknown)
        if aggregation.is_series and len(data) > MAX_POINTS:
            raise too_many_points(query.series)
        METHOD_LOG.record(aggregation.name, method, reason)
        bounds = query.range.bounds(snapshot.now)
        precision = await purged.precision(snapshot, bounds, timeout=timeout)
        seconds = time.perf_counter() - started
        metrics.computed(aggregation.name, method, seconds)
        return Computed(data, query.metadata(data), method, seconds * 1000, unavailable, precision)
    raise AssertionError("the last method has no next one")  # pragma: no cover


async def catalogue(
    snapshot: Snapshot, *, timeout: float, provider_id: str | None = None, model_id: str | None = None
) -> list[ModelUsage]:
    """Return the models that have a provider, with no usage yet."""
    records = await snapshot.fetch(queries.load("catalogue"), provider_id, model_id, timeout=timeout)
    return [ModelUsage.from_record(dict(record)) for record in records]


async def provider_ids(snapshot: Snapshot, *, timeout: float) -> list[str]:
    """Return the ids of all providers, also of those without models, as text."""
    records = await snapshot.fetch(queries.load("provider_ids"), timeout=timeout)
    return [record["id"] for record in records]


async def _run(
    method: Method, snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float
) -> tuple[Data, tuple[str, ...]]:
    data: Any
    unavailable: tuple[str, ...] = ()
    if method is Method.RPC:
        data = await _call(snapshot, query, aggregation, timeout)
    elif aggregation.from_usage is None:
        data = await _plain_series(snapshot, query, aggregation, timeout)
    elif method is Method.OPTIMIZED:
        data = aggregation.from_usage(await _with_purged(_grouped, snapshot, query, timeout))
        if "total_cost_usd" in data and not await _has_cost(snapshot, timeout):
            data["total_cost_usd"] = None
    else:
        count = _count_models if method is Method.WITH_COUNTS else _count_slices
        data = aggregation.from_usage(await _with_purged(count, snapshot, query, timeout))
        unavailable = aggregation.unknown_from_counts
        if isinstance(data, dict):
            # What is derived from numbers that are not known is not known either.
            data |= {name: 0 for name in unavailable if name in data}
    if aggregation.narrowed_by == "model_id" and query.model_id is not None:
        data = await _with_identity(snapshot, query.model_id, data, timeout)
    for row in data if isinstance(data, list) else [data]:
        if "total_cost_usd" in row and row["total_cost_usd"] is None:
            row["total_cost_usd"] = 0.0
            unavailable = COST_FIELDS
    return data, unavailable


async def _percentiles(
    method: Method, snapshot: Snapshot, query: Query, aggregation: Aggregation, data: Data, timeout: float
) -> tuple[Data, tuple[str, ...]]:
    if method in (Method.RPC, Method.OPTIMIZED):
        plain = method is Method.OPTIMIZED
        return await with_percentiles(snapshot, query, aggregation, data, plain=plain, timeout=timeout)
    return add_percentiles(data, {}), PERCENTILE_FIELDS


async def _call(snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float) -> Data:
    statement, narrowed = aggregation.rpc(query)
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(statement, *bounds, *narrowed, timeout=timeout)
    if records and tuple(records[0].keys()) != aggregation.columns:
        raise WrongColumns(f"{aggregation.function} returned {', '.join(records[0].keys())}")
    try:
        return aggregation.data(query, [dict(record) for record in records])
    except (TypeError, ValueError, KeyError) as error:
        raise WrongColumns(f"{aggregation.function} returned rows that cannot be read: {error}") from error


async def _plain_series(snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float) -> Data:
    if await purged.has_purged(snapshot, timeout=timeout):
        raise SchemaError(
            f"only {aggregation.function} still counts requests that were purged; run: chat-stats migrate"
        )
    bounds = query.range.bounds(snapshot.now)
    arguments = series_arguments(query)
    records = await snapshot.fetch(queries.load("timeseries"), *bounds, *arguments, timeout=timeout)
    return aggregation.data(query, [dict(record) for record in records])


async def _with_bounds(snapshot: Snapshot, query: Query, timeout: float) -> Query:
    """Return the query with both bounds of its series: without a start it begins with the first request.

    Raises `InvalidParameter`.
    """
    try:
        await snapshot.fetch("SELECT now() AT TIME ZONE $1", query.series.timezone, timeout=timeout)
    except asyncpg.InvalidParameterValueError as error:
        raise unknown_timezone(query.series.timezone) from error
    start, end = query.range.bounds(snapshot.now)
    end = snapshot.now if end is None else end
    if start is None:
        start = await _first_moment(snapshot, timeout)
    start = end if start is None else start
    check_bounds(query.series, start, end)
    return replace(query, range=TimeRange(None, start, max(start, end)))


async def _first_moment(snapshot: Snapshot, timeout: float) -> datetime | None:
    """Return when the first request was; None: there are none."""
    try:
        records = await snapshot.fetch(queries.load("first_moment_rpc"), timeout=timeout)
    except STEP_DOWN[Method.RPC]:  # that it is missing, its aggregation's method says
        records = await snapshot.fetch(queries.load("first_moment"), timeout=timeout / 2)
    return records[0]["first_moment"] if records else None


async def _has_cost(snapshot: Snapshot, timeout: float) -> bool:
    records = await snapshot.fetch(queries.load("has_cost"), timeout=timeout)
    return bool(records[0]["has_cost"])


async def _with_identity(snapshot: Snapshot, model_id: str, stats: Row, timeout: float) -> Data:
    found = await catalogue(snapshot, timeout=timeout, model_id=model_id)
    if not found:
        raise NotFound(f"no model with id {model_id}")
    return model_row(found[0], stats or None)


async def _with_purged(count: Counting, snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
    usage = await count(snapshot, query, timeout)
    if not await purged.has_purged(snapshot, timeout=timeout):
        return usage
    models = await catalogue(
        snapshot, timeout=timeout, provider_id=query.provider_id, model_id=query.model_id
    )
    bounds = query.range.bounds(snapshot.now)
    fields = purged.TOTALS if count is _grouped else purged.COUNTS
    return await purged.add_purged(snapshot, bounds, usage, models, fields=fields, timeout=timeout)


async def _grouped(snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(
        queries.load("usage_by_model"), *bounds, query.provider_id, query.model_id, timeout=timeout
    )
    return [ModelUsage.from_record(dict(record)) for record in records]


async def _count_models(snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
    """Count the requests of each model with a statement of its own, a few side by side in one snapshot."""
    models = await catalogue(
        snapshot, timeout=timeout, provider_id=query.provider_id, model_id=query.model_id
    )
    bounds = query.range.bounds(snapshot.now)
    statement = queries.load("count_of_model")
    waiting = list(models)
    counted: list[ModelUsage] = []

    async def count_on(connection: Snapshot) -> None:
        while waiting:
            model = waiting.pop()
            try:
                records = await connection.fetch(statement, str(model.model_id), *bounds, timeout=timeout)
            except Exception:
                waiting.clear()
                raise
            if records[0]["count"]:
                counted.append(replace(model, total_requests=records[0]["count"]))

    async with snapshot.siblings(min(SPARE_CONNECTIONS, max(0, len(models) - 1))) as siblings:
        # When one fails, the others finish their statement. Cancelled in the midst of it, as a task group
        # would do, they would leave this snapshot's transaction aborted, and the next method without it.
        outcomes = await asyncio.gather(*map(count_on, (snapshot, *siblings)), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
    return counted


async def _count_slices(snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
    """Count over consecutive slices of the primary key, smaller ones when a slice takes too long."""
    models = await catalogue(
        snapshot, timeout=timeout, provider_id=query.provider_id, model_id=query.model_id
    )
    bounds = query.range.bounds(snapshot.now)
    statement = queries.load("count_slice")
    counts: Counter[str] = Counter()
    last_id, rows = None, SLICE_ROWS
    while True:
        try:
            records = await snapshot.fetch(statement, last_id, rows, *bounds, timeout=timeout)
        except asyncpg.QueryCanceledError:
            if rows <= SMALLEST_SLICE_ROWS:
                raise
            rows //= 4
            continue
        if not records:
            break
        last_id = records[0]["last_id"]
        counts.update({str(record["model_id"]): record["request_count"] for record in records})
    counted = [replace(model, total_requests=counts[str(model.model_id)]) for model in models]
    return [model for model in counted if model.total_requests]
