"""What state the rollup is in, and why."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, get_args

import asyncpg

from chat_stats.service.catalogue.rollups import ROLLUPS
from chat_stats.service.catalogue.statuses import Statuses
from chat_stats.service.database import queries
from chat_stats.service.database.errors import upkeep_error
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import DatabaseBusy, SchemaError
from chat_stats.service.rollup.connection import TABLE
from chat_stats.service.rollup.triggers import TRIGGERS, distribution_trouble, foreign_trouble

STATE_TABLE = "chat_stats_rollup_state"
#: What is kept of requests that were purged. Not a part of the rollups, which are made from it too.
PURGED_TABLES = ("chat_stats_kept", *(rollup.purged for rollup in ROLLUPS))
#: The tables that hold numbers.
ROLLUP_TABLES = ("chat_stats_deltas", *(table for rollup in ROLLUPS for table in rollup.tables.values()))
#: All tables without which it is not read.
TABLES = (STATE_TABLE, "chat_stats_uncounted", *PURGED_TABLES, *ROLLUP_TABLES)

#: Runs a statement with its arguments, and translates its errors.
Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

State = Literal["off", "backfilling", "on", "damaged"]
#: Why a rollup is damaged: rows differ; writes went uncounted; columns changed; our functions know other
#: statuses than our settings; partitions or the table lack our triggers; tables or functions of ours are
#: missing; our role may not read it; Citus holds the requests.
Trouble = Literal[
    "drift",
    "uncounted",
    "columns",
    "statuses",
    "partitions",
    "triggers",
    "tables",
    "functions",
    "forbidden",
    "distributed",
]
STATES: tuple[State, ...] = get_args(State)
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)

_KEPT = (
    "SELECT folded_at, audited_at, drift, "
    "extract(epoch FROM retain_older_than)::double precision AS retain_older_than_seconds "
    "FROM stats_schema.chat_stats_rollup_state"
)
_ON_SHARDS = "SELECT to_regclass('stats_schema.chat_stats_shard_deltas') IS NOT NULL"
_UNFOLDED = "SELECT count(*) FROM stats_schema.chat_stats_deltas"
_UNFOLDED_ON_SHARDS = "SELECT stats_schema.chat_stats_unfolded_deltas()"
#: A row where the rollup was on. (A table that took the place of the requests' own has none of our triggers.)
_WAS_ON = "SELECT FROM stats_schema.chat_stats_rollup_state WHERE ready"


@dataclass(frozen=True, slots=True)
class RollupState:
    """`reason` says why it is not on, and what to do; `trouble` is the kind of damage."""

    state: State
    reason: str = ""
    trouble: Trouble | None = None

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupStatus(RollupState):
    """The state, and what is counted."""

    unfolded_deltas: int
    rollup_bytes: int
    table_bytes: int
    folded_at: datetime | None = None
    audited_at: datetime | None = None
    drift: int = 0
    #: Requests that are older were purged, and how many; their sums take so many bytes.
    purged_before: datetime | None = None
    purged_requests: int = 0
    #: The age from which on deletes by others keep their statistics; None: none do. And of how many of the
    #: purged requests this was done, since when it was first set.
    retain_older_than_seconds: float | None = None
    retained_requests: int = 0
    purged_bytes: int = 0


async def read_status(fetch: Fetch, statuses: Statuses | None = None) -> RollupStatus:
    """Return the state and all that is counted of the rollup."""
    state = await state_for(fetch, statuses)
    missing = (await fetch(queries.load("rollup_missing"), list(TABLES)))[0][0]
    [sizes] = await fetch(queries.load("rollup_sizes"), list(ROLLUP_TABLES))
    kept = [] if STATE_TABLE in missing else await fetch(_KEPT)
    [(on_shards,)] = await fetch(_ON_SHARDS)
    counted = _UNFOLDED_ON_SHARDS if on_shards else _UNFOLDED
    unfolded = 0 if "chat_stats_deltas" in missing else (await fetch(counted))[0][0]
    kept_purged = not {STATE_TABLE, *PURGED_TABLES} & set(missing)
    query = queries.load("rollup_purged_citus" if on_shards else "rollup_purged")
    purged = dict((await fetch(query))[0]) if kept_purged else {}
    return RollupStatus(**asdict(state), unfolded_deltas=unfolded, **sizes, **dict(*kept), **purged)


async def state_in(snapshot: Snapshot, *, timeout: float) -> RollupState:
    """Return the state as the role of `snapshot` sees it; it is off where there is nothing of a rollup.

    Each of its statements may take `timeout` seconds. Raises `Unavailable` when it cannot be known.
    """
    fetch = fetch_in(snapshot, timeout=timeout)
    try:
        return await state_for(fetch, snapshot.names.statuses)
    except SchemaError as error:
        return RollupState("off", str(error))


async def state_for(fetch: Fetch, ours: Statuses | None) -> RollupState:
    """Return the state for a process with these statuses in its settings; None: any will do."""
    state = await read_state(fetch)
    if ours is None or state.trouble is not None:
        return state
    try:
        trouble = await statuses_trouble(fetch, ours)
    except SchemaError:
        return state  # where a function is missing or forbidden, others say so
    return state if trouble is None else _damaged("statuses", trouble)


async def statuses_trouble(fetch: Fetch, ours: Statuses) -> str | None:
    """Return what to do where the functions know other statuses than our settings; None: they agree."""
    [(held,)] = await fetch("SELECT stats_schema.chat_stats_statuses()::text")
    return ours.trouble(held)


def fetch_in(snapshot: Snapshot, *, timeout: float) -> Fetch:
    """Return what runs a statement in `snapshot`, for at most `timeout` seconds."""

    async def fetch(statement: str, *args: object) -> list[asyncpg.Record]:
        try:
            return await snapshot.fetch(statement, *args, timeout=timeout)
        except asyncpg.QueryCanceledError:
            raise DatabaseBusy("the state of the rollup took too long to read") from None
        except asyncpg.PostgresError as error:
            raise upkeep_error(error) from error

    return fetch


async def read_state(fetch: Fetch) -> RollupState:
    """Return the state, cheap enough for a health check.

    Raises `SchemaError` when there is nothing of a rollup.
    """
    [found] = await fetch(queries.load("rollup_state"), list(TABLES), list(TRIGGERS))
    missing = ", ".join(found["missing"])
    if found["triggers"] == 0:
        if missing:
            raise SchemaError(f"the rollup lacks {missing}; run: chat-stats migrate")
        if found["forbidden"] or found["secured"] or not await fetch(_WAS_ON):
            held = (found["has_citus"] and await distribution_trouble(fetch)) or await foreign_trouble(fetch)
            return RollupState("off", held or "chat-stats rollup enable switches it on")
    if missing:
        return _damaged(
            "tables", f"{missing} missing; run: chat-stats migrate, then chat-stats rollup enable"
        )
    if foreign := await foreign_trouble(fetch):
        return _damaged("partitions", foreign)
    if found["firing"] != len(TRIGGERS):
        return _damaged(
            "triggers",
            f"{found['firing']} of its {len(TRIGGERS)} triggers fire; run: chat-stats rollup enable",
        )
    if found["forbidden"]:
        return _damaged(
            "forbidden",
            f"the role {found['role']} lacks SELECT on {', '.join(found['forbidden'])}, and so it scans; "
            f"their owner can run: SELECT chat_stats_grant_read('{found['role']}')",
        )
    if found["secured"]:
        return _damaged(
            "forbidden",
            f"row level security holds for the role {found['role']} on {', '.join(found['secured'])}, "
            "and so it scans; it needs BYPASSRLS",
        )
    try:
        if found["has_citus"] and (distributed := await distribution_trouble(fetch)):
            return _damaged("distributed", f"{distributed}; run: chat-stats rollup disable")
        rows = await fetch(queries.load("rollup_trouble"))
    except SchemaError as error:
        permission = isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError)
        return _damaged("forbidden" if permission else "functions", str(error))
    if not rows:
        return _damaged("tables", f"{STATE_TABLE} lost its row; run: chat-stats rollup enable")
    if rows[0]["drift"] and (lost := await lost_sums(fetch)):
        return _damaged("drift", f"{rows[0]['drift']} buckets differ from the requests: {lost}")
    return _judged(rows[0])


async def lost_sums(fetch: Fetch) -> str | None:
    """Return what to do where the sums of requests that are gone are lost, which any repair needs."""
    for lost in await fetch(queries.load("rollup_purged_lost")):
        has = "has" if lost["lost"] == 1 else "have"
        return (
            f"{lost['tables']} {has} lost the sums of the requests that were purged, or went with a "
            f"partition, before {lost['before']}; restore them from a backup, "
            f"or set purged_before of {STATE_TABLE} to NULL, to do without them"
        )
    return None


def _judged(found: asyncpg.Record) -> RollupState:
    if found["drift"]:
        return _damaged(
            "drift", f"{found['drift']} buckets differ from the requests; run: chat-stats rollup repair"
        )
    if found["uncounted"]:
        return _damaged(
            "uncounted",
            f"writes could not be counted: {found['uncounted']}; "
            "run: chat-stats migrate, then chat-stats rollup repair",
        )
    if not found["ready"]:
        return RollupState("backfilling", "not done; chat-stats rollup enable goes on with it")
    if found["changed"]:
        names = {"relation": "the table", "statuses": "the meaning of statuses"}
        what = ", ".join(names.get(name, name) for name in found["changed"])
        return _damaged(
            "columns",
            f"{what} of {TABLE} changed since the rollup was made; "
            "run: chat-stats migrate, then chat-stats rollup repair",
        )
    if found["untriggered"]:
        return _damaged(
            "partitions",
            f"{', '.join(found['untriggered'])} of the partitions lack its triggers; "
            "the worker creates them, or chat-stats rollup repair",
        )
    return RollupState("on")


def _damaged(trouble: Trouble, reason: str) -> RollupState:
    return RollupState("damaged", reason, trouble)
