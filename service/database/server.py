"""One database server: its connections, the transactions over them, and whether it is reachable."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from chat_stats.service.connecting.postgres_hosts import url_of_each_host
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.errors import OUTAGES, outage, unreachable
from chat_stats.service.database.kept_plans import KEEPS, KEEPS_NONE, is_direct
from chat_stats.service.database.names import begin
from chat_stats.service.database.snapshot import GRACE_SECONDS, Snapshot, drop
from chat_stats.service.errors import DatabaseUnavailable
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds after a failure to connect during which no request tries again: a server that hangs must not make
#: every request wait. After them, one request at a time tries whether it is back.
PAUSE_SECONDS = 1.0

#: Seconds that a connection gets at least for its first replies, however long it took to open it.
BEGIN_SECONDS = 0.3

#: What connecting and beginning raise.
FAILURES = (TimeoutError, ValueError, asyncpg.PostgresError, *OUTAGES)

#: What a session writes times and dates by, whatever the role or the database is set to.
WRITTEN_BY = {"timezone": "UTC", "datestyle": "ISO"}

PooledConnection = asyncpg.pool.PoolConnectionProxy

Replies = TypeVar("Replies")


class Hosts:
    """Connects to the host of a URL that takes it; the one that did so last comes first."""

    def __init__(self, url: str) -> None:
        self._urls = url_of_each_host(url)
        # Of several, any but the primary would refuse what upkeep writes.
        several = len(self._urls) > 1 and "target_session_attrs" not in url
        self._options: dict[str, Any] = {"target_session_attrs": "primary"} if several else {}

    async def connect(self, *, timeout: float, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect within `timeout` seconds, of which one that does not answer leaves some for the others.

        Raises what asyncpg raises for the last of them.
        """
        deadline = time.monotonic() + timeout
        urls = self._urls.copy()
        for tried, url in enumerate(urls, 1):
            share = (deadline - time.monotonic()) / (len(urls) - tried + 1)
            try:
                connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
                    url, timeout=share, **self._options, **options
                )
            except FAILURES:
                if tried == len(urls):
                    raise
            else:
                self._urls.sort(key=lambda other: other != url)
                return connection
        raise AssertionError("a URL has a host")  # pragma: no cover


