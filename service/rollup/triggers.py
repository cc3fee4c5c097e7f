"""The rollup's triggers on the table of the requests: created and dropped without keeping writers waiting."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from service import queries
from service.errors import DatabaseBusy, SchemaError
from service.rollup.connection import ERRORS, REQUESTS, TABLE, UpkeepConnection, translated

#: Longest time in milliseconds that a writer waits while triggers are created or dropped.
LOCK_MS = 100
#: Pause between two attempts to get that lock, and attempts.
LOCK_PAUSE_SECONDS = 0.5
LOCK_ATTEMPTS = 600

TRIGGERS = {
    "chat_stats_insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "chat_stats_update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "chat_stats_delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "chat_stats_truncate": "BEFORE TRUNCATE ON {table}",
}

_DROPS = "; ".join(f"DROP TRIGGER IF EXISTS {name} ON {REQUESTS}" for name in TRIGGERS)


async def count_triggers(connection: UpkeepConnection, *, firing: bool = False) -> int:
    """Return how many of our triggers there are, or how many of them fire."""
    row = await connection.fetchrow(queries.load("rollup_triggers"), list(TRIGGERS))
    return int(row["firing"] if firing else row["triggers"])


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


async def create_triggers(connection: UpkeepConnection) -> None:
    async def create() -> None:
        for name, when in TRIGGERS.items():
            function = "chat_stats_record_truncate" if "TRUNCATE" in when else "chat_stats_record_changes"
            await connection.execute_raw(
                f"CREATE TRIGGER {name} {when.format(table=REQUESTS)} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION stats_schema.{function}()"
            )

    await _with_table_lock(connection, create)


async def drop_triggers(connection: UpkeepConnection) -> None:
    async def drop() -> None:
        if await count_triggers(connection):
            await connection.execute_raw(_DROPS)

    await _with_table_lock(connection, drop)


async def _with_table_lock(connection: UpkeepConnection, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` without keeping writers waiting for long.

    While it waits for transactions that are under way, new ones wait behind it: so it gives up soon, and
    tries again.
    """
    for _attempt in range(LOCK_ATTEMPTS):
        try:
            async with connection.raw_transaction(f"SET LOCAL lock_timeout = {LOCK_MS}"):
                await work()
                return
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SchemaError(
                f"{error}; its owner can drop the triggers: {_DROPS.replace(REQUESTS, TABLE)}"
            ) from error
        except ERRORS as error:
            raise translated(error) from error
    raise DatabaseBusy(f"{TABLE} is in use by long transactions: its triggers could not be changed")
