"""The connection of the rollup's upkeep: statements with their errors translated, locks, snapshots."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from service.database import LOCK_CLASS
from service.errors import DatabaseBusy, DatabaseUnavailable, RowsHidden, SchemaError
from service.outages import not_permitted, outage

#: The table that the rollup sums up.
TABLE = "chat_completion_requests"

#: Second halves of the keys of the locks that keep two folds, and two upkeeps, apart.
FOLD_LOCK = 3
UPKEEP_LOCK = 4

#: What statements raise.
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class UpkeepConnection:
    """What all upkeep is made of, over one connection of its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        #: For statements whose errors the caller tells apart.
        self.raw = connection

    async def execute(self, statement: str, *args: Any) -> None:
        await self.fetch(statement, *args)

    async def fetchrow(self, statement: str, *args: Any) -> asyncpg.Record:
        return (await self.fetch(statement, *args))[0]

    async def fetchval(self, statement: str, *args: Any) -> Any:
        return (await self.fetch(statement, *args))[0][0]

    async def fetch(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        try:
            return await self.raw.fetch(statement, *args)
        except ERRORS as error:
            raise translated(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        try:
            async with self.raw.transaction():
                yield
        except ERRORS as error:
            raise translated(error) from error

    async def in_snapshot(self, statement: str, *args: Any) -> int:
        """Return the number that `statement` finds, in one snapshot of rollup and requests."""
        try:
            async with self.raw.transaction(isolation="repeatable_read"):
                # Before there is a snapshot: one that is older than a TRUNCATE under way would see the
                # rollup of the rows that are gone.
                await self.raw.execute(f"LOCK TABLE {TABLE} IN ACCESS SHARE MODE")
                return int(await self.raw.fetchval(statement, *args))
        except ERRORS as error:
            raise translated(error) from error

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Keep other upkeep away; `DatabaseBusy` when some is under way."""
        if not await self.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, UPKEEP_LOCK):
            raise DatabaseBusy("another rollup command is under way")
        try:
            yield
        finally:
            with suppress(*ERRORS):
                await self.raw.execute(f"SELECT pg_advisory_unlock({LOCK_CLASS}, {UPKEEP_LOCK})")


def translated(error: Exception) -> Exception:
    """Return what an error of a statement means to whoever runs the upkeep."""
    if (trouble := outage(error)) is not None:
        return trouble
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):  # a standby, after a failover
        return DatabaseUnavailable("the database is read-only at present")
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedFunctionError):
        return SchemaError(f"{error}; run: chat-stats migrate")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        if isinstance(hidden := not_permitted(error), RowsHidden):
            return hidden
        return SchemaError(f"{error}; the rollup is kept by the role that ran chat-stats migrate")
    return error
