"""The rollup's upkeep: switching it on over a live table, folding, checking and repairing it.

Backfill, check and repair are one thing: the difference between the requests and the rollup, bucket by
bucket, each chunk in one snapshot. Adding a chunk's difference makes the rollup right there for good, since
what writers add later the triggers add too. So a backfill that was interrupted goes on where it stopped,
and no snapshot is held for longer than a chunk.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from service.database import LOCK_CLASS, outage
from service.errors import DatabaseBusy, DatabaseUnavailable, SchemaError
from service.settings import Settings

logger = logging.getLogger(__name__)

#: Second half of the key of the lock that keeps two upkeeps apart.
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


class Rollup:
    """Upkeep over one connection of its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def status(self) -> RollupStatus:
        row = await self._fetchrow(_STATUS, TABLE, list(ROLLUP_TABLES), list(TRIGGERS))
        state, reason = _state(row)
        return RollupStatus(
            state,
            reason,
            row["unfolded"],
            row["rollup_bytes"],
            row["table_bytes"],
            row["folded_at"],
            row["audited_at"],
            row["drift"],
        )

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
            if await self._triggers() != len(TRIGGERS):
                await self._start_over()
            row = await self._fetchrow("SELECT backfilled_to::text AS place FROM chat_stats_rollup_state")
            await self._repair(row["place"] or "-infinity", progress)
            await self._execute("UPDATE chat_stats_rollup_state SET ready = true, drift = 0")

    async def disable(self) -> None:
        """Switch the rollup off and empty it: the functions scan again."""
        async with self._lock():
            await self._execute("UPDATE chat_stats_rollup_state SET ready = false")
            await self._with_table_lock(self._clear)

    async def verify(self, progress: Progress) -> int:
        """Return how many models' buckets differ from the requests."""
        async with self._lock():
            drift = 0
            async for start, end in self._chunks("-infinity"):
                drift += await self._in_snapshot(_DIFFERENCES, start, end)
                progress(CHUNK_REQUESTS)
            drift += await self._in_snapshot("SELECT chat_stats_rollup_tier_drift()")
            await self._record_audit(drift)
            return drift

    async def repair(self, progress: Progress) -> int:
        """Make the rollup equal to the requests; return how many models' buckets differed."""
        async with self._lock():
            if await self._triggers() != len(TRIGGERS):
                raise SchemaError("the rollup is not enabled; run: chat-stats rollup enable")
            repaired = await self._repair("-infinity", progress)
            repaired += int(await self._fetchval("SELECT chat_stats_rollup_rebuild_tiers()"))
            await self._execute("UPDATE chat_stats_rollup_state SET ready = true, drift = 0")
            return repaired

    async def fold(self) -> int:
        """Move the deltas into the tiers; return how many there were (0 also while somebody else folds)."""
        return int(await self._fetchval("SELECT chat_stats_fold()"))

    async def audit(self) -> int:
        """Recount some random hours; return how many models' buckets differ, and record it.

        A rollup that differs is not read any more: the functions scan until it is repaired.
        """
        drift = 0
        for row in await self._fetch(_AUDITED, AUDITED_HOURS):
            drift += await self._in_snapshot(_DIFFERENCES, row["start"], row["end"])
        await self._record_audit(drift)
        return drift

    async def _record_audit(self, drift: int) -> None:
        await self._execute(
            "UPDATE chat_stats_rollup_state "
            "SET audited_at = clock_timestamp(), drift = $1, ready = ready AND $1 = 0",
            drift,
        )
        if drift:
            logger.error(
                "the rollup differs from the requests in %d buckets; run: chat-stats rollup repair", drift
            )

    async def _repair(self, place: str, progress: Progress) -> int:
        repaired = 0
        async for start, end in self._chunks(place):
            repaired += await self._in_snapshot(
                "SELECT chat_stats_rollup_repair($1::text::timestamptz, $2::text::timestamptz)", start, end
            )
            await self._execute(
                "UPDATE chat_stats_rollup_state SET backfilled_to = $1::text::timestamptz", start
            )
            await self.fold()
            progress(CHUNK_REQUESTS)
        return repaired

    async def _chunks(self, place: str) -> AsyncIterator[tuple[str | None, str | None]]:
        """Yield consecutive ranges of whole buckets from `place` to the end, then that without a time."""
        while place != "infinity":
            row = await self._fetchrow(_NEXT_CHUNK, place, CHUNK_REQUESTS)
            yield place, row["place"]
            place = row["place"]
        yield None, None

    async def _in_snapshot(self, statement: str, *args: Any) -> int:
        try:
            async with self._connection.transaction(isolation="repeatable_read"):
                return int(await self._connection.fetchval(statement, *args))
        except asyncpg.PostgresError as error:
            raise _translated(error) from error

    async def _start_over(self) -> None:
        async def create() -> None:
            await self._clear()
            for name, when in TRIGGERS.items():
                function = "chat_stats_record_truncate" if "TRUNCATE" in when else "chat_stats_record_changes"
                await self._connection.execute(
                    f"CREATE TRIGGER {name} {when.format(table=TABLE)} "
                    f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
                )
            await self._connection.execute(
                "UPDATE chat_stats_rollup_state "
                "SET enabled_at = clock_timestamp(), backfilled_to = NULL, ready = false, drift = 0"
            )

        await self._with_table_lock(create)

    async def _clear(self) -> None:
        for name in TRIGGERS:
            await self._connection.execute(f"DROP TRIGGER IF EXISTS {name} ON {TABLE}")
        await self._connection.execute(f"TRUNCATE {', '.join(ROLLUP_TABLES)}")

    async def _with_table_lock(self, work: Callable[[], Any]) -> None:
        """Run `work` in a transaction that holds the table's lock; never keep writers waiting for long.

        While it waits for writers that are under way, new ones wait behind it: so it gives up soon, and
        tries again.
        """
        for _attempt in range(LOCK_ATTEMPTS):
            try:
                async with self._connection.transaction():
                    await self._connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS}")
                    await self._connection.execute(f"LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE")
                    await work()
                    return
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(LOCK_PAUSE_SECONDS)
            except asyncpg.InsufficientPrivilegeError as error:
                user = await self._fetchval("SELECT current_user")
                raise SchemaError(f"{error}; needed: GRANT TRIGGER ON {TABLE} TO {user}") from error
        raise DatabaseBusy(f"{TABLE} is in use by long transactions: its triggers could not be created")

    async def _triggers(self) -> int:
        return int(
            await self._fetchval(
                "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = ANY ($2)",
                TABLE,
                list(TRIGGERS),
            )
        )

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
    try:
        connection = await asyncpg.connect(
            settings.database_url.get_secret_value(),
            timeout=settings.connect_timeout_seconds,
            statement_cache_size=0,
            server_settings={"application_name": "chat-stats rollup", "timezone": "UTC", "datestyle": "ISO"},
        )
    except (TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise outage(error) or DatabaseUnavailable("the database cannot be reached") from error
    try:
        await connection.execute("SET statement_timeout = 0")
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


def _state(row: asyncpg.Record) -> tuple[str, str]:
    if row["triggers"] == 0:
        return "off", "chat-stats rollup enable switches it on"
    if row["triggers"] != len(TRIGGERS) or row["firing"] != len(TRIGGERS):
        return (
            "damaged",
            f"{row['firing']} of its {len(TRIGGERS)} triggers fire; run: chat-stats rollup enable",
        )
    if row["ready"]:
        return "on", ""
    if row["drift"]:
        return "damaged", f"{row['drift']} buckets differ from the requests; run: chat-stats rollup repair"
    return "backfilling", "not done; chat-stats rollup enable goes on with it"


_STATUS = """
SELECT
    s.ready, s.folded_at, s.audited_at, s.drift,
    (SELECT count(*) FROM chat_stats_deltas) AS unfolded,
    (SELECT sum(pg_total_relation_size(name::regclass))
     FROM unnest($2::text[]) AS t (name))::bigint AS rollup_bytes,
    (SELECT sum(pg_total_relation_size(relid)) FROM (
        SELECT $1::text::regclass AS relid
        UNION SELECT p.relid FROM pg_partition_tree($1::text::regclass) AS p
    ) AS parts)::bigint AS table_bytes,
    (SELECT count(*) FROM pg_trigger AS t
     WHERE t.tgrelid = $1::text::regclass AND t.tgname = ANY ($3)) AS triggers,
    (SELECT count(*) FROM pg_trigger AS t
     WHERE t.tgrelid = $1::text::regclass AND t.tgname = ANY ($3) AND t.tgenabled IN ('O', 'A')) AS firing
FROM chat_stats_rollup_state AS s
"""

_DIFFERENCES = """
SELECT count(*) FROM chat_stats_rollup_differences($1::text::timestamptz, $2::text::timestamptz)
"""

# Where the chunk that begins at $1 ends: at the end of the bucket in which its last request lies.
_NEXT_CHUNK = """
SELECT COALESCE((
    SELECT chat_stats_bucket(r.created_at) + interval '15 minutes'
    FROM chat_completion_requests AS r
    WHERE r.created_at >= $1::text::timestamptz AND r.created_at < '294276-12-31' AND isfinite(r.created_at)
    ORDER BY r.created_at
    OFFSET $2 LIMIT 1
), 'infinity')::text AS place
"""

# Hours at random among those of the days that are over.
_AUDITED = """
SELECT
    ((t.day + t.hour * interval '1 hour') AT TIME ZONE 'UTC')::text AS start,
    ((t.day + (t.hour + 1) * interval '1 hour') AT TIME ZONE 'UTC')::text AS end
FROM (
    SELECT d.day, floor(random() * 24)::int AS hour
    FROM chat_stats_rollup_days AS d
    WHERE isfinite(d.day) AND d.day < current_date
    GROUP BY d.day
    ORDER BY random()
    LIMIT $1
) AS t
"""
