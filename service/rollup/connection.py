"""The connection of the rollup's upkeep: statements with their errors translated, locks, snapshots."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import asyncpg

from chat_stats.service.database import queries
from chat_stats.service.database.errors import ERRORS as ERRORS
from chat_stats.service.database.errors import upkeep_error
from chat_stats.service.database.names import Names, begin
from chat_stats.service.database.pool import LOCK_CLASS
from chat_stats.service.errors import DatabaseBusy, LockHeld

#: The table that the rollup sums up, and as statements name it.
TABLE = "chat_completion_requests"
REQUESTS = f"gateway_schema.{TABLE}"

#: Second half of the key of the lock that keeps two upkeeps apart.
UPKEEP_LOCK = 4

Isolation = Literal["read_committed", "repeatable_read"]


async def foreign_lock(fetch: Callable[..., Awaitable[list[asyncpg.Record]]]) -> str | None:
    """Return which role that may not write the rollup holds the lock of its upkeep, and what ends that."""
    for found in await fetch(queries.load("foreign_lock"), LOCK_CLASS, UPKEEP_LOCK):
        return (
            f"the role {found['role']} holds the lock of the rollup's upkeep, and may not write the rollup; "
            f"to end its session: SELECT pg_terminate_backend({found['pid']})"
        )
    return None


class UpkeepConnection:
    """What all upkeep is made of, over one connection of its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.raw = connection
        #: Of the transaction under way, if there is one.
        self._names: Names | None = None

    async def execute(self, statement: str, *args: Any) -> None:
        await self.fetch(statement, *args)

    async def fetchrow(self, statement: str, *args: Any) -> asyncpg.Record:
        return (await self.fetch(statement, *args))[0]

    async def fetchval(self, statement: str, *args: Any) -> Any:
        return (await self.fetch(statement, *args))[0][0]

    async def fetch(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        try:
            return await self.fetch_raw(statement, *args)
        except ERRORS as error:
            raise upkeep_error(error) from error

    async def fetch_raw(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        """Run a statement whose errors the caller tells apart."""
        async with self.raw_transaction() as names:
            return await self.raw.fetch(names.fill(statement), *args)

    async def execute_raw(self, statements: str) -> None:
        """Run statements without arguments whose errors the caller tells apart."""
        async with self.raw_transaction() as names:
            await self.raw.execute(names.fill(statements))

    async def execute_alone(self, statement: str, *, lock_ms: int) -> None:
        """Run a statement that is a transaction of its own, such as VACUUM; it waits `lock_ms` for locks."""
        try:
            async with self.raw.transaction():
                names = (await begin(self.raw)).names
            await self.raw.execute(f"SET lock_timeout = {lock_ms}")
            try:
                await self.raw.execute(names.fill(statement))
            finally:
                with suppress(*ERRORS):
                    await self.raw.execute("RESET lock_timeout")
        except ERRORS as error:
            raise upkeep_error(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        try:
            async with self.raw_transaction():
                yield
        except ERRORS as error:
            raise upkeep_error(error) from error

    @asynccontextmanager
    async def raw_transaction(
        self, first: str = "", *, isolation: Isolation | None = None
    ) -> AsyncIterator[Names]:
        """Open a transaction that searches pg_catalog alone, unless one is under way.

        It begins with the statement `first`: with a REPEATABLE READ one, before there is a snapshot.
        """
        if self._names is not None:
            yield self._names
            return
        async with self.raw.transaction():  # one of its own, since it takes a snapshot
            names = (await begin(self.raw)).names
        async with self.raw.transaction(isolation=isolation):
            await self.raw.execute(f"SET LOCAL search_path = pg_catalog, pg_temp; {names.fill(first)}")
            self._names = names
            try:
                yield names
            finally:
                self._names = None

    async def in_snapshot(self, statement: str, *args: Any) -> Counter[str]:
        """Return the numbers by rollup that `statement` finds, in one snapshot of rollups and requests."""
        try:
            # A snapshot older than a TRUNCATE under way would see the rollup of the rows that are gone.
            async with self.raw_transaction(
                f"LOCK TABLE {REQUESTS} IN ACCESS SHARE MODE", isolation="repeatable_read"
            ):
                return Counter({row[0]: row[1] for row in await self.fetch_raw(statement, *args)})
        except ERRORS as error:
            raise upkeep_error(error) from error

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Keep other upkeep away; `DatabaseBusy` when some is under way."""
        if not await self.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, UPKEEP_LOCK):
            if held := await foreign_lock(self.fetch):
                raise LockHeld(held)
            raise DatabaseBusy("another rollup command is under way")
        try:
            yield
        finally:
            with suppress(*ERRORS):
                await self.execute_raw(f"SELECT pg_advisory_unlock({LOCK_CLASS}, {UPKEEP_LOCK})")
