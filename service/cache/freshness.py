"""How old an answer may be: what is fresh, what is stale, and how long it is kept."""

from datetime import datetime
from enum import StrEnum

from chat_stats.service.cache.entry import Entry, Generation
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.database.clock import CLOCK_SKEW_SECONDS, Clock
from chat_stats.service.settings import Settings

#: Seconds for which answers that the worker does not keep computed are kept as stale.
UNPLANNED_STALE_SECONDS = 600.0


class CacheState(StrEnum):
    """Where an answer came from, as `metadata.cache` states it."""

    HIT = "hit"
    MISS = "miss"
    #: Older than it should be, served anyway.
    STALE = "stale"
    #: Computed live without a cache, because Redis does not answer.
    BYPASS = "bypass"


class Freshness:
    """The rules that the settings make."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._longest_stale = settings.fresh_seconds + settings.stale_seconds
        self._refreshed_at: datetime | None = None

    def refreshed(self, generation: Generation) -> None:
        """Remember the last refresh of everything: answers on demand from before it are stale."""
        self._refreshed_at = generation.computed_at

    def state(self, entry: Entry) -> CacheState | None:
        """Return how `entry` may be served now; None: it is too old."""
        seconds = self._clock.seconds_since(entry.computed_at)
        if -CLOCK_SKEW_SECONDS <= seconds <= self._settings.fresh_seconds and not self._is_outdated(entry):
            return CacheState.HIT
        # An entry from the future is stale: the clock was set back, and its age is not known.
        return CacheState.STALE if seconds <= self._longest_stale else None

    def _is_outdated(self, entry: Entry) -> bool:
        """Return whether it is of before the last refresh, which did not replace it."""
        return (
            entry.on_demand
            and self._refreshed_at is not None
            and self._clock.is_newer(self._refreshed_at, entry.computed_at)
        )

    def keeps(self, query: Query) -> bool:
        """Return whether the worker keeps the whole of what `query` asks a part of."""
        return AGGREGATIONS[query.aggregation].kept_computed and query.range.window in self._settings.windows

    def lifetime(self, query: Query) -> float | None:
        """Return how long to keep a live answer; None: as long as what the worker computes.

        Clients choose ranges and filters freely: those answers are kept briefly, so that they do not fill
        Redis.
        """
        if self.keeps(query) and query.is_whole:
            return None
        return self._settings.fresh_seconds + min(UNPLANNED_STALE_SECONDS, self._settings.stale_seconds)
