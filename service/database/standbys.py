"""Hot standbys: which of them is read, and up to which time of the primary it had replayed.

A standby knows when the last transaction that it replayed was committed, which says little of a primary that
commits none. So each process notes how far the primary's log is at a time: a standby that has replayed up to
there has all that was committed until then. Both times are by the primary's clock, and neither is later than
what is true, whether the standby is slow, paused, or cut off from its primary.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.connecting.postgres_hosts import host_of, url_of_each_host
from chat_stats.service.database.server import PooledConnection, Server, only_row
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import DatabaseUnavailable
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: Positions of the primary's log that are remembered, and the least time between two.
POSITIONS = 1000
POSITIONS_APART = timedelta(seconds=0.25)

# A position as a number; of one inserted, and not only written: a commit is seen before it is on disk.
_NUMBER = "pg_catalog.pg_wal_lsn_diff({}, '0/0'::pg_catalog.pg_lsn)::pg_catalog.int8 AS position"
_POSITION = f"""
SELECT
    pg_catalog.now() AS now,
    pg_catalog.pg_postmaster_start_time() AS started_at,
    {_NUMBER.format("pg_catalog.pg_current_wal_insert_lsn()")}
"""
_REPLAYED = f"""
SELECT
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    pg_catalog.pg_postmaster_start_time() AS started_at,
    {_NUMBER.format("pg_catalog.pg_last_wal_replay_lsn()")},
    pg_catalog.pg_last_xact_replay_timestamp() AS committed_at
"""


class Positions:
    """How far the primary's log was at which time."""

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        self._noted: deque[tuple[datetime, int]] = deque(maxlen=POSITIONS)
        self._notes = SingleFlight[None]()
        #: When the primary started, which tells it from one that was a standby; None: it does not answer.
        self.started_at: datetime | None = None

    async def note(self) -> None:
        """Ask the primary, if it answers; concurrent callers share a question."""
        await self._notes.run(None, self._note)

    def reached(self, position: int | None) -> datetime | None:
        """Return the latest noted time by which the log was not further than that."""
        if position is None:
            return None
        return next((moment for moment, noted in reversed(self._noted) if noted <= position), None)

    async def close(self) -> None:
        await self._notes.close()

    async def _note(self) -> None:
        try:
            found = await self._primary.ask(_POSITION)
        except (DatabaseUnavailable, asyncpg.PostgresError):  # the latter: it has become a standby itself
            self.started_at = None
            return
        self.started_at = found["started_at"]
        noted = self._noted
        unchanged = len(noted) > 0 and noted[-1][1] == found["position"]
        if unchanged or (len(noted) > 1 and noted[-1][0] - noted[-2][0] < POSITIONS_APART):
            noted.pop()
        noted.append((found["now"], found["position"]))


class Standby(Server):
    """A server of `CHAT_STATS_READ_DATABASE_URL`; its snapshots' `now` is up to when it had replayed."""

    def __init__(self, settings: Settings, url: str, primary: Server, positions: Positions) -> None:
        super().__init__(settings, url, application_name=primary.application_name, clock=primary.clock)
        self.host = host_of(url)
        self._prefix = f"standby {self.host}: "
        self._positions = positions

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Snapshot]:
        async with super().transaction() as snapshot:
            try:
                yield snapshot
            except DatabaseUnavailable as error:
                # Replay cancelled a statement, or the standby was lost: the next attempt reads elsewhere.
                if self._outage is None:
                    logger.warning("%s%s", self._prefix, error)
                self._outage = error
                self._pause()
                raise

    async def _begin(self, connection: "PooledConnection[asyncpg.Record]") -> Snapshot:
        # Before there is a snapshot: what is replayed after this one is no part of it.
        found = await only_row(connection, _REPLAYED)
        snapshot = await super()._begin(connection)
        if found["in_recovery"]:
            known = (found["committed_at"], self._positions.reached(found["position"]))
            as_of = max(filter(None, known), default=None)
            if as_of is None:
                raise DatabaseUnavailable("how far the standby is behind is not known yet")
            snapshot.now = min(as_of, self.clock.now())
            snapshot.of_standby = True
        elif self._positions.started_at not in (None, found["started_at"]):
            raise DatabaseUnavailable("the standby was promoted, and the primary still answers")
        return snapshot

    def _read_clock(self, now: datetime, asked_at: float, answered_at: float) -> None:
        """Leave the clock alone: it is the primary's."""


@dataclass(frozen=True, slots=True)
class StandbyHealth:
    #: Host and port, for operators only.
    host: str
    #: None: it cannot be read.
    lag_seconds: float | None = None
    #: Why it is not read, also where it answers.
    trouble: str | None = None


class Standbys:
    """All servers of `CHAT_STATS_READ_DATABASE_URL`, which take turns; often none."""

    def __init__(self, settings: Settings, primary: Server) -> None:
        self._clock = primary.clock
        self._most_seconds = settings.standby_lag_seconds
        self._positions = Positions(primary)
        url = settings.read_database_url
        urls = [] if url is None else url_of_each_host(url.get_secret_value())
        self._servers = [Standby(settings, url, primary, self._positions) for url in urls]
        self._turn = 0

    async def open(self) -> None:
        for standby in self._servers:
            await standby.open()

    async def close(self) -> None:
        await self._positions.close()
        for standby in self._servers:
            await standby.close()

    async def note_position(self) -> None:
        """Note how far the primary is, so that the lag is known later."""
        if self._servers:
            await self._positions.note()

    async def begin(self, stack: AsyncExitStack) -> tuple[Snapshot | None, Standby | None]:
        """Begin a transaction, which ends with `stack`, on the next standby that is not too far behind.

        Returns that and, where there is none, one that answers but is too far behind.
        """
        await self.note_position()
        behind = None
        self._turn += 1
        for number in range(len(self._servers)):
            standby = self._servers[(self._turn + number) % len(self._servers)]
            async with AsyncExitStack() as attempt:
                try:
                    snapshot = await attempt.enter_async_context(standby.transaction())
                except DatabaseUnavailable:
                    continue
                if self._lag_seconds(snapshot) <= self._most_seconds:
                    await stack.enter_async_context(attempt.pop_all())
                    return snapshot, None
                behind = behind or standby
        return None, behind

    async def look(self, *, seconds: float | None) -> list[StandbyHealth]:
        """Return how far each is behind, in the order of the setting."""
        try:
            async with asyncio.timeout(seconds):
                await self.note_position()
                return await asyncio.gather(*map(self._look_at, self._servers))
        except TimeoutError:
            return [StandbyHealth(standby.host, trouble="it does not answer") for standby in self._servers]

    async def _look_at(self, standby: Standby) -> StandbyHealth:
        try:
            async with standby.transaction() as snapshot:
                lag_seconds = self._lag_seconds(snapshot)
        except DatabaseUnavailable as error:
            return StandbyHealth(standby.host, trouble=str(error))
        late = lag_seconds > self._most_seconds
        trouble = f"it is more than {self._most_seconds:g} s behind" if late else None
        return StandbyHealth(standby.host, round(lag_seconds, 3), trouble)

    def _lag_seconds(self, snapshot: Snapshot) -> float:
        return max(0.0, self._clock.seconds_since(snapshot.now))
