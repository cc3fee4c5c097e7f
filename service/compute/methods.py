"""The methods, what makes one step down to the next, and what the log says of them."""

import logging
from collections import Counter
from enum import StrEnum

import asyncpg

from chat_stats.service.observability import metrics

logger = logging.getLogger(__name__)


class Method(StrEnum):
    RPC = "rpc"
    OPTIMIZED = "fallback_optimized"
    WITH_COUNTS = "fallback_with_counts"
    SLICES = "fallback"
    #: Questions by any dimension: one statement over the requests, with no function above it.
    QUERY = "query"


#: The ladder, cheapest last.
LADDER = (Method.RPC, Method.OPTIMIZED, Method.WITH_COUNTS, Method.SLICES)
#: They know only how many requests there are.
ONLY_COUNTS = (Method.WITH_COUNTS, Method.SLICES)


class WrongColumns(Exception):
    """A function of the right name returned other columns or values: it is not the one that we install."""


#: Errors of a method's statement that the next method may avoid. Any other ends the computation.
_REFUSED = (
    asyncpg.QueryCanceledError,  # its statement timeout
    asyncpg.InsufficientPrivilegeError,  # on a column or function that the next one does not use
    asyncpg.InsufficientResourcesError,  # out of memory or temporary space
    asyncpg.ProgramLimitExceededError,
)
STEP_DOWN: dict[Method, tuple[type[Exception], ...]] = {
    # Whatever goes wrong inside a function is about the function, except that the tables are missing.
    Method.RPC: (asyncpg.PostgresError, WrongColumns),
    Method.OPTIMIZED: _REFUSED,
    Method.WITH_COUNTS: (asyncpg.QueryCanceledError,),
    Method.SLICES: (),
}


class MethodLog:
    """Says once when an aggregation's method changes, instead of at every computation."""

    def __init__(self) -> None:
        self._last: dict[str, Method] = {}
        self.fallbacks: Counter[str] = Counter()

    def record(self, aggregation: str, method: Method, reason: str | None) -> None:
        if method is not Method.RPC:
            self.fallbacks[method] += 1
        if self._last.get(aggregation, Method.RPC) is method:
            return
        self._last[aggregation] = method
        metrics.method_changed(aggregation, method)
        if method is Method.RPC:
            logger.warning("%s is computed by rpc again", aggregation)
        else:
            logger.warning("%s is computed by %s: %s", aggregation, method, reason)


METHOD_LOG = MethodLog()
