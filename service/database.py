"""Postgres: the connection pool, one-snapshot reads, and what an error of it means."""

import asyncio
import logging
import socket
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from service.errors import DatabaseBusy, DatabaseUnavailable, RefreshRunning, SchemaError
from service.settings import Settings

logger = logging.getLogger(__name__)

#: Trouble of the server or of the way to it, whatever the statement: no other statement would do better.
OUTAGES = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up; QueryCanceledError is told apart first
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TransactionRollbackError,  # a standby cancels reads that conflict with recovery
)

TABLES = ("providers", "models", "chat_completion_requests")

#: First half of the key of our advisory locks: "csts" in ASCII.
LOCK_CLASS = 0x63737473

#: Seconds after a failure to connect during which nobody else tries: a server that hangs must not make every
#: request wait. One request at a time looks whether it is back.
PAUSE_SECONDS = 1.0

#: Seconds that this process waits longer than the server for a statement, before it drops the connection.
GRACE_SECONDS = 1.0

#: Seconds that a connection gets at least for its first replies, however long it took to open it.
BEGIN_SECONDS = 0.3


def outage(error: BaseException) -> DatabaseUnavailable | DatabaseBusy | None:
    """Return what `error` means when it is an outage, None when it is about the statement."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return DatabaseBusy("a table that the statistics need is locked")
    if isinstance(error, asyncpg.QueryCanceledError):
        return None
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return DatabaseUnavailable("the database accepts no more connections")
    if isinstance(error, OUTAGES):
        return DatabaseUnavailable("the database cannot be reached")
    return None


def unreachable(error: BaseException) -> DatabaseUnavailable:
    """Return what an error while connecting means; every one is an outage, and some have a known cause."""
    causes: tuple[tuple[type[BaseException], str], ...] = (
        (asyncpg.InvalidAuthorizationSpecificationError, "it refused the user or the password"),
        (asyncpg.InvalidCatalogNameError, "there is no database of that name"),
        (asyncpg.TooManyConnectionsError, "it accepts no more connections"),
        (asyncpg.CannotConnectNowError, "it is starting up or shutting down"),
        (socket.gaierror, "its host name is not known"),
        (ConnectionRefusedError, "nothing listens there"),
        (TimeoutError, "it does not answer"),
    )
    cause = next((cause for kind, cause in causes if isinstance(error, kind)), type(error).__name__)
    return DatabaseUnavailable(f"the database cannot be reached: {cause}")


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


@dataclass(slots=True)
class Snapshot:
    """A read-only view of the database at one moment, over one connection (or several that share it)."""

    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    #: The database's time, at which windows end.
    now: datetime
    #: Our time just before the snapshot was taken: the numbers are at least as new as that.
    opened_at: datetime
    database: "Database"

    async def fetch(self, sql: str, *args: Any, timeout: float) -> list[asyncpg.Record]:
        """Run one statement for at most `timeout` seconds; when it fails, the snapshot stays usable.

        Raises asyncpg's error when the statement was at fault, `Unavailable` on an outage.
        """
        try:
            async with asyncio.timeout(timeout + GRACE_SECONDS):
                await self.connection.execute(
                    "RELEASE SAVEPOINT statement; SAVEPOINT statement; "
                    f"SET LOCAL statement_timeout = {max(1, round(timeout * 1000))}"
                )
                return await self.connection.fetch(sql, *args)
        except TimeoutError:
            # The server did not even cancel the statement: it hangs, and so would a clean goodbye.
            _drop(self.connection)
            raise DatabaseUnavailable("the database does not answer") from None
        except (asyncpg.PostgresError, *OUTAGES) as error:
            if (trouble := outage(error)) is not None:
                raise trouble from error
            await self._recover()
            raise

    async def _recover(self) -> None:
        """Make the snapshot usable again after a statement failed."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self.connection.execute("ROLLBACK TO SAVEPOINT statement")
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES) as error:
            _drop(self.connection)
            raise DatabaseUnavailable("the connection to the database was lost") from error

    @asynccontextmanager
    async def siblings(self, count: int) -> AsyncIterator[list["Snapshot"]]:
        """Open up to `count` further connections that see exactly the same data; as many as are to spare."""
        exported = await self._export()
        async with AsyncExitStack() as stack:
            spare = stack.enter_context(self.database.spare_connections(count))
            siblings: list[Snapshot] = []
            with suppress(DatabaseUnavailable):  # no more connections to be had: go on with those
                for _ in range(spare):
                    sibling = self.database.transaction(from_snapshot=exported)
                    siblings.append(await stack.enter_async_context(sibling))
            yield siblings

    async def _export(self) -> str:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self.connection.execute("RELEASE SAVEPOINT statement")  # inside of one it is refused
                exported: str = await self.connection.fetchval("SELECT pg_export_snapshot()")
                await self.connection.execute("SAVEPOINT statement")
                return exported
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES) as error:
            _drop(self.connection)
            raise DatabaseUnavailable("the connection to the database was lost") from error


