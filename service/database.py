"""Postgres: the connection pool, one-snapshot reads, and what an error of it means."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from service.errors import DatabaseBusy, DatabaseUnavailable, SchemaError
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

#: Seconds that this process waits longer than the server for a statement, before it drops the connection.
GRACE_SECONDS = 1.0


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


@dataclass(slots=True)
class Snapshot:
    """A read-only view of the database at one moment, over one connection (or several that share it)."""

    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    now: datetime
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
            async with asyncio.timeout(GRACE_SECONDS):
                await self.connection.execute("ROLLBACK TO SAVEPOINT statement")
            raise

    async def try_lock(self, name: str) -> bool:
        """Take the lock of that name until the snapshot ends; False when somebody else has it."""
        statement = "SELECT pg_try_advisory_xact_lock($1, $2) AS locked"
        records = await self.fetch(statement, LOCK_CLASS, zlib.crc32(name.encode()) & 0x7FFFFFFF, timeout=5)
        return bool(records[0]["locked"])

    @asynccontextmanager
    async def siblings(self, count: int) -> AsyncIterator[list["Snapshot"]]:
        """Open up to `count` further connections that see exactly the same data; as many as are to spare."""
        await self.connection.execute("RELEASE SAVEPOINT statement")  # exporting is refused inside of one
        exported = await self.connection.fetchval("SELECT pg_export_snapshot()")
        await self.connection.execute("SAVEPOINT statement")
        async with AsyncExitStack() as stack:
            spare = stack.enter_context(self.database.spare_connections(count))
            yield [
                await stack.enter_async_context(self.database.transaction(from_snapshot=exported))
                for _ in range(spare)
            ]


class Database:
    """The pool. Nothing connects before it is needed, so a service starts without its database."""

    def __init__(self, settings: Settings, *, application_name: str) -> None:
        self._settings = settings
        self._application_name = application_name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._slots = asyncio.Semaphore(settings.max_live_computations)
        self._spare = SPARE_CONNECTIONS

    async def open(self) -> None:
        settings = self._settings
        self._pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=0,
            # One connection per computation, those to spare, and one for health checks.
            max_size=settings.max_live_computations + SPARE_CONNECTIONS + 1,
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

    @asynccontextmanager
    async def snapshot(self, *, wait_seconds: float) -> AsyncIterator[Snapshot]:
        """Open a snapshot, waiting at most `wait_seconds` for one of the slots for live computations."""
        try:
            await asyncio.wait_for(self._slots.acquire(), wait_seconds)
        except TimeoutError:
            raise DatabaseBusy("too many live computations are under way") from None
        try:
            async with self.transaction() as snapshot:
                yield snapshot
        finally:
            self._slots.release()

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
        connection = await self._acquire()
        try:
            now = await self._begin(connection, from_snapshot)
            yield Snapshot(connection, now, self)
        finally:
            await self._end(connection)

    async def _acquire(self) -> "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]":
        if self._pool is None:
            raise DatabaseUnavailable("the connection pool is closed")
        try:
            return await self._pool.acquire(timeout=self._settings.connect_timeout_seconds)
        except (TimeoutError, ValueError, *OUTAGES) as error:  # ValueError: asyncpg, of a broken URL
            logger.warning("no connection to Postgres: %s", type(error).__name__)
            raise outage(error) or DatabaseUnavailable("the database cannot be reached") from error

    async def _begin(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", from_snapshot: str | None
    ) -> datetime:
        lock_timeout_ms = round(self._settings.connect_timeout_seconds * 1000)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds + GRACE_SECONDS):
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if from_snapshot is not None:
                    await connection.execute(f"SET TRANSACTION SNAPSHOT '{from_snapshot}'")
                now: datetime = await connection.fetchval(_BEGIN, str(lock_timeout_ms))
                await connection.execute("SAVEPOINT statement")
                return now
        except TimeoutError:
            _drop(connection)
            raise DatabaseUnavailable("the database does not answer") from None
        except OUTAGES as error:
            raise outage(error) or DatabaseUnavailable("the database cannot be reached") from error

    async def _end(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await connection.execute("ROLLBACK")
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES):
            _drop(connection)
        finally:
            if self._pool is not None:
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


def _drop(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
    with suppress(asyncpg.InterfaceError):  # one that the server closed is out of our hands already
        connection.terminate()


async def _nothing_to_reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every use is one transaction with local settings, so a returned connection is as good as new."""
