"""The rollup's triggers on the tables of the requests: created and dropped without keeping writers waiting.

A statement fires the triggers of the table that it names. So each partition has them, too.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import asyncpg

from chat_stats.service.catalogue.measures import MEASURES, columns
from chat_stats.service.catalogue.rollups import DIMENSIONS
from chat_stats.service.database import queries
from chat_stats.service.database.errors import upkeep_error
from chat_stats.service.database.locks import LOCK_MS, with_brief_locks
from chat_stats.service.database.own_rollups import declared_own_rollups
from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup.connection import ERRORS, TABLE, UpkeepConnection

TRIGGERS = {
    "chat_stats_insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "chat_stats_update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "chat_stats_delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "chat_stats_truncate": "BEFORE TRUNCATE ON {table}",
}
#: The columns of the requests that they read.
_READ = ("created_at", "status", *DIMENSIONS, *(column.name for column in columns(MEASURES)))


class RequestTable(NamedTuple):
    """The table of the requests, or a partition."""

    oid: int
    #: With its schema, quoted.
    name: str
    #: Whether all our triggers fire.
    firing: bool


async def count_triggers(connection: UpkeepConnection, *, firing: bool = False) -> int:
    """Return how many of our triggers the table of the requests has, or how many of them fire."""
    row = await connection.fetchrow(queries.load("rollup_triggers"), list(TRIGGERS))
    return int(row["firing"] if firing else row["triggers"])


async def request_tables(connection: UpkeepConnection) -> list[RequestTable]:
    """Return the table of the requests and its partitions, without foreign tables."""
    return [
        RequestTable(row["relation"], row["name"], row["firing"] == len(TRIGGERS))
        for row in await connection.fetch(
            "SELECT relation::bigint, relation::regclass::text AS name, firing "
            "FROM stats_schema.chat_stats_request_tables() "
            "WHERE (SELECT relkind FROM pg_class WHERE oid = relation) <> 'f'::\"char\""
        )
    ]


async def require_rights(connection: UpkeepConnection) -> None:
    """Raise `SchemaError` with what is missing, and the statement that grants it."""
    row = await connection.fetchrow(queries.load("rollup_rights"))
    if not row["is_table"]:
        raise SchemaError(
            f"{TABLE} is not a table, and only a table can have the triggers of the rollup; "
            "without it, the functions scan"
        )
    if lacking := row["lacking"]:
        raise SchemaError(
            f"the role {row['role']} lacks {' and '.join(lacking)} on {TABLE}; "
            f"its owner can say: GRANT {', '.join(lacking)} ON {TABLE} TO {row['role']}"
        )


async def distribution_trouble(fetch: Callable[..., Awaitable[list[asyncpg.Record]]]) -> str | None:
    """Return why there can be no rollup where Citus holds the requests; None where it does not."""
    [(held,)] = await fetch("SELECT stats_schema.chat_stats_distribution()")
    if held is None:
        return None
    return (
        f"{TABLE} is {held} in Citus: triggers fire on its shards, where the tables of the rollup are not, "
        "so it would miss what is written; without it, the functions scan. "
        "Distribute it by model_id, then run: chat-stats migrate, and chat-stats rollup enable"
    )


async def foreign_trouble(fetch: Callable[..., Awaitable[list[asyncpg.Record]]]) -> str | None:
    """Return why there can be no rollup where partitions are foreign tables; None: there are none."""
    foreign = await fetch(queries.load("foreign_partitions"))
    if not foreign:
        return None
    return (
        f"of the partitions of {TABLE}, foreign tables can have no triggers, and beside those of the rollup "
        f"Postgres refuses writes to them: {', '.join(row['name'] for row in foreign)}; "
        "without it, the functions scan. Detach them, then run: chat-stats rollup enable"
    )


async def on_shards(connection: UpkeepConnection) -> bool:
    """Return whether the triggers write beside the shards of the requests, on the nodes of Citus."""
    return bool(await connection.fetchval("SELECT stats_schema.chat_stats_on_shards()"))


async def drop_other_triggers(connection: UpkeepConnection) -> None:
    """Drop triggers of ours that were right before the requests were distributed, or put together again."""
    function = trigger_function(await on_shards(connection))
    found = await connection.fetch(queries.load("rollup_triggered"))
    if any(row["function"] != function for row in found):
        await drop_triggers(connection)


def trigger_function(shards: bool) -> str:
    return "chat_stats_record_shard_changes" if shards else "chat_stats_record_changes"


async def require_countable(connection: UpkeepConnection) -> None:
    """Raise `SchemaError` where the triggers of the rollup would not see what is written."""
    if trouble := await distribution_trouble(connection.fetch) or await foreign_trouble(connection.fetch):
        raise SchemaError(trouble)
    own = await declared_own_rollups(connection.fetch) if await on_shards(connection) else []
    if own:
        names = [each.rollup.name for each in own]
        raise SchemaError(
            f"on Citus there are the built-in rollups alone; first: chat-stats rollup remove {names[0]}"
            + (f", and the same of {', '.join(names[1:])}" if names[1:] else "")
        )


async def require_readable(connection: UpkeepConnection) -> None:
    """Raise `SchemaError` naming the columns whose type cannot be read, and what would be right."""
    unreadable = [
        f"{TABLE}.{row['name']} is of type {row['type']}; chat-stats reads {row['wanted']}"
        for row in await connection.fetch("SELECT * FROM stats_schema.chat_stats_unreadable_columns()")
    ]
    if unreadable:
        raise SchemaError("; ".join(unreadable))


async def require_stored(connection: UpkeepConnection, names: Iterable[str] = _READ) -> None:
    """Raise `SchemaError` naming those of the columns that no trigger can read."""
    found = await connection.fetch(queries.load("virtual_columns"), list(names))
    if generated := ", ".join(row["name"] for row in found):
        raise SchemaError(
            f"{generated} of {TABLE} is generated when it is read, and triggers cannot read it; "
            "make it GENERATED ALWAYS AS (...) STORED; without the rollup, the functions scan"
        )


async def create_triggers(
    connection: UpkeepConnection, tables: Iterable[RequestTable], *, present: str | None = None
) -> None:
    """Create our triggers on `tables`, each in a short transaction.

    With `present`, a table that has rows is marked as uncounted for that reason, in the same transaction:
    nothing is known of how they came.
    """
    function = trigger_function(await on_shards(connection))
    for table in tables:

        async def create(table: RequestTable = table) -> None:
            for name, when in TRIGGERS.items():
                await connection.execute_raw(f"DROP TRIGGER IF EXISTS {name} ON {table.name}")
                await connection.execute_raw(  # one by one: Citus takes no list of them
                    f"CREATE TRIGGER {name} {when.format(table=table.name)} "
                    f"FOR EACH STATEMENT EXECUTE FUNCTION stats_schema.{function}()"
                )
            if present is not None:
                await connection.fetch_raw(
                    "INSERT INTO stats_schema.chat_stats_uncounted (relation, reason) "  # noqa: S608
                    f"SELECT $1::bigint::oid, $2::text WHERE EXISTS (SELECT 1 FROM ONLY {table.name})",
                    table.oid,
                    present,
                )

        await _with_table_lock(connection, table.name, create)


async def drop_triggers(connection: UpkeepConnection) -> None:
    """Drop our triggers wherever they are: also on tables that were detached or renamed."""
    for row in await connection.fetch(queries.load("rollup_triggered")):
        table = row["name"]

        async def drop(table: str = table) -> None:
            for name in TRIGGERS:
                await connection.execute_raw(f"DROP TRIGGER IF EXISTS {name} ON {table}")

        await _with_table_lock(connection, table, drop)


async def _with_table_lock(
    connection: UpkeepConnection, table: str, work: Callable[[], Awaitable[None]]
) -> None:
    """Run `work` without keeping the writers of `table` waiting for long."""

    # Without the second one Citus drops no trigger of a distributed table; elsewhere it means nothing.
    settings = f"SET LOCAL lock_timeout = {LOCK_MS}; SET LOCAL citus.enable_unsafe_triggers = on"

    async def transaction() -> None:
        async with connection.raw_transaction(settings):
            await work()

    try:
        await with_brief_locks(
            transaction, busy=f"{table} is in use by long transactions: its triggers could not be changed"
        )
    except asyncpg.InsufficientPrivilegeError as error:
        drops = "; ".join(f"DROP TRIGGER IF EXISTS {name} ON {table}" for name in TRIGGERS)
        raise SchemaError(f"{error}; its owner can drop the triggers: {drops}") from error
    except ERRORS as error:
        raise upkeep_error(error) from error
