"""What is left of requests that were purged: their sums, for the methods that count the others."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.rows import ModelUsage, Usage
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.look import look
from chat_stats.service.compute.models import catalogue, most_requests_first
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import SchemaError

Bounds = tuple[datetime | None, datetime | None]

#: To what the edges of a range are exact within a bucket of which requests were purged.
BUCKET = "15m"

COUNTS = ("total_requests",)


async def precision(snapshot: Snapshot, bounds: Bounds, *, timeout: float) -> str | None:
    """Return "15m" when an edge of the range is only as exact as that, None when it is exact."""
    if bounds == (None, None) or not (await look(snapshot, timeout=timeout)).has_purged:
        return None
    try:
        records = await snapshot.fetch(
            queries.load("range_is_exact"), *bounds, timeout=timeout, keeps_plan=True
        )
    except (asyncpg.UndefinedFunctionError, asyncpg.InsufficientPrivilegeError):
        return BUCKET
    return None if records[0][0] else BUCKET


async def with_purged(
    snapshot: Snapshot, query: Query, usage: Usage, fields: Sequence[str], deadline: Deadline
) -> Usage:
    """Add the purged requests to what was counted of the others, in those fields."""
    if not (await look(snapshot, timeout=deadline.left())).has_purged:
        return usage
    if snapshot.in_citus:
        raise SchemaError(
            "where Citus holds the requests, only the functions of chat-stats add those that were purged; "
            "run: chat-stats migrate"
        )
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(queries.load("purged_by_model"), *bounds, timeout=deadline.left())
    purged = {record["model_id"]: record for record in records}
    everything = query.wants_unresolved
    models = await catalogue(snapshot, deadline, (None,) * 3 if everything else query.filters)
    found = {model.model_id: model for model in (*models, *usage.models)}
    added = [_added(model, purged.pop(str(model.model_id), None), fields) for model in found.values()]
    unresolved = usage.unresolved
    for record in purged.values() if everything else ():
        unresolved = _added(unresolved, record, fields)
    if everything and query.model_id is not None:
        added = []
    return Usage(most_requests_first(model for model in added if model.total_requests), unresolved)


def _added(model: ModelUsage, purged: Any, fields: Sequence[str]) -> ModelUsage:
    if purged is None:
        return model
    return replace(model, **{name: getattr(model, name) + purged[name] for name in fields})
