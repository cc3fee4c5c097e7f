"""Postgres: which server answers what, and how much of it is used at a time.

The primary has the locks, and answers health checks and commands. Statistics and single requests are read
from a standby, where there are some (`service.database.standbys`).
"""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import asyncpg

from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database import queries
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.errors import unreachable
from chat_stats.service.database.server import FAILURES, WRITTEN_BY, Hosts, Server
from chat_stats.service.database.snapshot import Lock, Snapshot
from chat_stats.service.database.standbys import Standbys
from chat_stats.service.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    RefreshRunning,
    RowsHidden,
    SchemaError,
)
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: First half of the key of our advisory locks: "csts" in ASCII.
LOCK_CLASS = 0x63737473

#: Seconds after which the database's clock is read again.
CLOCK_SECONDS = 60.0


#: For what writes our tables, in a session of its own, whatever the database is set to: a serializable fold
#: would conflict with the gateway's serializable writes, and either could fail.
READ_COMMITTED = "SET default_transaction_isolation = 'read committed'"


async def connect(settings: Settings, *, application_name: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection of its own for a command; `DatabaseUnavailable` says why it cannot be had."""
    try:
        return await Hosts(settings.database_url.get_secret_value()).connect(
            timeout=settings.connect_timeout_seconds,
            statement_cache_size=0,
            server_settings={"application_name": application_name, **WRITTEN_BY},
        )
    except FAILURES as error:
        raise unreachable(error) from error


class Database:
    """The primary and its standbys."""

    def __init__(self, settings: Settings, *, application_name: str, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._settings = settings
        url = settings.database_url.get_secret_value()
        self._primary = Server(settings, url, application_name=application_name, clock=self.clock)
        self.standbys = Standbys(settings, self._primary)
        self._slots = asyncio.Semaphore(settings.max_live_computations)
        self._export_slots = asyncio.Semaphore(settings.max_exports)
        self._probes = SingleFlight[None]()
        self._compared_statuses = False

    async def open(self) -> None:
        await self._primary.open()
        await self.standbys.open()

    async def close(self) -> None:
        await self._probes.close()
        await self.standbys.close()
        await self._primary.close()

    async def check(self) -> None:
        """Raise what `transaction` and `check_tables` raise."""
        async with self.transaction(reads=False) as snapshot:
            await self.check_tables(snapshot)

    async def check_tables(self, snapshot: Snapshot) -> None:
        """Raise `SchemaError` when a table of the gateway is missing, `RowsHidden` when it hides rows."""
        missing = [table for table, schema in snapshot.names.gateway.items() if schema is None]
        if missing:
            raise SchemaError(
                f"the database lacks the table(s) {', '.join(missing)}; run: chat-stats migrate"
            )
        if snapshot.secured:
            await self._require_all_rows(snapshot)

    async def probe(self) -> None:
        """Raise `DatabaseUnavailable` when the database does not answer; concurrent callers share a probe."""
        await self._probes.run(None, self._probe)

    async def keep_clock(self) -> None:
        """Read the database's clock again and again, for a process that asks the database nothing else."""
        while True:
            with suppress(DatabaseUnavailable):
                async with self.transaction(reads=False):
                    pass
                await self.standbys.note_position()
            await asyncio.sleep(CLOCK_SECONDS)

    async def _probe(self) -> None:
        async with AsyncExitStack() as stack:
            await self._begin_reading(stack)

    @asynccontextmanager
    async def snapshot(self, *, wait_seconds: float, export: bool = False) -> AsyncIterator[Snapshot]:
        """Open a snapshot, waiting at most `wait_seconds` for one of the slots for live computations.

        An `export`, which takes long, waits for one of its own instead, and takes none from them.
        """
        slots = self._export_slots if export else self._slots
        try:
            async with asyncio.timeout(wait_seconds):
                await slots.acquire()
        except TimeoutError:
            kind = "exports" if export else "live computations"
            raise DatabaseBusy(f"too many {kind} are under way") from None
        try:
            async with AsyncExitStack() as stack:
                snapshot = await self._begin_reading(stack)
                await self._check_reading(snapshot)
                yield snapshot
        finally:
            slots.release()

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[Lock]:
        """Hold the lock of that name; `RefreshRunning` when another process does."""
        # Longer than the longest computation of a refresh, between two of which it is kept.
        idle_ms = round((4 * self._settings.refresh_timeout_seconds + 60) * 1000)
        async with self.transaction(reads=False) as holder:
            records = await holder.fetch(_LOCK, LOCK_CLASS, _lock_number(name), str(idle_ms), timeout=5)
            if not records[0]["locked"]:
                found = await holder.fetch(_OTHER_ROLE, LOCK_CLASS, _lock_number(name), timeout=5)
                by = "".join(
                    f"; the role {row['role']} holds its lock (to end its session: "
                    f"SELECT pg_terminate_backend({row['pid']}))"
                    for row in found
                )
                raise RefreshRunning(f"another refresh is under way{by}")
            yield Lock(holder.connection)

    async def is_locked(self, name: str, snapshot: Snapshot) -> bool:
        """Return whether a process holds the lock of that name now, later than when the snapshot was opened.

        The check keeps no process from taking it.
        """
        async with AsyncExitStack() as stack:
            looking = snapshot  # it sees the locks as they are
            if snapshot.of_standby:  # the locks are on the primary
                looking = await stack.enter_async_context(self.transaction(reads=False))
            return bool(await looking.fetch(_HOLDERS, LOCK_CLASS, _lock_number(name), timeout=5))

    @asynccontextmanager
    async def transaction(self, *, reads: bool = True) -> AsyncIterator[Snapshot]:
        """Open a REPEATABLE READ, READ ONLY transaction on the primary.

        One that `reads` the three tables raises `RowsHidden` when row level security keeps rows from our
        role: their statistics would be wrong.
        """
        async with self._primary.transaction() as snapshot:
            if reads:
                await self._check_reading(snapshot)
            yield snapshot

    async def _begin_reading(self, stack: AsyncExitStack) -> Snapshot:
        """Begin a transaction, which ends with `stack`, on a standby that is not too far behind.

        Else on the primary. When that does not answer either, one that is further behind has to do: its
        answers say how old they are.
        """
        snapshot, behind = await self.standbys.begin(stack)
        if snapshot is not None:
            return snapshot
        try:
            return await stack.enter_async_context(self._primary.transaction())
        except DatabaseUnavailable:
            if behind is None:
                raise
            return await stack.enter_async_context(behind.transaction())

    async def _check_reading(self, snapshot: Snapshot) -> None:
        if snapshot.secured:
            await self._require_all_rows(snapshot)
        if not self._compared_statuses:
            await self._compare_statuses(snapshot)

    async def _compare_statuses(self, snapshot: Snapshot) -> None:
        """Log, once, if the functions know other statuses than our settings. Readiness goes on saying so."""
        self._compared_statuses = True
        with suppress(asyncpg.PostgresError):  # not migrated yet, or no right to
            [(held,)] = await snapshot.fetch(STATUSES, timeout=self._settings.connect_timeout_seconds)
            if trouble := self._settings.statuses.trouble(held):
                logger.warning("%s", trouble)

    async def _require_all_rows(self, snapshot: Snapshot) -> None:
        """Raise `RowsHidden` unless our role sees all rows of the tables that have row level security."""
        timeout = self._settings.connect_timeout_seconds
        try:
            [found] = await snapshot.fetch(queries.load("rows_hidden"), snapshot.secured, timeout=timeout)
        except asyncpg.PostgresError as error:
            raise unreachable(error) from error
        if found["tables"]:
            raise RowsHidden(
                f"row level security hides rows of {', '.join(found['tables'])} from the role "
                f"{found['role']}: it needs BYPASSRLS, or, while no requests were purged, a policy "
                "USING (true) on each of them"
            )


STATUSES = "SELECT stats_schema.chat_stats_statuses()::text"

_LOCK = """
SELECT
    pg_try_advisory_xact_lock($1, $2) AS locked,
    set_config('idle_in_transaction_session_timeout', $3, true)
"""

_HOLDERS = """
SELECT l.pid, a.usename::text AS role
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  AND l.classid = $1::integer::oid AND l.objid = $2::integer::oid
"""

# Any role can take an advisory lock: one of another role is named.
_OTHER_ROLE = f"{_HOLDERS}  AND a.usename <> current_user"


def _lock_number(name: str) -> int:
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
