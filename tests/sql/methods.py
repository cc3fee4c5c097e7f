"""Answers by one method of the ladder, whether or not one above it would do."""

from typing import Any

from chat_stats.service.catalogue.aggregation import Totals
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.compute import answers, ladder, own_function
from chat_stats.service.compute.methods import LADDER, Method
from chat_stats.service.database.snapshot import Snapshot

#: Seconds for each statement.
TIMEOUT = 20.0


async def run(method: Method, snapshot: Snapshot, query: Query) -> tuple[Any, tuple[str, ...]]:
    """Return what `method` says, and the fields that it does not know."""
    data, _, unavailable = await run_with_metadata(method, snapshot, query)
    return data, unavailable


async def run_with_metadata(
    method: Method, snapshot: Snapshot, query: Query
) -> tuple[Any, Totals, tuple[str, ...]]:
    aggregation = AGGREGATIONS[query.aggregation]
    if aggregation.from_usage is None:
        query = await own_function.with_bounds(snapshot, query, TIMEOUT)
        way = own_function.call if method is Method.RPC else own_function.plain
        data = await way(snapshot, query, aggregation, TIMEOUT)
        return data, query.metadata(data, {}), own_function.without_cost(data)
    groupings = () if aggregation.percentiles_by is None else (aggregation.percentiles_by,)
    timeout = TIMEOUT * 2 ** len(LADDER)
    found = await ladder.find_by(method, snapshot, query, groupings, timeout=timeout)
    return await answers.answer(snapshot, query, found, timeout=timeout)
