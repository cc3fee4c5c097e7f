"""What a key may read: filters that no request can leave."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chat_stats.service.catalogue.aggregation import AGGREGATIONS, Query
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.errors import NotPermitted

#: One value each of some dimensions, in the order of their names. Empty: everything.
Scope = tuple[Filter, ...]


def within(filters: Sequence[Filter], scope: Scope) -> tuple[Filter, ...]:
    """Return filters that let through what both these and the scope let through.

    A filter and a scope of the same dimension become one filter, by the values that are in both.
    """
    found = {(each.dimension, each.negated): each for each in filters}
    for each in scope:
        given = found.get((each.dimension, False), each)
        values = tuple(value for value in given.values if value in each.values)
        found[each.dimension, False] = Filter(each.dimension, values, is_scope=True)
    return _sorted(found.values())


def query_within(query: Query, scope: Scope) -> Query:
    """Return the query that asks for no more than the scope has: cache key and ETag follow from it.

    A question got its scope where it was parsed, since its cursor depends on it: this only checks that.
    """
    if not scope:
        return query
    question = query.question
    if question is None:
        aggregation = AGGREGATIONS[query.aggregation]
        if not aggregation.is_series and aggregation.from_usage is None:
            raise NotPermitted(f"{query.aggregation} cannot be scoped, and this key has a scope")
        return replace(query, where=within(query.where, scope))
    if question.filters != within(question.filters, scope):
        raise NotPermitted("the question leaves the scope of this key")
    return query


def _sorted(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    return tuple(sorted(filters, key=lambda each: (each.dimension.name, each.negated)))
