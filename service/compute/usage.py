"""Usage per model by plain statements: what the methods below the function count."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import asyncpg

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.rows import ModelUsage
from chat_stats.service.compute import purged
from chat_stats.service.database import queries
from chat_stats.service.database.pool import SPARE_CONNECTIONS
from chat_stats.service.database.snapshot import Snapshot

SLICE_ROWS = 50_000
SMALLEST_SLICE_ROWS = 500


#: Counts the requests that are in the table.
Counting = Callable[[Snapshot, Query, float], Awaitable[list[ModelUsage]]]


async def catalogue(
    snapshot: Snapshot, *, timeout: float, provider_id: str | None = None, model_id: str | None = None
) -> list[ModelUsage]:
    """Return the models that have a provider, with no usage yet."""
    records = await snapshot.fetch(queries.load("catalogue"), provider_id, model_id, timeout=timeout)
    return [ModelUsage.from_record(dict(record)) for record in records]


async def with_purged(count: Counting, snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
    usage = await count(snapshot, query, timeout)
    if not await purged.has_purged(snapshot, timeout=timeout):
        return usage
    models = await catalogue(
        snapshot, timeout=timeout, provider_id=query.provider_id, model_id=query.model_id
    )
    bounds = query.range.bounds(snapshot.now)
    fields = purged.TOTALS if count is grouped else purged.COUNTS
    return await purged.add_purged(snapshot, bounds, usage, models, fields=fields, timeout=timeout)


async def grouped(snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
    bounds = query.range.bounds(snapshot.now)
    records = await snapshot.fetch(
        queries.load("usage_by_model"), *bounds, query.provider_id, query.model_id, timeout=timeout
    )
    return [ModelUsage.from_record(dict(record)) for record in records]


async def count_models(snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
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


async def count_slices(snapshot: Snapshot, query: Query, timeout: float) -> list[ModelUsage]:
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
