"""What computing a query gives."""

from dataclasses import dataclass

from chat_stats.service.catalogue.aggregations import Totals
from chat_stats.service.catalogue.rows import Data
from chat_stats.service.compute.methods import Method


@dataclass(frozen=True, slots=True)
class Computed:
    """The numbers of one query, and how they came about."""

    data: Data
    totals: Totals
    method: Method
    compute_ms: float
    #: Fields that the method cannot know; they are 0 in `data` and `totals`.
    unavailable: tuple[str, ...] = ()
    #: "15m": an edge of the range lies where requests were purged, and is no more exact than that.
    precision: str | None = None
