"""The database's clock, as far as this process knows it.

Answers are dated by it alone: all processes see the same one, whatever their own clocks say. Each reads it
with every transaction, a service at least once a minute (`Database.keep_clock`), and goes on from there by
its monotonic clock. Until the database is reached, the clock of this machine is used instead.
"""

import time
from datetime import UTC, datetime

#: Seconds by which the database's clock may be set back without any effect, as by a failover.
CLOCK_SKEW_SECONDS = 5.0


class Clock:
    """One per process, shared by all its parts."""

    def __init__(self) -> None:
        #: Unix time of the database minus our monotonic time.
        self._ahead: float | None = None

    def read(self, moment: datetime, *, asked_at: float, answered_at: float) -> None:
        """Take the database's time, which it told between two moments of our monotonic clock.

        The clock changes only as far as the reply makes certain: a slow reply does not spoil an exact one.
        """
        unix = moment.timestamp()
        least, most = unix - answered_at, unix - asked_at
        # The most at first: no age is stated too low.
        self._ahead = most if self._ahead is None else min(max(self._ahead, least), most)

    def time(self) -> float:
        """Return the database's Unix time."""
        return time.time() if self._ahead is None else time.monotonic() + self._ahead

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def seconds_since(self, moment: datetime) -> float:
        """Return how long ago `moment` was; negative when it is in the future."""
        return self.time() - moment.timestamp()

    def is_newer(self, one: datetime, other: datetime) -> bool:
        """Return whether what was computed at `one` takes the place of what was computed at `other`.

        This is the one rule by which answers replace each other: in this process, in Redis, in a refresh, and
        in place of a computation. The later one is newer. But what is from the future, because the clock was
        set back since, is older than all that is not: else it would stay until the clock has caught up.
        """
        return (not self._is_future(one), one) > (not self._is_future(other), other)

    def _is_future(self, moment: datetime) -> bool:
        return self.seconds_since(moment) < -CLOCK_SKEW_SECONDS
