"""The rollup's upkeep: switching it on over a live table, folding, checking and repairing it.

Backfill, check and repair are one thing: the difference between the requests and the rollup, bucket by
bucket, each chunk in one snapshot. Adding a chunk's difference makes the rollup right there for good, since
what writers add later the triggers add too. So a backfill that was interrupted goes on where it stopped,
and no snapshot is held for longer than a chunk.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

import asyncpg

from chat_stats.service.catalogue.rollups import ROLLUPS
from chat_stats.service.catalogue.statuses import Statuses
from chat_stats.service.database import queries
from chat_stats.service.database.own_rollups import read_own_rollups
from chat_stats.service.database.pool import READ_COMMITTED, connect
from chat_stats.service.errors import DatabaseBusy, DatabaseUnavailable, SchemaError
from chat_stats.service.rollup.audit import audit
from chat_stats.service.rollup.chunks import Chunks
from chat_stats.service.rollup.connection import ERRORS, UpkeepConnection
from chat_stats.service.rollup.own_installation import OwnInstallation
from chat_stats.service.rollup.partitions import forget_partitions, keep_detached
from chat_stats.service.rollup.rewriting import rewrite
from chat_stats.service.rollup.state import (
    ROLLUP_TABLES,
    STATE_TABLE,
    RollupState,
    RollupStatus,
    lost_sums,
    read_state,
    read_status,
    statuses_trouble,
)
from chat_stats.service.rollup.triggers import (
    TRIGGERS,
    RequestTable,
    count_triggers,
    create_triggers,
    drop_other_triggers,
    drop_triggers,
    foreign_trouble,
    on_shards,
    request_tables,
    require_countable,
    require_readable,
    require_rights,
    require_stored,
)
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

BUILT_IN = [rollup.name for rollup in ROLLUPS]

#: Attempts at a repair during which writes go uncounted.
REPAIRS = 3
#: Why the writes of a partition count as uncounted until it was recounted.
PRESENT = "it had rows before it had the triggers"

#: Called with the number of requests that one more chunk covers, at most: the sum may exceed the table's.
Progress = Callable[[int], None]
#: Opens one more connection for as long as it is needed.
Opener = Callable[[], AbstractAsyncContextManager["asyncpg.Connection[asyncpg.Record]"]]


class Rollup:
    """Upkeep over one connection of its own, and in a backfill or repair one more, where it can be had."""

    def __init__(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        another: Opener | None = None,
        statuses: Statuses | None = None,
    ) -> None:
        self.connection = UpkeepConnection(connection)
        self.chunks = Chunks(self.connection)
        self._another = another
        #: What our settings say of statuses; None: what the functions know.
        self.statuses = statuses

    async def state(self) -> RollupState:
        return await read_state(self.connection.fetch)

    async def status(self) -> RollupStatus:
        return await read_status(self.connection.fetch, self.statuses)

    async def has_triggers(self) -> bool:
        """Return whether there is anything to keep up: the rollup is on, or on its way there."""
        return await count_triggers(self.connection) > 0

    async def estimate_requests(self) -> int:
        """Return about how many requests there are, from the table's statistics."""
        return await self.chunks.estimate_requests()

    async def enable(self, progress: Progress) -> None:
        """Switch the rollup on, or go on with a backfill that was interrupted; writers keep writing."""
        async with self.connection.lock():
            await self._require_statuses()
            if (await self.state()).state == "on":
                return
            await self.chunks.show_progress()
            await drop_other_triggers(self.connection)
            await require_countable(self.connection)
            await require_rights(self.connection)
            await require_readable(self.connection)
            await require_stored(self.connection)
            await self.connection.execute(
                "INSERT INTO stats_schema.chat_stats_rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING"
            )
            if fresh := await count_triggers(self.connection, firing=True) != len(TRIGGERS):
                await self._require_purged()
                await self._start_over()
            else:
                await self._keep_purged()
            place = await self.connection.fetchval(
                "SELECT backfilled_to::text FROM stats_schema.chat_stats_rollup_state"
            )
            try:
                if fresh:
                    await forget_partitions(self.connection.fetch)
                # (The days, months and lifetime of a fresh one are made by folds alone.)
                await self.make_right(place or "-infinity", progress, tiers=not fresh)
            except (SchemaError, asyncpg.PostgresError):  # after an outage it can go on
                if fresh:
                    await drop_triggers(self.connection)
                raise

    async def disable(self) -> None:
        """Switch the rollup off and empty it: the functions scan again."""
        async with self.connection.lock():
            await self.connection.execute("UPDATE stats_schema.chat_stats_rollup_state SET ready = false")
            await drop_triggers(self.connection)
            await self._empty()

    async def verify(self, progress: Progress) -> int:
        """Return in how many buckets rollups differ from the requests."""
        return (await self.compare(progress)).total()

    async def compare(self, progress: Progress) -> Counter[str]:
        """Return in how many buckets each rollup differs from the requests."""
        async with self.connection.lock():
            state = await self.state()
            if state.state in ("off", "backfilling") or not await self.has_triggers():
                raise SchemaError(f"the rollup is {state}")
            await require_countable(self.connection)
            drift = Counter[str]()
            await self.chunks.show_progress()
            await self._cover_partitions(progress)
            await keep_detached(self.connection.fetch)
            async for start, end, _ in self.chunks.one_by_one("-infinity"):
                drift += await self.connection.in_snapshot(queries.load("rollup_differences"), start, end)
                progress(self.chunks.requests)
            drift += await self.connection.in_snapshot(queries.load("rollup_tier_drifts"))
            await self.record_audit(drift)
            return drift

    async def repair(self, progress: Progress) -> int:
        """Make the rollup equal to the requests; return how many models' buckets differed."""
        async with self.connection.lock():
            await require_countable(self.connection)
            if await count_triggers(self.connection, firing=True) != len(TRIGGERS):
                raise SchemaError("the rollup is not enabled; run: chat-stats rollup enable")
            await require_stored(self.connection)
            await self._require_statuses()
            await self._keep_purged()
            await self.chunks.show_progress()
            return await self.make_right("-infinity", progress)

    async def cover_partitions(self) -> None:
        """Give partitions that lack our triggers theirs, and recount what those hold that had rows before.

        Where one is a foreign table, drop them all: no write may fail because of them. Nothing is done while
        other upkeep is under way.
        """
        with suppress(DatabaseBusy):
            async with self.connection.lock():
                if await self.has_triggers() and (trouble := await foreign_trouble(self.connection.fetch)):
                    logger.error("dropping the triggers of the rollup: %s", trouble)
                    await drop_triggers(self.connection)
                    return
                await self.connection.execute(queries.load("rollup_uncounted_once"))
                await self._cover_partitions(lambda _requests: None)

    async def _cover_partitions(self, progress: Progress) -> None:
        if await count_triggers(self.connection, firing=True) != len(TRIGGERS):
            return
        await require_countable(self.connection)
        await create_triggers(self.connection, await self._untriggered(), present=PRESENT)
        for row in await self.connection.fetch(queries.load("rollup_uncounted_partitions"), PRESENT):
            await self._repair(row["start"], progress, end=row["end"])
            await self.connection.execute(
                "DELETE FROM stats_schema.chat_stats_uncounted "
                "WHERE relation = $1::bigint::oid AND reason = $2",
                row["relation"],
                PRESENT,
            )

    async def _untriggered(self) -> list[RequestTable]:
        return [table for table in await request_tables(self.connection) if not table.firing]

    async def fold(self) -> int:
        """Move the deltas into the tiers; return how many there were (0 also while another session folds)."""
        return int(await self.connection.fetchval("SELECT stats_schema.chat_stats_fold()"))

    async def audit(self) -> int:
        """Compare the latest requests, and some others; return how many buckets of all rollups differ.

        A rollup that differs is not read any more: the functions scan until it is repaired. While it is not
        read, or is being repaired, nothing is compared.
        """
        drift = None
        with suppress(DatabaseBusy):
            async with self.connection.lock():
                if (drift := await audit(self.connection)) is not None:
                    await self.record_audit(drift)
        return drift.total() if drift is not None else 0

    async def record_audit(self, found: Counter[str]) -> None:
        own = {name: places for name, places in found.items() if name not in BUILT_IN}
        drift = found.total() - sum(own.values())
        await self.connection.execute(
            "UPDATE stats_schema.chat_stats_rollup_state "
            "SET audited_at = clock_timestamp(), drift = $1::bigint, ready = ready AND $1::bigint = 0, "
            "backfilled_to = CASE WHEN $1::bigint = 0 THEN backfilled_to END",
            drift,
        )
        if own:
            await self.connection.execute(queries.load("own_drift"), list(own), list(own.values()))
        if drift:
            logger.error(
                "the rollup differs from the requests in %d buckets; run: chat-stats rollup repair", drift
            )
        for name, places in own.items():
            logger.error(
                "the rollup %s differs from the requests in %d buckets; run: chat-stats rollup repair",
                name,
                places,
            )

    async def make_right(self, place: str, progress: Progress, *, tiers: bool = True) -> int:
        """Repair from `place` on, and the tiers; let the rollup be read. Return how much was repaired.

        All over again when a write went uncounted meanwhile, such as a TRUNCATE that saw only a part.
        """
        await create_triggers(self.connection, await self._untriggered())
        await self._keep_up_own()
        if await on_shards(self.connection):  # what went uncounted on the nodes is known here then
            await self.fold()
            await self.fold()
        repaired = 0
        for _attempt in range(REPAIRS):
            await self.connection.execute(queries.load("own_repair_begins"), None)
            begun = await self.connection.fetch(queries.load("rollup_repair_begins"), place)
            if not begun:
                raise SchemaError(f"{STATE_TABLE} lost its row; run: chat-stats rollup enable")
            repaired += await self._repair(begun[0]["place"], progress)
            if tiers:
                repaired += await self._rebuild_tiers()
            if await self._record_done():
                await self.connection.execute(queries.load("own_repair_done"), None)
                return repaired
            place, tiers = "-infinity", True
        raise SchemaError(f"the rollup cannot be made right: {(await self.state()).reason}")

    async def backfill_own(self, name: str, place: str, progress: Progress) -> None:
        """Backfill one rollup of the operator's own from `place` on, beside all others, which are right."""
        await self._keep_up_own()
        await self.connection.execute(queries.load("own_repair_begins"), name)
        await self._repair(place, progress, only=name)
        await self._rewrite(name)
        await self.connection.execute(queries.load("own_repair_done"), name)

    async def _rewrite(self, name: str) -> None:
        """Write the tables of a rollup that is not read yet once more, with a second connection."""
        if self._another is None:
            return
        listed = await read_own_rollups(self.connection.fetch)
        tables = [table for each in listed if each.name == name for table in each.own.rollup.tables.values()]
        with suppress(DatabaseUnavailable):  # then they stay as they are
            async with self._another() as another:
                await rewrite(self.connection, UpkeepConnection(another), tables)

    async def _repair(
        self, place: str, progress: Progress, *, end: str = "infinity", only: str | None = None
    ) -> int:
        """Repair from `place` to `end`, chunk by chunk; two at a time with a second connection.

        `only`: that rollup alone.

        Folds have to wait for both: so they begin together, and are recorded together.
        """
        repaired = 0
        async with AsyncExitStack() as stack:
            connections = [self.connection]
            if self._another is not None:
                with suppress(DatabaseUnavailable):  # then one must do
                    connections.append(UpkeepConnection(await stack.enter_async_context(self._another())))
            async for chunks in self.chunks.together(place, end, len(connections)):
                done = await asyncio.gather(
                    *(
                        connection.fetchval(
                            "SELECT stats_schema.chat_stats_rollup_repair"
                            "($1::text::timestamptz, $2::text::timestamptz, $3::boolean, $4::text)",
                            chunk.start,
                            chunk.end,
                            len(chunks) > 1,
                            only,
                        )
                        for connection, chunk in zip(connections, chunks, strict=False)
                    ),
                    return_exceptions=True,
                )
                for count in done:
                    if isinstance(count, BaseException):
                        raise count
                    repaired += count
                if only is None:
                    await self.connection.execute(
                        "UPDATE stats_schema.chat_stats_rollup_state "
                        "SET backfilled_to = COALESCE($1::text::timestamptz, 'infinity') "
                        "WHERE backfilled_to IS NOT NULL",
                        chunks[-1].end,
                    )
                await self.connection.execute(
                    queries.load("own_backfilled"), chunks[0].start or "infinity", chunks[-1].end, only
                )
                await self.fold()
                progress(self.chunks.requests * len(chunks))
        return repaired

    async def _keep_up_own(self) -> None:
        """Let triggers and functions keep up all rollups of the operator's own that are to be made right."""
        listed = await read_own_rollups(self.connection.fetch)
        if not all(each.right for each in listed):
            await OwnInstallation(self.connection, self.statuses).install([each.own for each in listed])

    async def _rebuild_tiers(self) -> int:
        return int(await self.connection.fetchval("SELECT stats_schema.chat_stats_rollup_rebuild_tiers()"))

    async def _record_done(self) -> bool:
        """Record that the repair reached its end; return whether nothing went uncounted meanwhile."""
        await self.connection.execute(
            "UPDATE stats_schema.chat_stats_rollup_state SET ready = true, drift = 0, backfilled_to = NULL"
        )
        return bool(await self.connection.fetchval("SELECT stats_schema.chat_stats_rollup_ready()"))

    async def _keep_purged(self) -> None:
        """Before a repair: keep what only the rollup has of requests that are gone."""
        await keep_detached(self.connection.fetch)
        await self._require_purged()

    async def _require_purged(self) -> None:
        """Refuse to rebuild the rollup without the sums of the requests that are gone."""
        if lost := await lost_sums(self.connection.fetch):
            raise SchemaError(lost)
        async with self.connection.transaction():
            await self.connection.execute_raw(queries.load("rollup_purged_summed_up"))

    async def _require_statuses(self) -> None:
        if self.statuses and (trouble := await statuses_trouble(self.connection.fetch, self.statuses)):
            raise SchemaError(trouble)

    async def _start_over(self) -> None:
        await self.connection.execute(
            "UPDATE stats_schema.chat_stats_rollup_state SET ready = false, backfilled_to = NULL, drift = 0"
        )
        await drop_triggers(self.connection)
        await self._empty()
        try:
            await create_triggers(self.connection, await request_tables(self.connection))
        except BaseException:
            await drop_triggers(self.connection)
            raise
        await self.connection.execute(
            "UPDATE stats_schema.chat_stats_rollup_state "
            "SET enabled_at = clock_timestamp(), columns = stats_schema.chat_stats_request_columns()"
        )

    async def _empty(self) -> None:
        """Delete what is in the rollup. TRUNCATE would empty it for those, too, who still read it."""
        async with self.connection.transaction():
            # The lock of chat_stats_fold().
            await self.connection.execute("SELECT FROM stats_schema.chat_stats_rollup_state FOR UPDATE")
            own = [each.own.rollup for each in await read_own_rollups(self.connection.fetch)]
            await self.connection.execute(
                "UPDATE stats_schema.chat_stats_rollups SET ready = false, backfilled_to = NULL"
            )
            there = [*ROLLUP_TABLES, *(table for rollup in own for table in rollup.tables.values())]
            missing = await self.connection.fetchval(queries.load("rollup_missing"), there)
            for table in [name for name in there if name not in missing]:
                await self.connection.execute(f"DELETE FROM stats_schema.{table}")  # noqa: S608


@asynccontextmanager
async def open_rollup(settings: Settings) -> AsyncIterator[Rollup]:
    """Connect for the rollup's upkeep, without time-outs: it takes as long as it takes."""
    async with _connected(settings) as connection:
        yield Rollup(connection, lambda: _connected(settings), settings.statuses)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await connect(settings, application_name="chat-stats rollup")
    try:
        # What row level security would hide is an error: the rollup is of all requests.
        await connection.execute(f"SET statement_timeout = 0; SET row_security = off; {READ_COMMITTED}")
        yield connection
    finally:
        with suppress(*ERRORS, TimeoutError):
            await connection.close(timeout=settings.connect_timeout_seconds)
