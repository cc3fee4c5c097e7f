"""What state the rollup is in, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from service import queries
from service.errors import SchemaError
from service.rollup.connection import UpkeepConnection
from service.rollup.triggers import TRIGGERS

STATE_TABLE = "chat_stats_rollup_state"
#: What is kept of requests that were purged. Not a part of the rollup, which is made from it too.
PURGED_TABLE = "chat_stats_purged"
#: The tables that hold numbers.
ROLLUP_TABLES = (
    "chat_stats_deltas",
    "chat_stats_rollup_slots",
    "chat_stats_rollup_days",
    "chat_stats_rollup_months",
    "chat_stats_rollup_lifetime",
)


@dataclass(frozen=True, slots=True)
class RollupStatus:
    """`state` is off, backfilling, on or damaged; `reason` says why it is not on."""

    state: str
    reason: str
    unfolded_deltas: int
    rollup_bytes: int
    table_bytes: int
    folded_at: datetime | None
    audited_at: datetime | None
    drift: int
    #: Requests that are older were purged, and how many; their sums take so many bytes.
    purged_before: datetime | None = None
    purged_requests: int = 0
    purged_bytes: int = 0


_KEPT = "SELECT ready, folded_at, audited_at, drift FROM stats_schema.chat_stats_rollup_state"


async def read_status(connection: UpkeepConnection) -> RollupStatus:
    found = await connection.fetchrow(
        queries.load("rollup_catalogue"),
        [STATE_TABLE, PURGED_TABLE, *ROLLUP_TABLES],
        list(ROLLUP_TABLES),
        list(TRIGGERS),
    )
    missing = found["missing"]
    if len(missing) > len(ROLLUP_TABLES) and not found["triggers"]:
        raise SchemaError("the rollup has no tables; run: chat-stats migrate")
    rows = [] if STATE_TABLE in missing else await connection.fetch(_KEPT)
    kept = dict(rows[0]) if rows else {}
    unfolded = (
        0
        if "chat_stats_deltas" in missing
        else await connection.fetchval("SELECT count(*) FROM stats_schema.chat_stats_deltas")
    )
    purged = {} if PURGED_TABLE in missing else dict(await connection.fetchrow(queries.load("rollup_purged")))
    state, reason = _state(found, kept)
    return RollupStatus(
        state,
        reason,
        unfolded,
        found["rollup_bytes"],
        found["table_bytes"],
        kept.get("folded_at"),
        kept.get("audited_at"),
        kept.get("drift", 0),
        **purged,
    )


def _state(found: asyncpg.Record, kept: Mapping[str, Any]) -> tuple[str, str]:
    """Return the state and the reason, from what the catalogue has and the row that is kept."""
    if found["missing"]:
        missing = ", ".join(found["missing"])
        return "damaged", f"{missing} missing; run: chat-stats migrate, then chat-stats rollup enable"
    if found["triggers"] == 0:
        return "off", "chat-stats rollup enable switches it on"
    if found["firing"] != len(TRIGGERS):
        return (
            "damaged",
            f"{found['firing']} of its {len(TRIGGERS)} triggers fire; run: chat-stats rollup enable",
        )
    if not kept:
        return "damaged", f"{STATE_TABLE} lost its row; run: chat-stats rollup enable"
    if kept["ready"]:
        return "on", ""
    if kept["drift"]:
        return "damaged", f"{kept['drift']} buckets differ from the requests; run: chat-stats rollup repair"
    return "backfilling", "not done; chat-stats rollup enable goes on with it"
