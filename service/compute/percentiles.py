"""Percentiles of the times, which answers get by a second statement in the snapshot of the first.

    get_chat_request_percentiles()   beside `rpc`
    one plain statement              beside `fallback_optimized`, and where the function is at fault

Both give the same row for each group. When neither can, the answer keeps its method, and the percentiles are
0 and named as unavailable. (Also where only the plain one would do, once requests were purged.)

In a refresh, those of all requests come with those of each model: their histograms are the same scan.
"""

import logging
from collections.abc import Mapping
from typing import Any

import asyncpg

from chat_stats.service.catalogue.aggregations import Aggregation, Query
from chat_stats.service.catalogue.rows import PERCENTILE_FIELDS, Data, Row, add_percentiles
from chat_stats.service.compute import purged
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot

logger = logging.getLogger(__name__)

#: $1: what to group by: none, provider, model or both (each model, and all); $2, $3: the time range;
#: $4, $5: a provider's and a model's id as text, if narrowed.
CALL = (
    "SELECT * FROM stats_schema.get_chat_request_percentiles("
    "$1::text, $2::timestamptz, $3::timestamptz, $4::text, $5::text)"
)

#: After these the plain statement would do no better.
_EXHAUSTED = (
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ProgramLimitExceededError,
)

_last_trouble: dict[str, str | None] = {}


async def with_percentiles(
    snapshot: Snapshot, query: Query, aggregation: Aggregation, data: Data, *, plain: bool, timeout: float
) -> tuple[Data, tuple[str, ...]]:
    """Add the percentiles to `data`; return it and the fields that are not known.

    `plain`: by the plain statement, without trying the function. Raises `Unavailable` on an outage.
    """
    assert aggregation.percentiles_by is not None, f"{aggregation.name} has no percentiles"
    groups = await _shared(snapshot, query, aggregation.percentiles_by, plain, timeout)
    unknown = () if groups is not None else PERCENTILE_FIELDS
    return add_percentiles(data, groups or {}), unknown


async def _shared(
    snapshot: Snapshot, query: Query, group_by: str, plain: bool, timeout: float
) -> dict[str | None, Row] | None:
    """Return the percentiles by group, those of all requests from what came before in the same refresh."""
    of_all = snapshot.percentiles_of_all
    if of_all is None or query.provider_id is not None or query.model_id is not None:
        return await _groups(snapshot, query, group_by, plain, timeout)
    bounds = query.range.bounds(snapshot.now)
    if group_by == "none" and bounds in of_all:
        return {None: of_all[bounds]}
    groups = await _groups(snapshot, query, "both" if group_by == "model" else group_by, plain, timeout)
    if groups is not None and None in groups:
        of_all[bounds] = groups[None]
    return groups


async def _groups(
    snapshot: Snapshot, query: Query, group_by: str, plain: bool, timeout: float
) -> dict[str | None, Row] | None:
    """Return the percentiles by group; None: they cannot be known."""
    arguments = (group_by, *query.range.bounds(snapshot.now), query.provider_id, query.model_id)
    trouble = None
    for statement in (queries.load("percentiles"),) if plain else (CALL, queries.load("percentiles")):
        if statement is not CALL and await purged.has_purged(snapshot, timeout=timeout):
            trouble = trouble or "only their function knows of requests that were purged"
            break
        try:
            records = await snapshot.fetch(statement, *arguments, timeout=timeout)
            groups = {record["group_id"]: _row(dict(record)) for record in records}
        except (asyncpg.PostgresError, KeyError, TypeError, ValueError) as error:
            trouble = f"{type(error).__name__}: {error}"
            if isinstance(error, _EXHAUSTED):
                break
        else:
            if not plain:
                _say_once(query.aggregation, trouble, "are computed without their function")
            return groups
    _say_once(query.aggregation, trouble, "cannot be computed")
    return None


def _row(record: Mapping[str, Any]) -> Row:
    return {name: float(record[name]) for name in PERCENTILE_FIELDS}


def _say_once(aggregation: str, trouble: str | None, what: str) -> None:
    """Log a warning when what is wrong with the percentiles has changed."""
    state = None if trouble is None else what
    if _last_trouble.get(aggregation) != state:
        if trouble is None:
            logger.warning("the percentiles of %s are computed by their function again", aggregation)
        else:
            logger.warning("the percentiles of %s %s: %s", aggregation, what, trouble)
    _last_trouble[aggregation] = state
