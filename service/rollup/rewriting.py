"""Writes the tables of a rollup that is not read yet once more, so that they are as small as they can be.

The chunks of a backfill leave earlier versions of rows behind, and pages of indexes half empty.
"""

from collections.abc import Iterable
from contextlib import suppress

import asyncpg

from chat_stats.service.errors import DatabaseBusy
from chat_stats.service.rollup.connection import UpkeepConnection

#: Longest time in milliseconds that it waits for a table that others read, such as a backup. An autovacuum,
#: which a backfill brings on, gives way after `deadlock_timeout`: a second.
LOCK_MS = 5000


async def rewrite(connection: UpkeepConnection, other: UpkeepConnection, tables: Iterable[str]) -> None:
    """Rewrite the tables over `connection`; one that is in use, or has no room for a copy, stays as it is.

    Folds leave out their turn meanwhile, since `other` holds their lock: none waits for a table.
    """
    async with other.transaction():
        await other.execute("SELECT FROM stats_schema.chat_stats_rollup_state FOR UPDATE")
        for table in tables:
            with suppress(DatabaseBusy, asyncpg.PostgresError):  # the rollup is right without it too
                await connection.execute_alone(
                    f"VACUUM (FULL, ANALYZE) stats_schema.{table}", lock_ms=LOCK_MS
                )
