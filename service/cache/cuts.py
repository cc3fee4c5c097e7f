"""Cuts answers from the rows of larger entries, and keeps them as local copies until those change.

What is cut is stored nowhere else. It has all of its base but body and totals: how, when and in which
generation it was computed, and so its age and freshness.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import orjson

from chat_stats.service.cache.entry import Entry, body_of
from chat_stats.service.cache.local_cache import LocalCache
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query

#: Bytes of the bodies whose rows are kept parsed, in which they take about three times as much.
CAPACITY_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Parsed:
    generation: str
    rows: Any
    size: int


class Cuts:
    """The parsed bases of this process."""

    def __init__(self, local: LocalCache) -> None:
        self._local = local
        #: By the key of the base; the one used longest ago first.
        self._bases: OrderedDict[str, Parsed] = OrderedDict()

    def cut(self, query: Query, base: Query, entry: Entry) -> Entry | None:
        """Return the answer to `query`, cut from the entry of its base; None if that cannot answer it.

        It is as recent a local copy as that of the base is.
        """
        key, base_key = query.key(), base.key()
        known = self._local.last_good(key)
        if known is None or known.generation != entry.generation:
            known = self._make(query, base, entry)
        return known and self._local.put(key, known, taken_at=self._local.taken_at(base_key))

    def _make(self, query: Query, base: Query, entry: Entry) -> Entry | None:
        aggregation = AGGREGATIONS[query.aggregation]
        cut = aggregation.cut(query, base, self._rows(base.key(), entry), entry.totals)
        if cut is None:
            return None
        data, totals = cut
        unavailable = tuple(name for name in entry.unavailable if name in aggregation.fields)
        return replace(entry, body=body_of(data), totals=totals, unavailable=unavailable)

    def _rows(self, key: str, entry: Entry) -> Any:
        parsed = self._bases.pop(key, None)
        if parsed is None or parsed.generation != entry.generation:
            parsed = Parsed(entry.generation, orjson.loads(entry.body), len(entry.body))
        self._bases[key] = parsed
        while len(self._bases) > 1 and sum(each.size for each in self._bases.values()) > CAPACITY_BYTES:
            self._bases.popitem(last=False)
        return parsed.rows
