"""Whether there is something new to compute, where that can be told at little cost: with the rollup on."""

from datetime import datetime

import asyncpg

from chat_stats.service.database import queries
from chat_stats.service.database.errors import reading_error
from chat_stats.service.database.snapshot import Snapshot


class Changes:
    """What this process has seen of the changes to the rollup."""

    def __init__(self) -> None:
        self._folded_at: datetime | None = None
        #: How many waited to be folded: when it last looked, and in what was published last.
        self._found = 0
        self._published = 0

    def folded(self, now: datetime) -> None:
        """Remember that some were folded: they wait no longer."""
        self._folded_at = now

    async def are_new(self, snapshot: Snapshot, *, timeout: float) -> bool:
        """Return whether the rollup is read, and has changes that were not published."""
        query = queries.load("changes_citus" if snapshot.in_citus else "changes")
        try:
            [found] = await snapshot.fetch(query, timeout=timeout, keeps_plan=True)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError):  # there is no rollup
            return False
        except asyncpg.PostgresError as error:
            raise reading_error(
                error, timed_out="the rollup's changes took too long", failed="the rollup cannot be read"
            ) from error
        self._found = found["waiting"]
        is_new = self._folded_at is not None or self._found not in (0, self._published)
        return bool(found["ready"]) and is_new

    def published(self, snapshot: Snapshot) -> None:
        """Remember that what the snapshot has was published."""
        self._published = self._found
        # A standby may not have replayed what was folded.
        if self._folded_at is not None and snapshot.now >= self._folded_at:
            self._folded_at = None
