"""Runs what the templates of `sql/` say against a database.

Every one is safe to run again, so there is no record of what ran: all run each time, the numbered migrations
first, then one for each function. Of psql's commands they use `\\gexec` alone, which runs each value of a
query's result as a statement: indexes are built one by one, outside of a transaction.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from chat_stats.service.catalogue.dimensions import Dimensions
from chat_stats.service.database.dimension_columns import column_types
from chat_stats.service.database.errors import outage
from chat_stats.service.database.locks import LOCK_MS, with_brief_locks
from chat_stats.service.database.names import begin
from chat_stats.service.database.own_rollups import declared_own_rollups
from chat_stats.service.database.pool import LOCK_CLASS, READ_COMMITTED, connect
from chat_stats.service.database.rendering import Renderer, declared
from chat_stats.service.errors import DatabaseUnavailable, SchemaError
from chat_stats.service.settings import Settings

#: Second half of the key of the lock that keeps two runs apart.
MIGRATION_LOCK = 1

Report = Callable[[str], None]


async def migrate(settings: Settings, *, create_tables: bool, started: Report, warned: Report) -> None:
    """Run all of `sql/`; `started` hears the name of each template, `warned` what the database warns of.

    All is rendered before any of it runs.

    Raises `SchemaError` naming the file and what the database said, or at the end a dimension of the settings
    that the requests do not have; and `DatabaseUnavailable`.
    """
    declaration = declared(settings.statuses, settings.dimensions, settings.error_kinds)
    for name in declaration.sql():
        declaration.render(name)
    declaration.statements()  # which the service will run: what is wrong with them is to show here
    connection = await connect(settings, application_name="chat-stats migrate")
    try:
        connection.add_log_listener(lambda _connection, message: _pass_on(message, warned))
        await connection.execute(f"SET statement_timeout = 0; {READ_COMMITTED}")
        if create_tables:
            await connection.execute("SET chat_stats.create_tables = 'on'")
        await lock_migrations(connection)
        renderer = await render_for(connection, settings)
        for name, text in [(name, renderer.render(name)) for name in renderer.sql()]:
            started(name)
            await _run(connection, name, text)
        await _check_dimensions(connection, settings.known_dimensions)
    finally:
        with suppress(OSError, asyncpg.InterfaceError):
            await connection.close(timeout=settings.connect_timeout_seconds)


async def render_for(connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings) -> Renderer:
    """Return what renders the templates for the rollups that the database lists, and for the settings."""
    usual = declared(settings.statuses, settings.dimensions, settings.error_kinds)
    async with connection.transaction():
        names = (await begin(connection)).names
        if names.gateway["chat_completion_requests"] is None:
            return usual

        async def fetch(sql: str, *arguments: Any) -> list[asyncpg.Record]:
            return await connection.fetch(names.fill(sql), *arguments)

        try:
            own = await declared_own_rollups(fetch)
        except asyncpg.InsufficientPrivilegeError:  # what runs next says whose the tables are
            return usual
    if not own:
        return usual
    return Renderer(statuses=settings.statuses, known=settings.known_dimensions, own=own)


async def lock_migrations(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    # Polling: a session that waits inside of a statement would hold up CREATE INDEX CONCURRENTLY
    # in the one that it waits for.
    statement = "SELECT pg_catalog.pg_try_advisory_lock($1::int, $2::int)"
    while not await connection.fetchval(statement, LOCK_CLASS, MIGRATION_LOCK):  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def _check_dimensions(connection: "asyncpg.Connection[asyncpg.Record]", dimensions: Dimensions) -> None:
    async with connection.transaction():
        names = (await begin(connection)).names

        async def fetch(sql: str, *arguments: Any) -> list[asyncpg.Record]:
            return await connection.fetch(names.fill(sql), *arguments)

        await column_types(fetch, dimensions.values())


async def _run(connection: "asyncpg.Connection[asyncpg.Record]", file: str, text: str) -> None:
    *generators, rest = re.split(r"^\\gexec\s*$", text, flags=re.MULTILINE)
    try:
        for query in generators:
            for row in await connection.fetch(query):
                await _build_index(connection, row[0])
        if rest.strip():
            await connection.execute(rest)
    except asyncpg.PostgresError as error:
        if (trouble := outage(error)) is not None:
            raise trouble from error
        more = "".join(f" ({text})" for text in (error.detail, error.hint) if text)
        raise SchemaError(f"{file}: {error.message}{more}") from error
    except (asyncpg.InterfaceError, OSError) as error:
        raise DatabaseUnavailable("the connection to the database was lost") from error


async def _build_index(connection: "asyncpg.Connection[asyncpg.Record]", statement: str) -> None:
    """Build or drop an index. One that is not concurrent is of a table whose partitions have theirs."""

    async def build() -> None:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
            await connection.execute(statement)  # on its own: Citus passes on all of the text

    if " CONCURRENTLY " in statement:
        await connection.execute(statement)
    else:
        await with_brief_locks(
            build, busy="the tables are in use by long transactions: an index could not be built"
        )


def _pass_on(message: asyncpg.PostgresLogMessage, warned: Report) -> None:
    if message.severity_en == "WARNING":
        warned(message.message or "")
