"""What a snapshot's catalogue says before anything is computed: one statement a snapshot."""

from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.database import queries
from chat_stats.service.database.dimension_columns import types_of
from chat_stats.service.database.snapshot import Look, Snapshot


async def look(snapshot: Snapshot, *, timeout: float) -> Look:
    if snapshot.seen is None:
        names = [aggregation.function for aggregation in AGGREGATIONS.values()]
        [found] = await snapshot.fetch(queries.load("look"), names, timeout=timeout, keeps_plan=True)
        snapshot.seen = Look(
            found["has_cost"],
            found["has_purged"],
            found["lists_rollups"],
            frozenset(found["functions"]),
            types_of(found["columns"]),
        )
    return snapshot.seen
