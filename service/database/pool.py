"""Postgres: the connection pool, and who may use how much of it."""

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database import queries
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.errors import OUTAGES, unreachable
from chat_stats.service.database.names import Begun, begin
from chat_stats.service.database.snapshot import GRACE_SECONDS, Lock, Snapshot, drop
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

#: Seconds after a failure to connect during which no request tries again: a server that hangs must not make
#: every request wait. After them, one request at a time tries whether it is back.
PAUSE_SECONDS = 1.0

#: Seconds after which the database's clock is read again.
CLOCK_SECONDS = 60.0

#: Seconds that a connection gets at least for its first replies, however long it took to open it.
BEGIN_SECONDS = 0.3


async def connect(settings: Settings, *, application_name: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection of its own for a command; `DatabaseUnavailable` says why it cannot be had."""
    try:
        return await asyncpg.connect(
            settings.database_url.get_secret_value(),
            timeout=settings.connect_timeout_seconds,
            statement_cache_size=0,
            server_settings={"application_name": application_name, "timezone": "UTC"},
        )
    except (TimeoutError, ValueError, asyncpg.PostgresError, *OUTAGES) as error:
        raise unreachable(error) from error


class Database:
    """The pool. Nothing connects before it is needed, so a service starts without its database."""

    def __init__(self, settings: Settings, *, application_name: str, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._settings = settings
        self._application_name = application_name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._slots = asyncio.Semaphore(settings.max_live_computations)
        self._export_slots = asyncio.Semaphore(settings.max_exports)
        self._outage: DatabaseUnavailable | None = None
        self._paused_until = 0.0
        self._probes = SingleFlight[None]()
        self._compared_statuses = False

    async def open(self) -> None:
        settings = self._settings
        self._pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=0,
            # One per computation and export, one each for a lock, health checks, probes and scoped keys.
            max_size=settings.max_live_computations + settings.max_exports + 4,
            max_inactive_connection_lifetime=60,
            timeout=settings.connect_timeout_seconds,
            statement_cache_size=0,  # so that it also works through a transaction-pooling proxy
            server_settings={"application_name": self._application_name, "timezone": "UTC"},
            reset=_nothing_to_reset,
        )

    async def close(self) -> None:
        await self._probes.close()
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), timeout=2)
            except TimeoutError:
                self._pool.terminate()
            self._pool = None

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
                await self.probe()
            await asyncio.sleep(CLOCK_SECONDS)

    async def _probe(self) -> None:
        async with self.transaction(reads=False):
            pass

    @asynccontextmanager
    async def snapshot(self, *, wait_seconds: float, export: bool = False) -> AsyncIterator[Snapshot]:
        """Open a snapshot, waiting at most `wait_seconds` for one of the slots for live computations.

        An `export`, which takes long, waits for one of its own instead, and takes none from them.
        """
        slots = self._export_slots if export else self._slots
        try:
            await asyncio.wait_for(slots.acquire(), wait_seconds)
        except TimeoutError:
            kind = "exports" if export else "live computations"
            raise DatabaseBusy(f"too many {kind} are under way") from None
        try:
            async with self.transaction() as snapshot:
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

    @asynccontextmanager
    async def transaction(self, *, reads: bool = True) -> AsyncIterator[Snapshot]:
        """Open a REPEATABLE READ, READ ONLY transaction.

        One that `reads` the three tables raises `RowsHidden` when row level security keeps rows from our
        role: their statistics would be wrong.
        """
        self._check_outage()
        # One deadline for both, since the caller waits for both: the connection and its first reply.
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_seconds
        connection = await self._acquire()
        try:
            begun = await self._begin(connection, deadline)
            snapshot = Snapshot(connection, begun.names, begun.now, begun.secured)
            if reads and snapshot.secured:
                await self._require_all_rows(snapshot)
            if reads and not self._compared_statuses:
                await self._compare_statuses(snapshot)
            yield snapshot
        finally:
            await self._end(connection)

    def _check_outage(self) -> None:
        """Raise the outage that is known, unless it is time to look again."""
        if self._outage is None:
            return
        if time.monotonic() < self._paused_until:
            raise DatabaseUnavailable(str(self._outage))
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _failed(self, error: BaseException) -> DatabaseUnavailable:
        trouble = unreachable(error)
        if isinstance(error, asyncpg.TooManyConnectionsError):
            return trouble  # the connections that we have are as good as before
        if self._outage is None:
            logger.warning("%s (%s)", trouble, type(error).__name__)
        self._outage = trouble
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        return trouble

    def _works(self) -> None:
        if self._outage is not None:
            logger.warning("the database answers again")
        self._outage = None

    async def _acquire(self) -> "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]":
        if self._pool is None:
            raise DatabaseUnavailable("the connection pool is closed")
        try:
            return await self._pool.acquire(timeout=self._settings.connect_timeout_seconds)
        except (TimeoutError, ValueError, asyncpg.PostgresError, *OUTAGES) as error:
            raise self._failed(error) from error

    async def _begin(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", deadline: float
    ) -> Begun:
        lock_timeout_ms = round(self._settings.connect_timeout_seconds * 1000)
        try:
            async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + BEGIN_SECONDS)):
                asked_at = time.monotonic()
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                answered_at = time.monotonic()
                begun = await begin(
                    connection,
                    {**_SETTINGS, "lock_timeout": str(lock_timeout_ms)},
                    self._settings.statuses,
                )
                await connection.execute("SAVEPOINT statement")
        except TimeoutError as error:
            drop(connection)
            raise self._failed(error) from None
        except (asyncpg.PostgresError, *OUTAGES) as error:
            raise self._failed(error) from error
        self._works()
        self.clock.read(begun.now, asked_at=asked_at, answered_at=answered_at)  # it is when BEGIN arrived
        return begun

    async def _compare_statuses(self, snapshot: Snapshot) -> None:
        """Log, once, if the functions know other statuses than our settings. Readiness goes on saying so."""
        self._compared_statuses = True
        with suppress(asyncpg.PostgresError):  # not migrated yet, or no right to
            [(held,)] = await snapshot.fetch(_STATUSES, timeout=self._settings.connect_timeout_seconds)
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

    async def _end(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await connection.execute("ROLLBACK")
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES):
            drop(connection)
        finally:
            if self._pool is not None:
                # One that cannot be given back is ended by the pool; whatever was computed over it stands.
                with suppress(TimeoutError, asyncpg.PostgresError, *OUTAGES):
                    await self._pool.release(connection, timeout=GRACE_SECONDS)


# A killed or frozen client must not hold its snapshot or lock: the server looks whether it is still there
# (where it can), and ends a transaction that went idle. Statements are short ones: compiling costs more.
# Where row level security would keep rows from us, in whatever a statement reads, that is an error.
_SETTINGS = {
    "idle_in_transaction_session_timeout": "60000",
    "jit": "off",
    "client_connection_check_interval": "1000",
    "row_security": "off",
}

_STATUSES = "SELECT stats_schema.chat_stats_statuses()::text"

_LOCK = """
SELECT
    pg_try_advisory_xact_lock($1, $2) AS locked,
    set_config('idle_in_transaction_session_timeout', $3, true)
"""

# Any role can take an advisory lock: one of another role is named.
_OTHER_ROLE = """
SELECT l.pid, a.usename::text AS role
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
  AND l.classid = $1::integer::oid AND l.objid = $2::integer::oid AND a.usename <> current_user
"""


def _lock_number(name: str) -> int:
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


async def _nothing_to_reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every use is one transaction with local settings, so a returned connection is as good as new."""
