"""Publishes totals between two refreshes, as soon as requests were counted and while clients watch."""

import math
import time

from chat_stats.service.cache.refresh_report import RefreshReport
from chat_stats.service.stats import Stats
from chat_stats.worker import metrics

#: At most this share of the time goes to it: where totals take long to compute, they come less often.
SHARE = 0.2
#: How often within an interval it is looked whether they are due.
LOOKS = 2


class LiveTotals:
    """One per worker."""

    def __init__(self, stats: Stats, *, interval_seconds: float) -> None:
        self._stats = stats
        self._interval = interval_seconds
        self._not_before = 0.0

    async def publish_when_due(self) -> RefreshReport | None:
        """Publish if there is something new, and the last time was an interval ago. Raises `Unavailable`."""
        started = time.monotonic()
        if started < self._not_before:
            return None
        self._not_before = math.inf  # for as long as it takes, which may be longer than an interval
        report = None
        try:
            report = await self._stats.publish_totals()
        finally:
            seconds = time.monotonic() - started
            self._not_before = started + max(seconds / SHARE, self._interval if report is not None else 0)
        if report is not None:
            metrics.TOTALS_DURATION.observe(seconds)
        return report
