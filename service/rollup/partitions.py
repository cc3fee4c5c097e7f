"""Partitions that were detached or dropped: their rows went without a trigger, their statistics stay.

A rollup that counts more than the requests is damaged, except over the time of a partition that is gone:
there the surplus is kept like the sums of purged requests. When the same partition is attached again, it is
given back.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from chat_stats.service.database import queries

#: Runs a statement with its arguments, and translates its errors.
Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]


async def keep_detached(fetch: Fetch) -> int:
    """Keep the statistics of partitions that are gone; return of how many models' buckets.

    The caller holds the lock of the rollup's upkeep, and the rollup was not wrong when they went.
    """
    kept = 0
    for partition in await fetch(queries.load("partitions_changed")):
        for day in await fetch(queries.load("rollup_days_between"), partition["starts"], partition["ends"]):
            kept += await _keep(fetch, day["start"], day["end"], gone=partition["gone"])
        if partition["gone"]:  # a rollup that is not made yet has none of it
            await fetch(
                "UPDATE stats_schema.chat_stats_rollups "
                "SET whole_from = GREATEST(whole_from, $1::text::timestamptz) WHERE NOT ready",
                partition["ends"],
            )
        await fetch(
            "UPDATE stats_schema.chat_stats_partitions SET attached = $2 WHERE partition = $1",
            partition["partition"],
            not partition["gone"],
        )
    await fetch(queries.load("partitions_seen"))
    return kept


async def forget_partitions(fetch: Fetch) -> None:
    """Forget partitions that are gone: the rollup is about to be made from what there is."""
    await fetch("DELETE FROM stats_schema.chat_stats_partitions WHERE attached")
    await fetch(queries.load("partitions_seen"))


async def _keep(fetch: Fetch, *bounds: Any, gone: bool) -> int:
    records = await fetch(
        "SELECT stats_schema.chat_stats_keep($1::text::timestamptz, $2::text::timestamptz, $3::boolean)",
        *bounds,
        gone,
    )
    return int(records[0][0])