@dataclass(slots=True)
class Lock:
    """A lock that ends with its connection, so also with a process that was killed."""

    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

    async def keep(self) -> None:
        """Show that its holder is alive; one that froze loses it. Raises `DatabaseUnavailable` when lost."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self.connection.execute("SELECT")
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES) as error:
            _drop(self.connection)
            raise DatabaseUnavailable("the lock of the refresh was lost") from error


class Database:
    """The pool. Nothing connects before it is needed, so a service starts without its database."""

    def __init__(self, settings: Settings, *, application_name: str) -> None:
        self._settings = settings
        self._application_name = application_name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._slots = asyncio.Semaphore(settings.max_live_computations)
        self._export_slots = asyncio.Semaphore(settings.max_exports)
        self._spare = SPARE_CONNECTIONS
        self._outage: DatabaseUnavailable | None = None
        self._paused_until = 0.0
        self._probe: asyncio.Task[None] | None = None

    async def open(self) -> None:
        settings = self._settings
        self._pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=0,
            # One per computation and export, those to spare, one each for a lock, health checks and probes.
            max_size=settings.max_live_computations + settings.max_exports + SPARE_CONNECTIONS + 3,
            max_inactive_connection_lifetime=60,
            timeout=settings.connect_timeout_seconds,
            statement_cache_size=0,  # so that it also works through a transaction-pooling proxy
            server_settings={"application_name": self._application_name, "timezone": "UTC"},
            reset=_nothing_to_reset,
        )

    async def close(self) -> None:
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), timeout=2)
            except TimeoutError:
                self._pool.terminate()
            self._pool = None

    async def check(self) -> None:
        """Raise `Unavailable` when the database cannot be reached, `SchemaError` when a table is missing."""
        async with self.transaction() as snapshot:
            records = await snapshot.fetch(
                "SELECT name FROM unnest($1::text[]) AS t (name) "
                "WHERE to_regclass(quote_ident(name)) IS NULL",
                list(TABLES),
                timeout=self._settings.connect_timeout_seconds,
            )
        if records:
            missing = ", ".join(record["name"] for record in records)
            raise SchemaError(f"the database lacks the table(s) {missing}; run: chat-stats migrate")

    async def probe(self) -> None:
        """Raise `DatabaseUnavailable` when the database does not answer; one look for all who ask at once."""
        if self._probe is None:
            self._probe = asyncio.create_task(self._look())
            self._probe.add_done_callback(self._looked)
        await asyncio.shield(self._probe)

    async def _look(self) -> None:
        async with self.transaction():
            pass

    def _looked(self, probe: asyncio.Task[None]) -> None:
        self._probe = None
        if not probe.cancelled():
            probe.exception()  # whoever asked has it, if he is still there

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
        """Hold the lock of that name; `RefreshRunning` when somebody else does."""
        # Longer than the longest computation of a refresh, between two of which it is kept.
        idle_ms = round((4 * self._settings.refresh_timeout_seconds + 60) * 1000)
        async with self.transaction() as holder:
            records = await holder.fetch(_LOCK, LOCK_CLASS, _lock_number(name), str(idle_ms), timeout=5)
            if not records[0]["locked"]:
                raise RefreshRunning("another refresh is under way")
            yield Lock(holder.connection)

    @contextmanager
    def spare_connections(self, count: int) -> Iterator[int]:
        """Take up to `count` of the connections to spare, without waiting; yield how many."""
        taken = min(count, self._spare)
        self._spare -= taken
        try:
            yield taken
        finally:
            self._spare += taken

    @asynccontextmanager
    async def transaction(self, *, from_snapshot: str | None = None) -> AsyncIterator[Snapshot]:
        """Open a REPEATABLE READ, READ ONLY transaction; of another connection's snapshot when given."""
        self._check_outage()
        # Whoever waits for an answer waits for both together, the connection and its first reply.
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_seconds
        connection = await self._acquire()
        try:
            opened_at = datetime.now(UTC)
            now = await self._begin(connection, from_snapshot, deadline)
            yield Snapshot(connection, now, opened_at, self)
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
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]",
        from_snapshot: str | None,
        deadline: float,
    ) -> datetime:
        lock_timeout_ms = round(self._settings.connect_timeout_seconds * 1000)
        try:
            async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + BEGIN_SECONDS)):
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if from_snapshot is not None:
                    await connection.execute(f"SET TRANSACTION SNAPSHOT '{from_snapshot}'")
                now: datetime = await connection.fetchval(_BEGIN, str(lock_timeout_ms))
                await connection.execute("SAVEPOINT statement")
        except TimeoutError as error:
            _drop(connection)
            raise self._failed(error) from None
        except (asyncpg.PostgresError, *OUTAGES) as error:
            if from_snapshot is not None:  # the snapshot may be gone; that says nothing about the server
                raise unreachable(error) from error
            raise self._failed(error) from error
        self._works()
        return now

    async def _end(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await connection.execute("ROLLBACK")
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES):
            _drop(connection)
        finally:
            if self._pool is not None:
                # One that cannot be given back is ended by the pool; whatever was computed over it stands.
                with suppress(TimeoutError, asyncpg.PostgresError, *OUTAGES):
                    await self._pool.release(connection, timeout=GRACE_SECONDS)


#: Connections beside those of the computations, on which models are counted side by side.
SPARE_CONNECTIONS = 3

# A killed or frozen client must not hold its snapshot or lock: the server looks whether it is still there
# (where it can), and ends a transaction that went idle. Statements are short ones: compiling costs more.
_BEGIN = """
SELECT now() FROM (
    SELECT count(set_config(name, value, true))
    FROM (VALUES
        ('lock_timeout', $1),
        ('idle_in_transaction_session_timeout', '60000'),
        ('jit', 'off'),
        ('client_connection_check_interval', '1000')
    ) AS wanted (name, value)
    JOIN pg_settings USING (name)
) AS configured
"""


_LOCK = """
SELECT
    pg_try_advisory_xact_lock($1, $2) AS locked,
    set_config('idle_in_transaction_session_timeout', $3, true)
"""


def _lock_number(name: str) -> int:
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def _drop(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
    with suppress(asyncpg.InterfaceError):  # one that the server closed is out of our hands already
        connection.terminate()


async def _nothing_to_reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every use is one transaction with local settings, so a returned connection is as good as new."""