class Server:
    """A pool. Nothing connects before it is needed, so a service starts without its database."""

    #: Begins its messages in the log.
    _prefix = ""

    def __init__(self, settings: Settings, url: str, *, application_name: str, clock: Clock) -> None:
        self.clock = clock
        self._settings = settings
        self._hosts = Hosts(url)
        self.application_name = application_name
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._outage: DatabaseUnavailable | None = None
        self._paused_until = 0.0
        self._keeps_plans = True

    async def open(self) -> None:
        settings = self._settings

        self._pool = await asyncpg.create_pool(
            min_size=0,
            # One per computation and export, one each for a lock, health checks, probes and scoped keys.
            max_size=settings.max_live_computations + settings.max_exports + 4,
            max_inactive_connection_lifetime=60,
            connect=self._connect,
            timeout=settings.connect_timeout_seconds,
            server_settings={"application_name": self.application_name, **WRITTEN_BY},
            reset=_nothing_to_reset,
        )

    async def _connect(self, *_dsn: object, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
        if self._keeps_plans:
            connection = await self._hosts.connect(**options, **KEEPS)
            try:
                self._keeps_plans = await is_direct(connection)
            except BaseException:
                connection.terminate()
                raise
            if self._keeps_plans:
                return connection
            connection.terminate()
        return await self._hosts.connect(**options, **KEEPS_NONE)

    async def close(self) -> None:
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), timeout=2)
            except TimeoutError:
                self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Snapshot]:
        """Open a REPEATABLE READ, READ ONLY transaction; `DatabaseUnavailable` when that cannot be had."""
        # One deadline for both, since the caller waits for both: the connection and its first reply.
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_seconds
        async with self._connection() as connection:
            try:
                yield await self._within(deadline, connection, self._begin(connection))
            finally:
                await _end(connection)

    async def ask(self, statement: str) -> asyncpg.Record:
        """Return the one row of a statement in a transaction of its own.

        Raises `DatabaseUnavailable`, and asyncpg's error when the statement is at fault.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_seconds
        async with self._connection() as connection:
            row = await self._within(deadline, connection, _row_or_error(connection, statement))
            if isinstance(row, asyncpg.PostgresError):
                raise row
            return row

    async def _begin(self, connection: "PooledConnection[asyncpg.Record]") -> Snapshot:
        lock_timeout_ms = round(self._settings.connect_timeout_seconds * 1000)
        asked_at = time.monotonic()
        await connection.execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan"
        )
        answered_at = time.monotonic()
        begun = await begin(
            connection,
            {**_SETTINGS, "lock_timeout": str(lock_timeout_ms)},
            self._settings.statuses,
        )
        await connection.execute("SAVEPOINT statement")
        self._read_clock(begun.now, asked_at, answered_at)  # it is when BEGIN arrived
        return Snapshot(connection, begun.names, begun.now, begun.secured, in_citus=begun.in_citus)

    def _read_clock(self, now: datetime, asked_at: float, answered_at: float) -> None:
        self.clock.read(now, asked_at=asked_at, answered_at=answered_at)

    async def _within(
        self, deadline: float, connection: "PooledConnection[asyncpg.Record]", replies: Awaitable[Replies]
    ) -> Replies:
        """Return the first replies of a connection, if they come before the deadline."""
        try:
            async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + BEGIN_SECONDS)):
                found = await replies
        except TimeoutError as error:
            drop(connection)
            raise self._failed(error) from None
        except (asyncpg.PostgresError, *OUTAGES) as error:
            raise self._failed(error) from error
        self._works()
        return found

    @asynccontextmanager
    async def _connection(self) -> "AsyncIterator[PooledConnection[asyncpg.Record]]":
        self._check_outage()
        if self._pool is None:
            raise DatabaseUnavailable("the connection pool is closed")
        try:
            connection = await self._pool.acquire(timeout=self._settings.connect_timeout_seconds)
        except FAILURES as error:
            raise self._failed(error) from error
        try:
            yield connection
        finally:
            if self._pool is not None:
                # One that cannot be given back is ended by the pool; whatever was computed over it stands.
                with suppress(TimeoutError, asyncpg.PostgresError, *OUTAGES):
                    await self._pool.release(connection, timeout=GRACE_SECONDS)

    def _check_outage(self) -> None:
        """Raise the outage that is known, unless it is time to look again."""
        if self._outage is None:
            return
        if time.monotonic() < self._paused_until:
            raise DatabaseUnavailable(str(self._outage))
        self._pause()

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _failed(self, error: BaseException) -> DatabaseUnavailable:
        trouble = unreachable(error)
        if isinstance(error, asyncpg.TooManyConnectionsError):
            return trouble  # the connections that we have are as good as before
        if self._outage is None:
            logger.warning("%s%s; trying again (%s)", self._prefix, trouble, type(error).__name__)
        self._outage = trouble
        self._pause()
        return trouble

    def _works(self) -> None:
        if self._outage is not None:
            logger.warning("%sthe database answers again", self._prefix)
        self._outage = None


async def _row_or_error(
    connection: "PooledConnection[asyncpg.Record]", statement: str
) -> asyncpg.Record | asyncpg.PostgresError:
    try:
        return await only_row(connection, statement)
    except asyncpg.PostgresError as error:
        if outage(error) is not None:
            raise
        return error


async def only_row(connection: "PooledConnection[asyncpg.Record]", statement: str) -> asyncpg.Record:
    """Return the one row of a statement in a transaction of its own: `Server.open` says why in one."""
    async with connection.transaction(readonly=True):
        row = await connection.fetchrow(statement)
    assert row is not None
    return row


async def _end(connection: "PooledConnection[asyncpg.Record]") -> None:
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await connection.execute("ROLLBACK")
    except (TimeoutError, asyncpg.PostgresError, *OUTAGES):
        drop(connection)


# A killed or frozen client must not hold its snapshot or lock: the server looks whether it is still there
# (where it can), and ends a transaction that went idle. Statements are short ones: compiling costs more.
# Where row level security would keep rows from us, in whatever a statement reads, that is an error.
_SETTINGS = {
    "idle_in_transaction_session_timeout": "60000",
    "jit": "off",
    "client_connection_check_interval": "1000",
    "row_security": "off",
}


async def _nothing_to_reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every use is one transaction with local settings, so a returned connection is as good as new."""
