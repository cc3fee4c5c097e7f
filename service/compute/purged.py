"""What is left of requests that were purged: their sums, for the methods that count the others."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import asyncpg

from chat_stats.service.catalogue.measures import MEASURES
from chat_stats.service.catalogue.rows import ModelUsage
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot

Bounds = tuple[datetime | None, datetime | None]

#: To what the edges of a range are exact within a bucket of which requests were purged.
BUCKET = "15m"

COUNTS = ("total_requests",)
#: The measures that the answers show.
TOTALS = tuple(measure.total for measure in MEASURES if measure.total in ModelUsage.__slots__)


async def precision(snapshot: Snapshot, bounds: Bounds, *, timeout: float) -> str | None:
    """Return "15m" when an edge of the range is only as exact as that, None when it is exact."""
    if bounds == (None, None):
        return None
    try:
        records = await snapshot.fetch(queries.load("range_is_exact"), *bounds, timeout=timeout)
    except (asyncpg.UndefinedFunctionError, asyncpg.InsufficientPrivilegeError):
        return BUCKET if await has_purged(snapshot, timeout=timeout) else None
    return None if records[0][0] else BUCKET


async def has_purged(snapshot: Snapshot, *, timeout: float) -> bool:
    records = await snapshot.fetch(queries.load("has_purged"), timeout=timeout)
    return bool(records[0]["has_purged"])


async def add_purged(
    snapshot: Snapshot,
    bounds: Bounds,
    usage: Sequence[ModelUsage],
    models: Sequence[ModelUsage],
    *,
    fields: Sequence[str],
    timeout: float,
) -> list[ModelUsage]:
    """Add the purged requests of `models` to what was counted, in those fields."""
    records = await snapshot.fetch(queries.load("purged_by_model"), *bounds, timeout=timeout)
    purged = {record["model_id"]: record for record in records}
    known = {model.model_id: model for model in (*models, *usage)}
    return [
        replace(model, **{name: getattr(model, name) + found[name] for name in fields})
        if (found := purged.get(str(model.model_id)))
        else model
        for model in known.values()
        if model.total_requests or str(model.model_id) in purged
    ]
