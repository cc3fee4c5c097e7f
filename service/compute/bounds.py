"""Where a time series begins and ends, and whether the database knows its time zone."""

from datetime import datetime

import asyncpg

from chat_stats.service.catalogue.timeseries import Series, check_bounds, unknown_timezone
from chat_stats.service.compute.methods import STEP_DOWN, Method
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot

Bounds = tuple[datetime | None, datetime | None]


async def bounds_of_series(
    snapshot: Snapshot, series: Series, bounds: Bounds, timeout: float
) -> tuple[datetime, datetime]:
    """Return both bounds of a series: without a start it begins with the first request, and ends now.

    Raises `InvalidParameter`.
    """
    try:
        await snapshot.fetch("SELECT now() AT TIME ZONE $1", series.timezone, timeout=timeout)
    except asyncpg.InvalidParameterValueError as error:
        raise unknown_timezone(series.timezone) from error
    start, end = bounds
    end = snapshot.now if end is None else end
    if start is None:
        start = await _first_moment(snapshot, timeout)
    start = end if start is None else start
    check_bounds(series, start, end)
    return start, max(start, end)


async def _first_moment(snapshot: Snapshot, timeout: float) -> datetime | None:
    """Return when the first request was; None: there are none."""
    try:
        records = await snapshot.fetch(queries.load("first_moment_rpc"), timeout=timeout)
    except STEP_DOWN[Method.RPC]:  # that it is missing, its aggregation's method says
        records = await snapshot.fetch(queries.load("first_moment"), timeout=timeout / 2)
    return records[0]["first_moment"] if records else None
