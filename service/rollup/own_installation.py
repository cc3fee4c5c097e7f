"""Puts the operator's own rollups in place: tables, columns of the deltas, functions, and last the trigger.

A delta of a statement that the former trigger counted lacks the new dimensions. So the trigger is replaced
under a lock that no open write of the requests lets through: every write that ends later than that was
counted with them, and the difference between requests and rollup is exact from then on.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from chat_stats.service.catalogue.kept_dimensions import OwnRollup, kept_dimensions
from chat_stats.service.catalogue.rollups import PREFIX
from chat_stats.service.catalogue.statuses import Statuses
from chat_stats.service.database.errors import upkeep_error
from chat_stats.service.database.locks import LOCK_MS, with_brief_locks
from chat_stats.service.database.migrations import MIGRATION_LOCK, lock_migrations
from chat_stats.service.database.names import begin
from chat_stats.service.database.pool import LOCK_CLASS
from chat_stats.service.database.rendering import Renderer
from chat_stats.service.rollup.connection import ERRORS, TABLE, UpkeepConnection
from chat_stats.service.rollup.triggers import TRIGGERS, count_triggers, request_tables

_TRIGGER = "functions/trigger/chat_stats_record_changes.sql"
#: What is by rollup or dimension; the trigger comes last, apart.
_PARTS = (
    "migrations/0007_",
    "migrations/0008_",
    "functions/values/chat_stats_dimension_value",
    "functions/values/chat_stats_error_kind",
    "functions/trigger/",
    "functions/rollup/",
    "functions/retention/",
)
#: The tables that have a column for each dimension.
_APPENDED = ("chat_stats_deltas", "chat_stats_kept")


class OwnInstallation:
    """Over one connection, whose session searches the schemas as `chat-stats migrate` does."""

    def __init__(self, connection: UpkeepConnection, statuses: Statuses | None) -> None:
        self._connection = connection
        self._statuses = statuses

    async def install(self, own: Sequence[OwnRollup]) -> None:
        """Let tables, functions and triggers be those for these rollups, and no others."""
        renderer = Renderer(statuses=self._statuses, own=own)
        async with self._no_migration():
            await self._add_columns(list(kept_dimensions(own)))
            await self._install_parts(renderer)
            await self._replace_trigger(renderer.render(_TRIGGER))

    async def uninstall(self, name: str, left: Sequence[OwnRollup], tables: Sequence[str]) -> None:
        """Let go of one of the rollups; `left` are all others."""
        renderer = Renderer(statuses=self._statuses, own=left)
        needed = kept_dimensions(left)
        unused = [
            f"ALTER TABLE {record['relation']} DROP COLUMN {record['name']}"
            for record in await self._connection.fetch(_COLUMNS, list(_APPENDED), PREFIX)
            if record["name"] not in needed
        ]
        drops = [f"DROP TABLE IF EXISTS stats_schema.{table}" for table in tables]
        forget = f"DELETE FROM stats_schema.chat_stats_rollups WHERE name = '{name}'"  # noqa: S608  checked
        async with self._no_migration():
            await self._install_parts(renderer)
            await self._replace_trigger(renderer.render(_TRIGGER), [*drops, *unused, forget])

    @asynccontextmanager
    async def _no_migration(self) -> AsyncIterator[None]:
        connection = self._connection.raw
        await lock_migrations(connection)
        try:
            yield
        finally:
            with suppress(*ERRORS):
                await connection.execute(
                    f"SELECT pg_catalog.pg_advisory_unlock({LOCK_CLASS}, {MIGRATION_LOCK})"
                )

    async def _install_parts(self, renderer: Renderer) -> None:
        # The lock of chat_stats_fold(), so that none runs half of the old functions and half of the new.
        await self._briefly(
            [_LOCK_STATE, *(renderer.render(name) for name in renderer.sql() if _is_part(name))]
        )

    async def _add_columns(self, columns: Sequence[str]) -> None:
        """Give the deltas their columns by themselves: writers wait for as long as this takes."""
        there = {
            (record["table"], record["name"])
            for record in await self._connection.fetch(_COLUMNS, list(_APPENDED), PREFIX)
        }
        for table in _APPENDED:
            for column in columns:
                if (table, column) not in there:
                    await self._briefly(
                        [],
                        [f'ALTER TABLE stats_schema.{table} ADD COLUMN {column} text COLLATE pg_catalog."C"'],
                    )

    async def _replace_trigger(self, text: str, then: Sequence[str] = ()) -> None:
        # With the rollup off there are none, and no write to wait for.
        tables = await request_tables(self._connection) if await count_triggers(self._connection) else []
        name, when = next(iter(TRIGGERS.items()))
        lock = [
            # With no more rights than a trigger needs, it waits until no write of the table is open.
            f"CREATE OR REPLACE TRIGGER {name} {when.format(table=table.name)} "
            "FOR EACH STATEMENT EXECUTE FUNCTION stats_schema.chat_stats_record_changes()"
            for table in tables
        ]
        await self._briefly([text], lock, then)

    async def _briefly(
        self, rendered: Sequence[str], before: Sequence[str] = (), after: Sequence[str] = ()
    ) -> None:
        """Run statements in one transaction that keeps no writer waiting; those `rendered` find schemas."""
        connection = self._connection.raw
        async with connection.transaction():
            names = (await begin(connection)).names

        async def transaction() -> None:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
                for statement in before:
                    await connection.execute(names.fill(statement))
                for text in rendered:
                    await connection.execute(text)
                for statement in after:
                    await connection.execute(names.fill(statement))

        await _translated(
            lambda: with_brief_locks(
                transaction,
                busy=f"{TABLE} is in use by long transactions: the rollup could not be put in place",
            )
        )


async def _translated(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except ERRORS as error:
        known = upkeep_error(error)
        raise known from error


def _is_part(name: str) -> bool:
    return name.startswith(_PARTS) and name != _TRIGGER


_LOCK_STATE = "SELECT chat_stats_run($run$SELECT FROM stats_schema.chat_stats_rollup_state FOR UPDATE$run$)"
_COLUMNS = """
SELECT n.name AS table, 'stats_schema.' || n.name AS relation, a.attname::text AS name
FROM unnest($1::text[]) AS n (name)
JOIN pg_attribute AS a ON a.attrelid = to_regclass('stats_schema.' || n.name)
WHERE starts_with(a.attname::text, $2::text) AND NOT a.attisdropped
"""
