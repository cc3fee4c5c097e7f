"""The answer to a query from what one method found out: its rows, metadata, and what is not known."""

from dataclasses import dataclass

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query, Totals
from chat_stats.service.catalogue.rows import (
    COST_FIELDS,
    PERCENTILE_FIELDS,
    Data,
    Usage,
    add_percentiles,
    model_row,
    set_unknown,
)
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.methods import ONLY_COUNTS, Method
from chat_stats.service.compute.models import catalogue
from chat_stats.service.compute.percentiles import Groups
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import NotFound


@dataclass(frozen=True, slots=True)
class Found:
    """What one method found out about a range."""

    usage: Usage
    #: None: they are not known.
    groups: Groups | None
    method: Method
    has_cost: bool


async def answer(
    snapshot: Snapshot, query: Query, found: Found, *, timeout: float
) -> tuple[Data, Totals, tuple[str, ...]]:
    """Return the data and metadata of `query`, and the fields that are not known. Raises `NotFound`."""
    data = AGGREGATIONS[query.aggregation].of_usage(found.usage)
    if not data and query.model_id is not None and not isinstance(data, list):
        if any(each.is_scope for each in query.where):  # others' models do not exist for a scoped key
            raise NotFound(f"no model with id {query.model_id}")
        data = await _without_requests(snapshot, query.model_id, timeout)
    return data, *_complete(query, data, found)


def _complete(query: Query, data: Data, found: Found) -> tuple[Totals, tuple[str, ...]]:
    """Put in percentiles, and 0 for what is not known; return the metadata, and what that is."""
    aggregation = AGGREGATIONS[query.aggregation]
    unknown: tuple[str, ...] = ()
    if found.method in ONLY_COUNTS:
        unknown = aggregation.unknown_from_counts
    elif not found.has_cost:
        unknown = COST_FIELDS
    if aggregation.percentiles_by is not None:
        if found.groups is None:
            unknown = (*unknown, *PERCENTILE_FIELDS)
        else:
            add_percentiles(data, found.groups[aggregation.percentiles_by])
    unknown = tuple(name for name in unknown if name in aggregation.answered)
    set_unknown(data, unknown)
    unresolved = found.usage.unresolved
    metadata = query.metadata(
        data,
        {
            "unresolved_requests": unresolved.total_requests,
            "unresolved_failed_requests": unresolved.failed_requests,
        },
    )
    return {name: 0 if name in unknown else value for name, value in metadata.items()}, unknown


async def _without_requests(snapshot: Snapshot, model_id: str, timeout: float) -> Data:
    models = await catalogue(snapshot, Deadline(timeout), (None, model_id, None))
    if not models:
        raise NotFound(f"no model with id {model_id}")
    return model_row(models[0])
