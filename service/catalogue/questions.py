"""What a question asks: which figures, by and of which dimensions, when, and in which order.

`service.catalogue.question_parameters` reads one from a query string.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Literal, get_args

import orjson

from chat_stats.service.catalogue.dimensions import Dimension
from chat_stats.service.catalogue.figures import DEFAULT_FIGURES, FIGURES
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import MAX_POINTS, Series

DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
MAX_GROUPS = 3

#: Raised when the rows or the metadata of answers change: an older entry must not be served.
FORMAT = 2

PREVIOUS = "previous"

Endpoint = Literal["query", "dimensions"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)


@dataclass(frozen=True, slots=True)
class Filter:
    """Requests whose dimension has one of these values, or (negated) none of them."""

    dimension: Dimension
    #: Sorted, each once. None is NULL; of models and providers: what is unresolved.
    values: tuple[str | None, ...]
    negated: bool = False
    #: Whether it is of a key's scope, of which what is outside must not even show in where a series begins.
    is_scope: bool = False

    @property
    def parameter(self) -> str:
        return self.dimension.name + ("!" if self.negated else "")

    def definition(self) -> list[Any]:
        """Return what it depends on, for cache keys."""
        return [self.dimension.definition(), self.values, self.negated, self.is_scope]


def digest_of(filters: Sequence[Filter]) -> str:
    """Return what tells these filters from all others; of bounded length."""
    text = orjson.dumps([each.definition() for each in filters])
    return blake2b(text, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Order:
    """By a figure or by a dimension's values; then by the dimensions in the order of the grouping."""

    by: str = "total_requests"
    descending: bool = True

    def __str__(self) -> str:
        return ("-" if self.descending else "") + self.by


@dataclass(frozen=True, slots=True)
class Question:
    """`figures` and `filters` are in one order however they were given, so that equals have one key."""

    figures: tuple[str, ...] = DEFAULT_FIGURES
    group_by: tuple[Dimension, ...] = ()
    filters: tuple[Filter, ...] = ()
    #: Of a series: its intervals, in the time zone `timezone`.
    bucket: str | None = None
    timezone: str = "UTC"
    order: Order = Order()
    #: Most groups, after the first `offset`.
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    #: Of a page after the first: when its window ended.
    as_of: datetime | None = None
    #: "previous": with the range of equal length before; a time: with the one that begins then.
    compare: Literal["previous"] | datetime | None = None
    #: Only values of the first dimension that begin with it.
    prefix: str | None = None
    endpoint: Endpoint = "query"
    #: It asks for these dimensions themselves, and for no figures.
    listed: tuple[Dimension, ...] = ()

    @property
    def series(self) -> Series | None:
        return None if self.bucket is None else Series(self.bucket, timezone=self.timezone)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """All that it groups or filters by, each once."""
        return tuple(dict.fromkeys((*self.group_by, *(filter_.dimension for filter_ in self.filters))))

    @property
    def most_points(self) -> int:
        """The most rows of an answer: a series has one for each interval of each group."""
        return self.limit if self.bucket is None else MAX_POINTS

    @property
    def computed(self) -> tuple[str, ...]:
        """The figures to compute: the one that it is ordered by too."""
        order = (self.order.by,) if self.order.by in FIGURES else ()
        return tuple(name for name in FIGURES if name in (*self.figures, *order))

    def key(self, range_: TimeRange) -> str:
        """Return the part of the cache key that tells it from all other queries; of bounded length."""
        return f"{key_name(self.endpoint)}:{range_.key()}:{self.digest()}"

    def digest(self, *, of_pages: bool = False) -> str:
        """Return what tells it from other questions; `of_pages`: the same for all pages of one."""
        text = orjson.dumps(
            [
                self.endpoint,
                self.figures,
                [each.definition() for each in self.group_by],
                [each.definition() for each in self.filters],
                self.bucket,
                self.timezone if self.bucket else None,
                str(self.order),
                self.limit,
                None if of_pages else [self.offset, self.as_of],
                self.compare,
                self.prefix,
                [each.definition() for each in self.listed],
            ],
            option=orjson.OPT_UTC_Z,
        )
        return blake2b(text, digest_size=16).hexdigest()


@cache
def key_name(endpoint: str) -> str:
    """Return how the keys of an endpoint begin: with a digest of the fields of its answers."""
    shape = orjson.dumps([FORMAT, [[figure.name, figure.type] for figure in FIGURES.values()]])
    return f"{endpoint}@{blake2b(shape, digest_size=4).hexdigest()}"
