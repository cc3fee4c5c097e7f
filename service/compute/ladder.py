"""The method ladder: the RPC function first, then strictly simpler statements.

    rpc                    the function
    fallback_optimized     one GROUP BY                       when the function is missing, broken, refused
    fallback_with_counts   one COUNT per model                when the GROUP BY timed out or was refused
    fallback               counts over slices of the key      when the COUNTs timed out too

What cannot be made from usage per model, such as a time series, has the first two alone: no method counts
requests by model, day and zone one at a time.

An outage of the database is none of these: it ends the computation (`Unavailable`). Each method gets at
most half of the time of the one before, so that a fallback never costs more than what timed out.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Aggregation, Query, Totals
from chat_stats.service.catalogue.rows import (
    COST_FIELDS,
    PERCENTILE_FIELDS,
    Data,
    Row,
    add_percentiles,
    model_row,
)
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import MAX_POINTS, too_many_points
from chat_stats.service.compute import purged, questions
from chat_stats.service.compute.bounds import bounds_of_series
from chat_stats.service.compute.methods import LADDER, METHOD_LOG, STEP_DOWN, Method, WrongColumns
from chat_stats.service.compute.percentiles import with_percentiles
from chat_stats.service.compute.usage import catalogue, count_models, count_slices, grouped, with_purged
from chat_stats.service.database import queries
from chat_stats.service.database.errors import hides_rows, reading_error
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import NotFound, SchemaError
from chat_stats.service.observability import metrics


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


@metrics.running
async def compute(snapshot: Snapshot, query: Query, *, timeout: float) -> Computed:
    """Compute `query` by the best method that works; its first statement may take `timeout` seconds.

    Questions by any dimension have one method.

    Raises `NotFound` for an unknown model, `InvalidParameter` for a time series that is too long or in a
    time zone that the database lacks, `SchemaError`, `ComputationTimedOut`, or `Unavailable`.
    """
    try:
        async with asyncio.timeout(timeout * len(LADDER)):
            if query.question is not None:
                return await _answer(snapshot, query, timeout)
            return await _climb_down(snapshot, query, timeout)
    except (TimeoutError, asyncpg.PostgresError) as error:
        raise reading_error(
            error,
            timed_out="no method could compute this in time",
            failed="these tables cannot be aggregated",
        ) from error


async def _answer(snapshot: Snapshot, query: Query, timeout: float) -> Computed:
    started = time.perf_counter()
    answered = await questions.answer(snapshot, query, timeout=timeout)
    seconds = time.perf_counter() - started
    method = Method(answered.method)
    metrics.computed(query.aggregation, method, seconds)
    return Computed(answered.data, answered.metadata, method, seconds * 1000, answered.unavailable)


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
            if method is ladder[-1] or hides_rows(error):
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


async def _run(
    method: Method, snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float
) -> tuple[Data, tuple[str, ...]]:
    data: Any
    unavailable: tuple[str, ...] = ()
    if method is Method.RPC:
        data = await _call(snapshot, query, aggregation, timeout)
    elif aggregation.from_usage is None:
        data = await _plain(snapshot, query, aggregation, timeout)
    elif method is Method.OPTIMIZED:
        data = aggregation.from_usage(await with_purged(grouped, snapshot, query, timeout))
        if "total_cost_usd" in data and not await _has_cost(snapshot, timeout):
            data["total_cost_usd"] = None
    else:
        count = count_models if method is Method.WITH_COUNTS else count_slices
        data = aggregation.from_usage(await with_purged(count, snapshot, query, timeout))
        unavailable = aggregation.unknown_from_counts
        for row in data if isinstance(data, list) else [data]:
            # What is derived from numbers that are not known is not known either.
            row |= {name: 0 for name in unavailable if name in row}
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
    if records and sorted(records[0].keys()) != sorted(aggregation.columns):
        raise WrongColumns(f"{aggregation.function} returned {', '.join(records[0].keys())}")
    try:
        return aggregation.rows(query, [dict(record) for record in records])
    except (TypeError, ValueError, KeyError) as error:
        raise WrongColumns(f"{aggregation.function} returned rows that cannot be read: {error}") from error


async def _plain(snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float) -> Data:
    if await purged.has_purged(snapshot, timeout=timeout):
        raise SchemaError(
            f"only {aggregation.function} still counts requests that were purged; run: chat-stats migrate"
        )
    assert aggregation.plain is not None, f"{aggregation.name} has no statement to fall back on"
    _, narrowed = aggregation.rpc(query)
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(queries.load(aggregation.plain), *bounds, *narrowed, timeout=timeout)
    return aggregation.rows(query, [dict(record) for record in records])


async def _with_bounds(snapshot: Snapshot, query: Query, timeout: float) -> Query:
    """Return the query with both bounds of its series. Raises `InvalidParameter`."""
    bounds = query.range.bounds(snapshot.now)
    start, end = await bounds_of_series(snapshot, query.series, bounds, timeout)
    return replace(query, range=TimeRange(None, start, end))


async def _has_cost(snapshot: Snapshot, timeout: float) -> bool:
    records = await snapshot.fetch(queries.load("has_cost"), timeout=timeout)
    return bool(records[0]["has_cost"])


async def _with_identity(snapshot: Snapshot, model_id: str, stats: Row, timeout: float) -> Data:
    found = await catalogue(snapshot, timeout=timeout, model_id=model_id)
    if not found:
        raise NotFound(f"no model with id {model_id}")
    return model_row(found[0], stats or None)
