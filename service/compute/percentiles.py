"""Percentiles of the times, which answers get by a second statement in the snapshot of the first.

    chat_stats_level_percentiles()   beside `rpc`
    one plain statement              beside `fallback_optimized`, and where the function is at fault

Both give the same row for each group. When neither can, the answer keeps its method, and the percentiles are
0 and named as unavailable. (Also where only the plain one would do, once requests were purged.)

One statement has those of all groups that the answers of a range need: of models, of providers, of all.
"""

import logging
from collections.abc import Sequence

import asyncpg

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.rows import PERCENTILE_FIELDS, Row
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.look import look
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot

logger = logging.getLogger(__name__)

#: By what is grouped (none, provider, model) -> id of the group as text (None: of all) -> its percentiles.
Groups = dict[str, dict[str | None, Row]]

#: $1, $2: the range; $3, $4, $5: filters by provider, model and name of a model; $6: what to group by. All
#: arguments are given, with their types: a default would let another function fit better. (Floats are
#: decoded faster than numerics.)
CALL = (
    f"SELECT level, group_id, {', '.join(f'{name}::double precision' for name in PERCENTILE_FIELDS)} "  # noqa: S608
    "FROM stats_schema.chat_stats_level_percentiles("
    "$6::text[], $1::timestamptz, $2::timestamptz, $3::text, $4::text, $5::text)"
)

#: After these the plain statement would do no better.
_EXHAUSTED = (
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ProgramLimitExceededError,
)

_last_trouble: dict[str, str | None] = {}


async def percentiles(
    snapshot: Snapshot, query: Query, groupings: Sequence[str], *, plain: bool, deadline: Deadline
) -> Groups | None:
    """Return the percentiles by each of the groupings; None: they cannot be known.

    `plain`: by the plain statement, without trying the function. Raises `Unavailable` on an outage.
    """
    trouble = None
    for with_function in (False,) if plain else (True, False):
        try:
            if with_function:
                groups = await _read(CALL, snapshot, query, groupings, deadline)
            elif (await look(snapshot, timeout=deadline.left())).has_purged:
                trouble = trouble or "only their function knows of requests that were purged"
                break
            else:
                groups = await _read(queries.load("percentiles"), snapshot, query, groupings, deadline)
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


async def _read(
    statement: str, snapshot: Snapshot, query: Query, groupings: Sequence[str], deadline: Deadline
) -> Groups:
    arguments = (*query.range.bounds(snapshot.now), *query.filters, groupings)
    groups: Groups = {grouping: {} for grouping in groupings}
    for record in await snapshot.fetch(statement, *arguments, timeout=deadline.left()):
        groups[record["level"]][record["group_id"]] = {
            name: float(record[name]) for name in PERCENTILE_FIELDS
        }
    return groups


def _say_once(aggregation: str, trouble: str | None, what: str) -> None:
    """Log a warning when what is wrong with the percentiles has changed."""
    state = None if trouble is None else what
    if _last_trouble.get(aggregation) != state:
        if trouble is None:
            logger.warning("the percentiles of %s are computed by their function again", aggregation)
        else:
            logger.warning("the percentiles of %s %s: %s", aggregation, what, trouble)
    _last_trouble[aggregation] = state
