"""What state the rollup is in, and why."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from service import queries
from service.errors import SchemaError
from service.measures import ROLLUPS
from service.rollup.connection import TABLE, UpkeepConnection
from service.rollup.triggers import TRIGGERS

STATE_TABLE = "chat_stats_rollup_state"
#: What is kept of requests that were purged. Not a part of the rollup, which is made from it too.
PURGED_TABLE = "chat_stats_purged"
#: The tables that hold numbers.
ROLLUP_TABLES = (
    "chat_stats_deltas",
    *(rollup.table for rollup in ROLLUPS),
)
#: All tables without which it is not read.
TABLES = (STATE_TABLE, "chat_stats_uncounted", PURGED_TABLE, *ROLLUP_TABLES)

#: Runs a statement with its arguments, and translates its errors.
Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_KEPT = "SELECT folded_at, audited_at, drift FROM stats_schema.chat_stats_rollup_state"


@dataclass(frozen=True, slots=True)
class RollupStatus:
    """`state` is off, backfilling, on or damaged; `reason` says why it is not on."""

    state: str
    reason: str
    unfolded_deltas: int
    rollup_bytes: int
    table_bytes: int
    folded_at: datetime | None = None
    audited_at: datetime | None = None
    drift: int = 0
    #: Requests that are older were purged, and how many; their sums take so many bytes.
    purged_before: datetime | None = None
    purged_requests: int = 0
    purged_bytes: int = 0


async def read_status(connection: UpkeepConnection) -> RollupStatus:
    """Return the state and all that is counted of the rollup."""
    state, reason = await read_state(connection.fetch)
    missing = await connection.fetchval(queries.load("rollup_missing"), list(TABLES))
    sizes = await connection.fetchrow(queries.load("rollup_sizes"), list(ROLLUP_TABLES))
    kept = [] if STATE_TABLE in missing else await connection.fetch(_KEPT)
    unfolded = (
        0
        if "chat_stats_deltas" in missing
        else await connection.fetchval("SELECT count(*) FROM stats_schema.chat_stats_deltas")
    )
    purged = {} if PURGED_TABLE in missing else dict(await connection.fetchrow(queries.load("rollup_purged")))
    return RollupStatus(state, reason, unfolded_deltas=unfolded, **sizes, **dict(*kept), **purged)


async def read_state(fetch: Fetch) -> tuple[str, str]:
    """Return the state, and why it is not on; cheap enough for a health check.

    Raises `SchemaError` when there is nothing of a rollup.
    """
    found = (await fetch(queries.load("rollup_state"), list(TABLES), list(TRIGGERS)))[0]
    if found["missing"] and found["triggers"] == 0:
        raise SchemaError(f"the rollup lacks {', '.join(found['missing'])}; run: chat-stats migrate")
    if found["triggers"] == 0:
        return "off", "chat-stats rollup enable switches it on"
    if found["missing"]:
        missing = ", ".join(found["missing"])
        return "damaged", f"{missing} missing; run: chat-stats migrate, then chat-stats rollup enable"
    if found["firing"] != len(TRIGGERS):
        return (
            "damaged",
            f"{found['firing']} of its {len(TRIGGERS)} triggers fire; run: chat-stats rollup enable",
        )
    if found["forbidden"]:
        return "damaged", f"this role lacks SELECT on {', '.join(found['forbidden'])}, and so it scans"
    try:
        rows = await fetch(queries.load("rollup_trouble"))
    except SchemaError as error:
        return "damaged", str(error)
    if not rows:
        return "damaged", f"{STATE_TABLE} lost its row; run: chat-stats rollup enable"
    return _trouble(rows[0])


def _trouble(found: asyncpg.Record) -> tuple[str, str]:
    if found["drift"]:
        return "damaged", f"{found['drift']} buckets differ from the requests; run: chat-stats rollup repair"
    if found["uncounted"]:
        return (
            "damaged",
            f"writes could not be counted: {found['uncounted']}; "
            "run: chat-stats migrate, then chat-stats rollup repair",
        )
    if not found["ready"]:
        return "backfilling", "not done; chat-stats rollup enable goes on with it"
    if found["changed"]:
        what = ", ".join("the table" if name == "relation" else name for name in found["changed"])
        return (
            "damaged",
            f"{what} of {TABLE} changed since the rollup was made; "
            "run: chat-stats migrate, then chat-stats rollup repair",
        )
    if found["untriggered"]:
        return (
            "damaged",
            f"{', '.join(found['untriggered'])} of the partitions lack its triggers; "
            "the worker creates them, or chat-stats rollup repair",
        )
    return "on", ""
