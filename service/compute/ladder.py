"""The method ladder: the RPC function first, then strictly simpler statements.

    rpc                    the function
    fallback_optimized     one GROUP BY                       when the function is missing, broken, refused
    fallback_with_counts   one count by model                 when the GROUP BY timed out or was refused
    fallback               counts over slices of the key      when that timed out too

All answers about one range are made from the rows of one statement, so that they add up. Each has a function
of its own in the database, for other programs; where that is missing or may not be executed, this answer is
computed without functions.

An outage of the database is none of these: it ends the computation (`Unavailable`). Each method gets at
most half of the time of the one before, for all of its statements, so that a fallback never costs more than
what timed out; the last one, whose many statements are short, gets as much as the first.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence

import asyncpg

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.compute import filtered, own_function, purged, questions
from chat_stats.service.compute.answers import Found, answer
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.look import look
from chat_stats.service.compute.methods import LADDER, METHOD_LOG, ONLY_COUNTS, STEP_DOWN, Method
from chat_stats.service.compute.percentiles import percentiles
from chat_stats.service.compute.usage import USAGE_BY
from chat_stats.service.database.errors import hides_rows, reading_error
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import (
    ChatStatsError,
    ComputationTimedOut,
    InvalidParameter,
    NotFound,
    SchemaError,
)
from chat_stats.service.observability import metrics

#: The answer to each query, or the error in place of it.
Results = dict[Query, Computed | ChatStatsError]


async def compute(snapshot: Snapshot, query: Query, *, timeout: float) -> Computed:
    """Compute `query` by the best method that works; its first statement may take `timeout` seconds.

    Raises `NotFound` for an unknown model, `InvalidParameter` for a time series that is too long or in a
    time zone that the database lacks, `SchemaError`, `ComputationTimedOut`, or `Unavailable`.
    """
    computed = (await compute_together(snapshot, [query], timeout=timeout))[query]
    if isinstance(computed, ChatStatsError):
        raise computed
    return computed


@metrics.running
async def compute_together(
    snapshot: Snapshot, queries: Sequence[Query], *, timeout: float, functions_only: bool = False
) -> Results:
    """Compute queries of the same range and filters; those that are made from usage, from the same rows.

    An error stands in place of what could not be computed, with `functions_only` by the first method of the
    ladder. Raises `Unavailable` on an outage.
    """
    results: Results = {}
    of_usage = [
        query
        for query in queries
        if query.question is None
        and not query.by_dimension
        and AGGREGATIONS[query.aggregation].from_usage is not None
    ]
    try:
        groups = await _by_first_method(snapshot, of_usage, timeout)
    except asyncpg.PostgresError as error:
        return dict.fromkeys(queries, _reading_error(error))
    last = Method.RPC if functions_only else LADDER[-1]
    for method, group in groups:
        results |= await _or_errors(group, _climb_down(snapshot, group, method, last, timeout), timeout)
    for query in queries:
        if query not in of_usage:
            results |= await _or_errors([query], _own(snapshot, query, timeout), timeout)
    return results


async def _or_errors(queries: Sequence[Query], computing: Awaitable[Results], timeout: float) -> Results:
    """Return what is computed; where that fails, the error for each of the queries."""
    try:
        async with asyncio.timeout(timeout * len(LADDER)):
            return await computing
    except (TimeoutError, asyncpg.PostgresError) as error:
        return dict.fromkeys(queries, _reading_error(error))
    except (NotFound, InvalidParameter, SchemaError, ComputationTimedOut) as error:
        return dict.fromkeys(queries, error)


def _reading_error(error: TimeoutError | asyncpg.PostgresError) -> ChatStatsError:
    known = reading_error(
        error, timed_out="no method could compute this in time", failed="these tables cannot be aggregated"
    )
    known.__cause__ = error
    return known


async def _by_first_method(
    snapshot: Snapshot, queries: Sequence[Query], timeout: float
) -> list[tuple[Method, list[Query]]]:
    """Tell the answers whose function works from those that are to be computed without it."""
    if not queries:
        return []
    usable = (await look(snapshot, timeout=timeout)).functions
    groups: dict[Method, list[Query]] = {Method.RPC: [], Method.OPTIMIZED: []}
    for query in queries:
        works = AGGREGATIONS[query.aggregation].function in usable
        groups[Method.RPC if works else Method.OPTIMIZED].append(query)
    return [(method, group) for method, group in groups.items() if group]


async def _own(snapshot: Snapshot, query: Query, timeout: float) -> Results:
    if query.question is not None:
        own = questions.compute
    elif query.by_dimension:
        own = filtered.compute
    else:
        own = own_function.compute
    return {query: await own(snapshot, query, timeout=timeout)}


async def _climb_down(
    snapshot: Snapshot, queries: Sequence[Query], first: Method, last: Method, timeout: float
) -> Results:
    """Compute queries from the rows of one method, from `first` down to `last`."""
    started = time.perf_counter()
    found, reason = await _find(snapshot, queries, first, last, timeout)
    query = queries[0]
    precision = await purged.precision(snapshot, query.range.bounds(snapshot.now), timeout=timeout)
    results: Results = {}
    for query in queries:
        data, totals, unavailable = await answer(snapshot, query, found, timeout=timeout)
        seconds = time.perf_counter() - started
        METHOD_LOG.record(query.aggregation, found.method, reason)
        metrics.computed(query.aggregation, found.method, seconds)
        results[query] = Computed(data, totals, found.method, seconds * 1000, unavailable, precision)
    return results


async def _find(
    snapshot: Snapshot, queries: Sequence[Query], first: Method, last: Method, timeout: float
) -> tuple[Found, str | None]:
    """Return what the first method that works finds out, and why it is not the function."""
    aggregations = [AGGREGATIONS[query.aggregation] for query in queries]
    groupings = sorted({each.percentiles_by for each in aggregations if each.percentiles_by is not None})
    query, reason = queries[0], None
    if first is not Method.RPC:
        functions = ", ".join(aggregation.function for aggregation in aggregations)
        reason = f"{functions} is missing, foreign or not to be executed by this role"
    for method in LADDER[LADDER.index(first) : LADDER.index(last) + 1]:
        try:
            return await find_by(method, snapshot, query, groupings, timeout=timeout), reason
        except STEP_DOWN[method] as error:
            # The text of an error in the statement may quote data; the log is for operators.
            reason = f"{method} failed with {type(error).__name__}: {error}"
            if method is last or hides_rows(error):
                raise
    raise SchemaError(f"{reason}: a refresh alone computes this")


async def find_by(
    method: Method, snapshot: Snapshot, query: Query, groupings: Sequence[str], *, timeout: float
) -> Found:
    """Return what one method finds out about the range of `query`, in its share of the time."""
    share = timeout / 2 ** LADDER.index(method)
    deadline = Deadline(timeout, per_statement=share) if method is LADDER[-1] else Deadline(share)
    usage = await USAGE_BY[method](snapshot, query, deadline)
    groups = None
    if groupings and method not in ONLY_COUNTS:
        plain = method is not Method.RPC
        groups = await percentiles(snapshot, query, groupings, plain=plain, deadline=deadline)
    return Found(usage, groups, method, (await look(snapshot, timeout=timeout)).has_cost)
