"""Usage per model by each method of the ladder: from it the answers are made."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.rows import NOTHING_UNRESOLVED, TOTALS, ModelUsage, Usage
from chat_stats.service.compute import purged
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.methods import Method, WrongColumns
from chat_stats.service.compute.models import catalogue, most_requests_first
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot

SLICE_ROWS = 50_000
SMALLEST_SLICE_ROWS = 500

#: The function. All arguments are given, with their types: a default would let another function fit better.
_CALL = (
    "SELECT * FROM stats_schema.chat_stats_usage"
    "($1::timestamptz, $2::timestamptz, $3::text, $4::text, $5::text)"
)


async def call(snapshot: Snapshot, query: Query, deadline: Deadline) -> Usage:
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(_CALL, *bounds, *query.filters, timeout=deadline.left())
    try:
        return _usage(records)
    except (KeyError, TypeError, ValueError) as error:
        raise WrongColumns(f"chat_stats_usage returned rows that cannot be read: {error}") from error


async def grouped(snapshot: Snapshot, query: Query, deadline: Deadline) -> Usage:
    usage = await _by_statement("usage_by_model", snapshot, query, deadline)
    return await purged.with_purged(snapshot, query, usage, TOTALS, deadline)


async def counted(snapshot: Snapshot, query: Query, deadline: Deadline) -> Usage:
    usage = await _by_statement("count_by_model", snapshot, query, deadline)
    return await purged.with_purged(snapshot, query, usage, purged.COUNTS, deadline)


async def counted_in_slices(snapshot: Snapshot, query: Query, deadline: Deadline) -> Usage:
    """Count over consecutive slices of the primary key, smaller ones when a slice takes too long."""
    bounds = query.range.bounds(snapshot.now)
    statement = queries.load("count_slice")
    counts: Counter[str] = Counter()
    last_id, rows = None, SLICE_ROWS
    while True:
        try:
            records = await snapshot.fetch(statement, last_id, rows, *bounds, timeout=deadline.left())
        except asyncpg.QueryCanceledError:
            if rows <= SMALLEST_SLICE_ROWS:
                raise
            rows //= 4
            continue
        if not records:
            break
        last_id = records[0]["last_id"]
        counts.update({str(record["model_id"]): record["request_count"] for record in records})
    usage = await _of_counts(snapshot, query, counts, deadline)
    return await purged.with_purged(snapshot, query, usage, purged.COUNTS, deadline)


async def _of_counts(snapshot: Snapshot, query: Query, counts: Counter[str], deadline: Deadline) -> Usage:
    everything = query.wants_unresolved
    models = await catalogue(snapshot, deadline, (None,) * 3 if everything else query.filters)
    found = [replace(model, total_requests=counts.pop(str(model.model_id), 0)) for model in models]
    unresolved = replace(NOTHING_UNRESOLVED, total_requests=counts.total() if everything else 0)
    if query.model_id is not None and everything:
        found = []
    return Usage(most_requests_first(model for model in found if model.total_requests), unresolved)


async def _by_statement(name: str, snapshot: Snapshot, query: Query, deadline: Deadline) -> Usage:
    bounds = query.range.bounds(snapshot.now)
    return _usage(await snapshot.fetch(queries.load(name), *bounds, *query.filters, timeout=deadline.left()))


def _usage(records: Sequence[Any]) -> Usage:
    """Read the rows of models, after which one without a model has the unresolved requests."""
    if not records or records[-1]["model_id"] is not None:
        return Usage([ModelUsage.from_record(record) for record in records])
    names = dict(records[-1])
    totals = {name: names[name] for name in TOTALS if names.get(name) is not None}
    return Usage(
        [ModelUsage.from_record(record) for record in records[:-1]],
        replace(NOTHING_UNRESOLVED, **totals),
    )


USAGE_BY: dict[Method, Callable[[Snapshot, Query, Deadline], Awaitable[Usage]]] = {
    Method.RPC: call,
    Method.OPTIMIZED: grouped,
    Method.WITH_COUNTS: counted,
    Method.SLICES: counted_in_slices,
}
