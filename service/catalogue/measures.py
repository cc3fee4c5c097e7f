"""What is counted of the requests: each measure is declared here, once.

The templates in `sql/` and `service/database/queries/` repeat what is declared: tables, trigger, fold, reads,
repair and plain statements follow. A further measure is a further line of `MEASURES`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chat_stats.service.catalogue.rollups import DIMENSIONS, PREFIX, TIERS
from chat_stats.service.errors import SchemaError


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the gateway's requests from which measures are made."""

    name: str
    #: What our statements call it, where that is shorter.
    alias: str | None = None
    #: Some gateways lack it: then it is NULL in each request.
    optional: bool = False
    #: NaN, infinities and what is beyond reason count as NULL.
    bounded: bool = False

    @property
    def called(self) -> str:
        return self.alias or self.name


#: How a measure is made: it counts all requests, those whose status means success or pending, or those in
#: which a column is not NULL; or it adds the column up. All fold by addition.
Kind = Literal["requests", "success", "pending", "count", "sum"]


@dataclass(frozen=True, slots=True)
class Measure:
    """`name` in the rollup's tables, `total` in what functions and statements return."""

    name: str
    total: str
    kind: Kind
    column: Column | None = None

    @property
    def type(self) -> str:
        return "numeric" if self.kind == "sum" else "bigint"  # the sum of bigint is beyond bigint

    @property
    def by_status(self) -> bool:
        """Whether it counts the requests whose status means what `kind` says."""
        return self.kind in ("success", "pending")


TIME = Column("processing_time_ms", alias="time_ms", bounded=True)

MEASURES = (
    Measure("requests", "total_requests", "requests"),
    Measure("successful", "successful_requests", "success"),
    Measure("pending", "pending_requests", "pending"),
    Measure("input_tokens", "total_input_tokens", "sum", Column("input_tokens")),
    Measure("output_tokens", "total_output_tokens", "sum", Column("output_tokens")),
    Measure("timed", "timed_requests", "count", TIME),
    Measure("time_ms", "total_processing_time_ms", "sum", TIME),
    Measure("cost_usd", "total_cost_usd", "sum", Column("cost_usd", optional=True, bounded=True)),
)

#: Those on which the answers and the histograms of times rely.
NEEDED = tuple(measure.name for measure in MEASURES)

#: What our tables and statements call other things than measures.
_TAKEN = {
    *DIMENSIONS,
    *(tier.time for tier in TIERS),
    "id",
    "status",
    "created_at",
    "bucket",
    "times",
    "slot",
    "slots",
    "bin",
    "bins",
    "bin_slots",
    "bins_ascend",
}
_TAKEN |= {"n", "counts", "sign", "first", "last", "total", "member", "interval_start"}


def columns(measures: Sequence[Measure]) -> list[Column]:
    """Return the columns that the measures are made from, each once."""
    return list(dict.fromkeys(measure.column for measure in measures if measure.column is not None))


def check(measures: Sequence[Measure]) -> None:
    """Raise `SchemaError` for a declaration that no table could hold."""
    for measure in measures:
        if (measure.kind in ("count", "sum")) != (measure.column is not None):
            raise SchemaError(f"measure {measure.name}: a {measure.kind} is made from a column")
    names = [name for measure in measures for name in dict.fromkeys((measure.name, measure.total))]
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"measure {name}: the name is declared twice")
        if name in _TAKEN or name.startswith(PREFIX):
            raise SchemaError(f"measure {name}: our statements have another use for this name")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
            raise SchemaError(f"measure {name}: a name has lower-case letters, digits and _")
    for name in NEEDED:
        if name not in names:
            raise SchemaError(f"the measure {name} is missing: statistics are made from it")
