"""The rollup's upkeep: switching it on over a live table, folding, checking and repairing it.

Backfill, check and repair are one thing: the difference between the requests and the rollup, bucket by
bucket, each chunk in one snapshot. Adding a chunk's difference makes the rollup right there for good, since
what writers add later the triggers add too. So a backfill that was interrupted goes on where it stopped,
and no snapshot is held for longer than a chunk.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from service import queries
from service.database import LOCK_CLASS, connect, outage
from service.errors import DatabaseBusy, SchemaError
from service.partitions import forget_partitions, keep_detached
from service.settings import Settings

logger = logging.getLogger(__name__)

#: Second halves of the keys of the locks that keep two folds, and two upkeeps, apart.
_FOLD_LOCK = 3
_LOCK = 4

#: Requests that one chunk covers, about.
CHUNK_REQUESTS = 200_000
#: Longest time in milliseconds that a writer waits while triggers are created or dropped.
LOCK_MS = 100
#: Pause between two attempts to get that lock, and attempts.
LOCK_PAUSE_SECONDS = 0.5
LOCK_ATTEMPTS = 600
#: Ranges of an hour that one audit looks at.
AUDITED_HOURS = 4

#: What became of how many requests: hears the number that one more chunk covered.
Progress = Callable[[int], None]

TRIGGERS = {
    "chat_stats_insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "chat_stats_update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "chat_stats_delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "chat_stats_truncate": "BEFORE TRUNCATE ON {table}",
}
TABLE = "chat_completion_requests"
STATE_TABLE = "chat_stats_rollup_state"
#: What is kept of requests that were purged. Not a part of the rollup, which is made from it too.
PURGED_TABLE = "chat_stats_purged"
ROLLUP_TABLES = (
    "chat_stats_deltas",
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


class Rollup:
    """Upkeep over one connection of its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def status(self) -> RollupStatus:
        found = await self._fetchrow(
            queries.load("rollup_catalogue"),
            TABLE,
            [STATE_TABLE, PURGED_TABLE, *ROLLUP_TABLES],
            list(ROLLUP_TABLES),
            list(TRIGGERS),
        )
        missing = found["missing"]
        if len(missing) > len(ROLLUP_TABLES) and not found["triggers"]:
            raise SchemaError("the rollup has no tables; run: chat-stats migrate")
        rows = [] if STATE_TABLE in missing else await self._fetch("SELECT * FROM chat_stats_rollup_state")
        kept = dict(rows[0]) if rows else {}
        unfolded = (
            0
            if "chat_stats_deltas" in missing
            else await self._fetchval("SELECT count(*) FROM chat_stats_deltas")
        )
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
            **await self._purged(missing),
        )

    async def _purged(self, missing: list[str]) -> dict[str, Any]:
        return {} if PURGED_TABLE in missing else dict(await self._fetchrow(queries.load("rollup_purged")))

    async def has_triggers(self) -> bool:
        """Return whether there is anything to keep up: the rollup is on, or on its way there."""
        return await self._triggers() > 0

    async def estimate_requests(self) -> int:
        """Return about how many requests there are, from the table's statistics."""
        row = await self._fetchrow(
            "SELECT COALESCE(sum(GREATEST(c.reltuples, 0)), 0)::bigint AS requests FROM pg_class AS c "
            "WHERE c.oid = $1::text::regclass "
            "OR c.oid IN (SELECT relid FROM pg_partition_tree($1::text::regclass))",
            TABLE,
        )
        return int(row["requests"])

    async def enable(self, progress: Progress) -> None:
        """Switch the rollup on, or go on with a backfill that was interrupted; writers keep writing."""
        async with self._lock():
            status = await self.status()
            if status.state == "on":
                return
            await self._require_rights()
            await self._execute("INSERT INTO chat_stats_rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING")
            if fresh := await self._triggers(firing=True) != len(TRIGGERS):
                await self._require_purged()
                await self._start_over()
                await forget_partitions(self._fetch)
            else:
                await self._keep_purged()
            place = await self._fetchval("SELECT backfilled_to::text FROM chat_stats_rollup_state")
            await self._repair(place or "-infinity", progress)
            if not fresh:  # else folds alone made the months and the lifetime
                await self._rebuild_tiers()
            await self._record_done()

    async def disable(self) -> None:
        """Switch the rollup off and empty it: the functions scan again."""
        async with self._lock():
            await self._execute("UPDATE chat_stats_rollup_state SET ready = false")
            await self._with_table_lock(self._drop_triggers)
            await self._empty()

    async def verify(self, progress: Progress) -> int:
        """Return how many models' buckets differ from the requests."""
        async with self._lock():
            status = await self.status()
            if status.state in ("off", "backfilling"):
                raise SchemaError(f"the rollup is {status.state}: {status.reason}")
            drift = 0
            await keep_detached(self._fetch)
            async for start, end in self._chunks("-infinity"):
                drift += await self._in_snapshot(queries.load("rollup_differences"), start, end)
                progress(CHUNK_REQUESTS)
            drift += await self._in_snapshot("SELECT chat_stats_rollup_tier_drift()")
            await self._record_audit(drift)
            return drift

    async def repair(self, progress: Progress) -> int:
        """Make the rollup equal to the requests; return how many models' buckets differed."""
        async with self._lock():
            if await self._triggers(firing=True) != len(TRIGGERS):
                raise SchemaError("the rollup is not enabled; run: chat-stats rollup enable")
            await self._keep_purged()
            repaired = await self._repair("-infinity", progress) + await self._rebuild_tiers()
            await self._record_done()
            return repaired

    async def fold(self) -> int:
        """Move the deltas into the tiers; return how many there were (0 also while somebody else folds)."""
        return int(await self._fetchval("SELECT chat_stats_fold()"))

    async def audit(self) -> int:
        """Recount some random hours; return how many models' buckets differ, and record it.

        A rollup that differs is not read any more: the functions scan until it is repaired. While it is being
        repaired, nothing is recounted.
        """
        drift = 0
        with suppress(DatabaseBusy):
            async with self._lock():
                await keep_detached(self._fetch)
                for row in await self._fetch(queries.load("rollup_audited"), AUDITED_HOURS):
                    drift += await self._in_snapshot(
                        queries.load("rollup_differences"), row["start"], row["end"]
                    )
                await self._record_audit(drift)
        return drift

    async def _record_audit(self, drift: int) -> None:
        await self._execute(
            "UPDATE chat_stats_rollup_state "
            "SET audited_at = clock_timestamp(), drift = $1::bigint, ready = ready AND $1::bigint = 0",
            drift,
        )
        if drift:
            logger.error(
                "the rollup differs from the requests in %d buckets; run: chat-stats rollup repair", drift
            )

    async def _repair(self, place: str, progress: Progress) -> int:
        repaired = 0
        async for start, end in self._chunks(place):
            repaired += int(
                await self._fetchval(
                    "SELECT chat_stats_rollup_repair($1::text::timestamptz, $2::text::timestamptz)",
                    start,
                    end,
                )
            )
            await self._execute(
                "UPDATE chat_stats_rollup_state "
                "SET backfilled_to = COALESCE($1::text::timestamptz, 'infinity')",
                end,
            )
            await self.fold()
            progress(CHUNK_REQUESTS)
        return repaired

    async def _rebuild_tiers(self) -> int:
        return int(await self._fetchval("SELECT chat_stats_rollup_rebuild_tiers()"))

    async def _record_done(self) -> None:
        await self._execute(
            "UPDATE chat_stats_rollup_state SET ready = true, drift = 0, backfilled_to = NULL"
        )

    async def _chunks(self, place: str) -> AsyncIterator[tuple[str | None, str | None]]:
        """Yield consecutive ranges of whole buckets from `place` to the end, then that without a time."""
        while place != "infinity":
            row = await self._fetchrow(queries.load("rollup_next_chunk"), place, CHUNK_REQUESTS)
            yield place, row["place"]
            place = row["place"]
        yield None, None

    async def _in_snapshot(self, statement: str, *args: Any) -> int:
        try:
            async with self._connection.transaction(isolation="repeatable_read"):
                # Before there is a snapshot: one that is older than a TRUNCATE under way would see the
                # rollup of the rows that are gone.
                await self._connection.execute(f"LOCK TABLE {TABLE} IN ACCESS SHARE MODE")
                return int(await self._connection.fetchval(statement, *args))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise _translated(error) from error

    async def _require_rights(self) -> None:
        row = await self._fetchrow(queries.load("rollup_rights"), TABLE)
        if lacking := row["lacking"]:
            raise SchemaError(
                f"the role {row['role']} lacks {' and '.join(lacking)} on {TABLE}; "
                f"its owner can say: GRANT {', '.join(lacking)} ON {TABLE} TO {row['role']}"
            )

    async def _keep_purged(self) -> None:
        """Before a repair: what the rollup alone knows of requests that are gone, it must not take away."""
        await keep_detached(self._fetch)
        await self._require_purged()

    async def _require_purged(self) -> None:
        """Refuse to make the rollup anew without the sums of the requests that were purged."""
        if before := await self._fetchval(queries.load("rollup_purged_lost")):
            raise SchemaError(
                f"{PURGED_TABLE} has lost the sums of the requests that were purged before {before}; restore "
                f"it from a backup, or set purged_before of {STATE_TABLE} to NULL, to do without them"
            )

    async def _start_over(self) -> None:
        await self._execute(
            "UPDATE chat_stats_rollup_state SET ready = false, backfilled_to = NULL, drift = 0"
        )
        await self._with_table_lock(self._drop_triggers)
        await self._empty()
        await self._with_table_lock(self._create_triggers)
        await self._execute("UPDATE chat_stats_rollup_state SET enabled_at = clock_timestamp()")

    async def _create_triggers(self) -> None:
        for name, when in TRIGGERS.items():
            function = "chat_stats_record_truncate" if "TRUNCATE" in when else "chat_stats_record_changes"
            await self._connection.execute(
                f"CREATE TRIGGER {name} {when.format(table=TABLE)} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            )

    async def _drop_triggers(self) -> None:
        if await self._triggers():
            await self._connection.execute(
                ";".join(f"DROP TRIGGER IF EXISTS {name} ON {TABLE}" for name in TRIGGERS)
            )

    async def _empty(self) -> None:
        """Delete what is in the rollup. TRUNCATE would empty it for those, too, who still read it."""
        try:
            async with self._connection.transaction():
                await self._connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, {_FOLD_LOCK})")
                for table in ROLLUP_TABLES:
                    await self._connection.execute(f"DELETE FROM {table}")  # noqa: S608
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise _translated(error) from error

    async def _with_table_lock(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work`, which creates or drops triggers, without keeping writers waiting for long.

        While it waits for transactions that are under way, new ones wait behind it: so it gives up soon, and
        tries again.
        """
        for _attempt in range(LOCK_ATTEMPTS):
            try:
                async with self._connection.transaction():
                    await self._connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
                    await work()
                    return
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(LOCK_PAUSE_SECONDS)
            except asyncpg.InsufficientPrivilegeError as error:
                drops = "; ".join(f"DROP TRIGGER IF EXISTS {name} ON {TABLE}" for name in TRIGGERS)
                raise SchemaError(f"{error}; its owner can drop the triggers: {drops}") from error
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                raise _translated(error) from error
        raise DatabaseBusy(f"{TABLE} is in use by long transactions: its triggers could not be changed")

    async def _triggers(self, *, firing: bool = False) -> int:
        """Return how many of our triggers there are, or how many of them fire."""
        row = await self._fetchrow(queries.load("rollup_triggers"), TABLE, list(TRIGGERS))
        return int(row["firing"] if firing else row["triggers"])

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[None]:
        if not await self._fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, _LOCK):
            raise DatabaseBusy("another rollup command is under way")
        try:
            yield
        finally:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await self._connection.execute(f"SELECT pg_advisory_unlock({LOCK_CLASS}, {_LOCK})")

    async def _execute(self, statement: str, *args: Any) -> None:
        await self._fetch(statement, *args)

    async def _fetchrow(self, statement: str, *args: Any) -> asyncpg.Record:
        return (await self._fetch(statement, *args))[0]

    async def _fetchval(self, statement: str, *args: Any) -> Any:
        return (await self._fetch(statement, *args))[0][0]

    async def _fetch(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        try:
            return await self._connection.fetch(statement, *args)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise _translated(error) from error


@asynccontextmanager
async def open_rollup(settings: Settings) -> AsyncIterator[Rollup]:
    """Connect for the rollup's upkeep, without time-outs: it takes as long as it takes."""
    connection = await connect(settings, application_name="chat-stats rollup")
    try:
        await connection.execute("SET statement_timeout = 0; SET datestyle = ISO")
        yield Rollup(connection)
    finally:
        with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError, TimeoutError):
            await connection.close(timeout=settings.connect_timeout_seconds)


def _translated(error: Exception) -> Exception:
    if (trouble := outage(error)) is not None:
        return trouble
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedFunctionError):
        return SchemaError(f"{error}; run: chat-stats migrate")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return SchemaError(f"{error}; the rollup is kept by the role that ran chat-stats migrate")
    return error


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
