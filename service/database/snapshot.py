"""A view of the database at one moment, and a lock: what one connection is used for."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from chat_stats.service.database.dimension_columns import ColumnTypes
from chat_stats.service.database.errors import OUTAGES, outage
from chat_stats.service.database.names import Names
from chat_stats.service.errors import DatabaseUnavailable

#: Seconds that this process waits longer than the server for a statement, before it drops the connection.
GRACE_SECONDS = 1.0

_ENDS_OF_THE_CALENDAR = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Look:
    """What a snapshot's catalogue says of the gateway's tables and of our functions."""

    #: Whether the requests have a cost that can be summed.
    has_cost: bool
    #: Whether there may be sums of requests that were purged.
    has_purged: bool
    #: Whether there is the table of the rollups that the operator added.
    lists_rollups: bool
    #: Those of our functions that our role may execute.
    functions: frozenset[str]
    #: The columns of the requests.
    columns: ColumnTypes


@dataclass(slots=True)
class Snapshot:
    """A read-only view of the database at one moment, over one connection."""

    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
    names: Names
    #: The primary's time just before the snapshot was taken, or, of a standby, up to which it had replayed:
    #: the numbers are at least as new as that, and windows end there.
    now: datetime
    #: The gateway's tables that have row level security.
    secured: list[str]
    #: What `service.compute.look` saw in it.
    seen: Look | None = None
    #: Whether it is one of a standby, so that others may be newer.
    of_standby: bool = False
    #: Whether Citus holds the requests: it cannot plan some statements.
    in_citus: bool = False

    @property
    def consistency(self) -> str | None:
        """Return for the metadata of what is one moment's: `shard` on Citus; None: everything."""
        return "shard" if self.in_citus else None

    async def fetch(
        self, sql: str, *args: Any, timeout: float, preparation: str = "", keeps_plan: bool = False
    ) -> list[asyncpg.Record]:
        """Run one statement for at most `timeout` seconds; when it fails, the snapshot stays usable.

        Its schemas are put in place. `preparation`: a statement without arguments that runs before it.
        `keeps_plan`: one plan serves all arguments, so that the connection may keep it (`kept_plans`).

        Raises asyncpg's error when the statement was at fault, `Unavailable` on an outage.
        """
        keeps_plan = keeps_plan and not self.in_citus  # which plans by its arguments
        prelude = (
            "RELEASE SAVEPOINT statement; SAVEPOINT statement; "
            f"SET LOCAL statement_timeout = {max(1, round(timeout * 1000))}; "
            f"SET LOCAL plan_cache_mode = {'force_generic_plan' if keeps_plan else 'auto'}; {preparation}"
        )
        text, sent = _with_exact_moments(self.names.fill(sql), args)
        try:
            async with asyncio.timeout(timeout + GRACE_SECONDS):
                if keeps_plan:
                    try:
                        return await self._run(prelude, text, sent, keeps_plan=True)
                    except asyncpg.InvalidCachedStatementError:  # a column that it returns has another type
                        await self._recover()
                return await self._run(prelude, text, sent, keeps_plan=False)
        except TimeoutError:
            # The server did not even cancel the statement: it hangs, and so would a clean goodbye.
            drop(self.connection)
            raise DatabaseUnavailable("the database does not answer") from None
        except (asyncpg.PostgresError, *OUTAGES) as error:
            if (trouble := outage(error)) is not None:
                raise trouble from error
            await self._recover()
            raise

    async def _run(
        self, prelude: str, text: str, args: list[Any], *, keeps_plan: bool
    ) -> list[asyncpg.Record]:
        await self.connection.execute(prelude)
        if keeps_plan:
            return await self.connection.fetch(text, *args)
        statement = await self.connection.prepare(text, name="")
        return await statement.fetch(*args)

    async def _recover(self) -> None:
        """Make the snapshot usable again after a statement failed."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self.connection.execute("ROLLBACK TO SAVEPOINT statement")
        except (TimeoutError, asyncpg.PostgresError, *OUTAGES) as error:
            drop(self.connection)
            raise DatabaseUnavailable("the connection to the database was lost") from error


def _with_exact_moments(sql: str, args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Return a statement and its arguments, the first and the last moment of Python's calendar as literals.

    As arguments asyncpg sends them as -infinity and infinity.
    """
    sent = list(args)
    for number, argument in enumerate(args, 1):
        if isinstance(argument, datetime) and argument in _ENDS_OF_THE_CALENDAR:
            sent[number - 1] = None  # it keeps its number and its type
            moment = f"COALESCE(${number}::timestamptz, '{argument.isoformat()}'::timestamptz)"
            sql = re.sub(rf"\${number}\b", lambda _: moment, sql)  # noqa: B023
    return sql, sent


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
            drop(self.connection)
            raise DatabaseUnavailable("the lock of the refresh was lost") from error


def drop(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
    """End a connection at once, without a goodbye that a server which hangs would not answer."""
    with suppress(asyncpg.InterfaceError):  # one that the server closed is out of our hands already
        connection.terminate()
