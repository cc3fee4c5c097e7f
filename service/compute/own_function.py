"""Computes what cannot be made from usage per model, such as a time series: by its function or a statement.

No method counts requests by model, day and zone one at a time, so that the ladder ends there.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

import asyncpg

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Aggregation, Query
from chat_stats.service.catalogue.rows import COST_FIELDS, Data, rows_of
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import (
    MAX_POINTS,
    check_bounds,
    too_many_points,
    unknown_timezone,
)
from chat_stats.service.compute import purged
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.look import look
from chat_stats.service.compute.methods import METHOD_LOG, STEP_DOWN, Method, WrongColumns
from chat_stats.service.compute.offsets import put_offsets
from chat_stats.service.database import queries
from chat_stats.service.database.errors import hides_rows
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import SchemaError
from chat_stats.service.observability import metrics


async def compute(snapshot: Snapshot, query: Query, *, timeout: float) -> Computed:
    started = time.perf_counter()
    aggregation = AGGREGATIONS[query.aggregation]
    if aggregation.is_series:
        query = await with_bounds(snapshot, query, timeout)
    method, reason = Method.RPC, None
    try:
        data = await call(snapshot, query, aggregation, timeout)
    except STEP_DOWN[Method.RPC] as error:
        if hides_rows(error):
            raise
        reason = f"{method} failed with {type(error).__name__}: {error}"
        method = Method.OPTIMIZED
        data = await plain(snapshot, query, aggregation, timeout / 2)
    if aggregation.is_series and len(data) > MAX_POINTS:
        raise too_many_points(query.series)
    if aggregation.is_series:
        assert isinstance(data, list), "a time series is a list of points"
        await put_offsets(snapshot, data, query.series.timezone, timeout=timeout)
    METHOD_LOG.record(aggregation.name, method, reason)
    unavailable = without_cost(data)
    precision = await purged.precision(snapshot, query.range.bounds(snapshot.now), timeout=timeout)
    seconds = time.perf_counter() - started
    metrics.computed(aggregation.name, method, seconds)
    return Computed(data, query.metadata(data, {}), method, seconds * 1000, unavailable, precision)


def without_cost(data: Data) -> tuple[str, ...]:
    """Put 0 where the cost is NULL, and name it."""
    unavailable: tuple[str, ...] = ()
    for row in rows_of(data):
        if "total_cost_usd" in row and row["total_cost_usd"] is None:
            row["total_cost_usd"] = 0.0
            unavailable = COST_FIELDS
    return unavailable


async def call(snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float) -> Data:
    statement, narrowed = aggregation.rpc(query)
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(statement, *bounds, *narrowed, timeout=timeout)
    if records and sorted(records[0].keys()) != sorted(aggregation.columns):
        raise WrongColumns(f"{aggregation.function} returned {', '.join(records[0].keys())}")
    try:
        return aggregation.rows(query, [dict(record) for record in records])
    except (TypeError, ValueError, KeyError) as error:
        raise WrongColumns(f"{aggregation.function} returned rows that cannot be read: {error}") from error


async def plain(snapshot: Snapshot, query: Query, aggregation: Aggregation, timeout: float) -> Data:
    if (await look(snapshot, timeout=timeout)).has_purged:
        raise SchemaError(
            f"only {aggregation.function} still counts requests that were purged; run: chat-stats migrate"
        )
    assert aggregation.plain is not None, f"{aggregation.name} has no statement to fall back on"
    _, narrowed = aggregation.rpc(query)
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(queries.load(aggregation.plain), *bounds, *narrowed, timeout=timeout)
    return aggregation.rows(query, [dict(record) for record in records])


async def with_bounds(
    snapshot: Snapshot,
    query: Query,
    timeout: float,
    first: Callable[[], Awaitable[datetime | None]] | None = None,
) -> Query:
    """Return the query with both bounds of its series: without a start it begins with the first request.

    `first` says when that was, if it is not the first of all. Raises `InvalidParameter`.
    """
    if query.series.timezone != "UTC":  # which each server has
        try:
            await snapshot.fetch("SELECT now() AT TIME ZONE $1", query.series.timezone, timeout=timeout)
        except asyncpg.InvalidParameterValueError as error:
            raise unknown_timezone(query.series.timezone) from error
    start, end = query.range.bounds(snapshot.now)
    end = snapshot.now if end is None else end
    if start is None:
        start = await (_first_moment(snapshot, timeout) if first is None else first())
    start = end if start is None else start
    check_bounds(query.series, start, end)
    return replace(query, range=TimeRange(None, start, max(start, end)))


async def _first_moment(snapshot: Snapshot, timeout: float) -> datetime | None:
    """Return when the first request was; None: there are none."""
    try:
        records = await snapshot.fetch(queries.load("first_moment_rpc"), timeout=timeout)
    except STEP_DOWN[Method.RPC]:  # the aggregation's method says that it is missing
        records = await snapshot.fetch(queries.load("first_moment"), timeout=timeout / 2)
    return records[0]["first_moment"] if records else None
