"""Rollups of the operator's own, for the tests: added to a database, and compared with what is counted."""

import asyncpg

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.kept_dimensions import OwnRollup
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.upkeep import Rollup

DIMENSIONS = "user_id, team=tags->>team, note"
COLUMNS = "ALTER TABLE chat_completion_requests ADD tags jsonb, ADD note text"


def own_rollups(connection: asyncpg.Connection, dimensions: str = DIMENSIONS) -> OwnRollups:
    return OwnRollups(Rollup(connection), known_dimensions(dimensions))


async def add(
    connection: asyncpg.Connection,
    name: str,
    *by: str,
    percentiles: bool = True,
    dimensions: str = DIMENSIONS,
) -> OwnRollup:
    rollups = own_rollups(connection, dimensions)
    wanted = await rollups.declare(name, by, percentiles=percentiles)
    await rollups.add(wanted, lambda _done: None)
    return wanted


async def states(connection: asyncpg.Connection) -> dict[str, str]:
    return {each.name: each.state for each in await own_rollups(connection).list_all()}


async def differences(
    connection: asyncpg.Connection, rollup: str, keys: dict[str, str]
) -> list[asyncpg.Record]:
    """Return where a rollup differs from a count of the requests; `keys`: expressions by column."""
    columns = ", ".join(keys)
    counted = ", ".join(f"{expression} AS {column}" for column, expression in keys.items())
    return await connection.fetch(f"""
        WITH requests AS (
            SELECT {columns}, count(*) AS requests, COALESCE(sum(input_tokens), 0) AS tokens,
                count(processing_time_ms) AS timed
            FROM (SELECT {counted}, input_tokens, processing_time_ms FROM chat_completion_requests) AS r
            GROUP BY {columns}
        ), kept AS (
            SELECT {columns}, sum(requests)::bigint, sum(input_tokens), sum(timed)::bigint
            FROM (
                SELECT {columns}, requests, input_tokens, timed FROM chat_stats_rollup_{rollup}_lifetime
                UNION ALL
                SELECT {columns}, requests, input_tokens, timed FROM chat_stats_deltas
            ) AS u
            GROUP BY {columns}
            HAVING sum(requests) <> 0
        )
        (SELECT 'requests', * FROM requests EXCEPT SELECT 'requests', * FROM kept)
        UNION ALL
        (SELECT 'rollup', * FROM kept EXCEPT SELECT 'rollup', * FROM requests)
    """)
