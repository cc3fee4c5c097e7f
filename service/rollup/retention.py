"""Purging: requests that are old are deleted, and the statistics keep their numbers.

What was deleted is kept as sums of 15-minute buckets (`chat_stats_purged_*`). From these, and from requests
that are left, the rollup can be verified and rebuilt at any time. `chat_stats_purge()` deletes a chunk
exactly; here is what goes around it: chunks, pauses, and what to report.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import asyncpg
import orjson

from chat_stats.service.database import queries
from chat_stats.service.database.errors import upkeep_error
from chat_stats.service.errors import DatabaseBusy, InvalidParameter, SchemaError
from chat_stats.service.rollup.connection import ERRORS, REQUESTS, TABLE, UpkeepConnection
from chat_stats.service.rollup.partitions import keep_detached
from chat_stats.service.rollup.triggers import on_shards
from chat_stats.service.rollup.upkeep import Rollup, open_rollup
from chat_stats.service.settings import Settings

#: Requests that one transaction deletes, about: it ends at the end of a bucket.
BATCH_REQUESTS = 10_000
#: UTC days that it covers at most: where only late requests are left, verifying costs more than deleting.
BATCH_DAYS = 1
#: Pause after a transaction, as a share of the time that it took: the rest of the time is the gateway's.
PAUSE = 1.0
#: Longest time in milliseconds to wait for a request that others have locked. Shorter than Postgres's
#: deadlock_timeout, so that it is never the gateway that has to give way.
LOCK_MS = 200
#: Attempts at requests that others change meanwhile, each at half as many, and seconds between them.
ATTEMPTS = 20
RETRY_SECONDS = 0.25

#: Called with the number of requests deleted so far.
Progress = Callable[[int], None]

_IN_THE_WAY = (asyncpg.LockNotAvailableError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


@dataclass(slots=True)
class Purge:
    """What was deleted, or would be. Moments are texts: Postgres has some that Python has not."""

    #: The start of a bucket.
    before: str
    dry_run: bool
    requests: int = 0
    #: 15-minute buckets that had requests.
    buckets: int = 0
    oldest: str | None = None
    newest: str | None = None
    #: Models' buckets in which the rollup differs. From their chunk on, nothing was deleted.
    differing: int = 0


class Retention:
    """Purging, over one connection of its own."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = UpkeepConnection(connection)
        self._rollup = Rollup(connection)
        #: Requests of the next chunk: fewer while others change them, since that takes less time.
        self._batch = BATCH_REQUESTS

    async def retain(self, older_than: timedelta | None) -> None:
        """Let deletes by others keep the statistics of requests that are older; None: of none any more."""
        async with self._connection.lock():
            state = await self._rollup.state()
            if older_than is not None and await on_shards(self._connection):
                raise SchemaError(
                    "on Citus the statistics of requests that others delete are not kept, since its nodes do "
                    "not know the age; chat-stats rollup purge deletes requests and keeps their statistics"
                )
            if older_than is not None and state.state != "on":
                raise SchemaError(f"the rollup must be on, to keep statistics; it is {state}")
            await self._connection.execute(
                "UPDATE stats_schema.chat_stats_rollup_state SET retain_older_than = $1::interval", older_than
            )

    async def estimate_requests(self, before: datetime) -> int:
        """Return about how many requests are older, from the table's statistics."""
        plan = await self._connection.fetchval(
            f"EXPLAIN (FORMAT JSON) SELECT FROM {REQUESTS} WHERE created_at < '{before.isoformat()}'"
        )
        return int(orjson.loads(plan)[0]["Plan"]["Plan Rows"])

    async def purge(
        self, before: datetime, progress: Progress, *, dry_run: bool = False, at_most: float = inf
    ) -> Purge:
        """Delete the requests before the bucket in which `before` lies, and keep their sums.

        Ends at a chunk in which the rollup differs from the requests, or after `at_most` requests. One that
        ended early is simply started again. With `dry_run` nothing is changed, and the differences of all
        chunks are counted.
        """
        if before > datetime.now(UTC):
            raise InvalidParameter("before", f"{before:%Y-%m-%d %H:%M:%S} UTC lies in the future")
        async with self._connection.lock():
            status = await self._rollup.status()
            if status.state != "on":
                raise SchemaError(
                    f"the rollup must be on, to keep the statistics; it is {status.state}: {status.reason}"
                )
            await self._require_rights()
            await keep_detached(self._connection.fetch)
            end = await self._connection.fetchval(
                "SELECT stats_schema.chat_stats_bucket($1::timestamptz)::text", before
            )
            purge = Purge(end, dry_run)
            if not dry_run and await on_shards(self._connection):
                async with self._connection.transaction():
                    await self._connection.execute_raw(queries.load("retention_begins_citus"))
            place, step = "-infinity", self._look_at if dry_run else self._delete
            while purge.requests < at_most and (reached := await step(place, purge)) is not None:
                place = reached
                progress(purge.requests)
            return purge

    async def _chunk(self, place: str, end: str, requests: int) -> tuple[str, str] | None:
        """Return where the next chunk of about so many requests starts and ends, or None at the end."""
        shards = await on_shards(self._connection)
        query = "retention_next_chunk_citus" if shards else "retention_next_chunk"
        found = await self._connection.fetch(queries.load(query), place, requests - 1, end, BATCH_DAYS)
        return (found[0]["start"], found[0]["end"]) if found else None

    async def _look_at(self, place: str, purge: Purge) -> str | None:
        """Count what the next chunk from `place` on holds. Return where it ends, or None at the end."""
        if (chunk := await self._chunk(place, purge.before, BATCH_REQUESTS)) is None:
            return None
        async with self._snapshot("ACCESS SHARE"):
            _add(purge, (await self._connection.fetch_raw(queries.load("retention_chunk"), *chunk))[0])
            for found in await self._connection.fetch_raw(queries.load("rollup_differences"), *chunk):
                purge.differing += found["places"]
        return chunk[1]

    async def _delete(self, place: str, purge: Purge) -> str | None:
        """Delete the next chunk from `place` on. Return where it ends, or None where the purge ends."""
        started = time.monotonic()
        for _attempt in range(ATTEMPTS):
            if (chunk := await self._chunk(place, purge.before, self._batch)) is None:
                return None
            try:
                async with self._snapshot("ROW EXCLUSIVE"):
                    (found,) = await self._connection.fetch_raw(queries.load("retention_chunk"), *chunk)
                    (done,) = await self._connection.fetch_raw(queries.load("retention_purge"), *chunk)
                self._batch = min(2 * self._batch, BATCH_REQUESTS)
                break
            except _IN_THE_WAY:
                self._batch = max(self._batch // 2, 1)
                await asyncio.sleep(RETRY_SECONDS)
        else:
            raise DatabaseBusy(
                f"requests from {place} on are being changed all the time; those before were purged"
            )
        if done["differing"]:
            purge.differing = done["differing"]
            compare = queries.load("rollup_differences")
            await self._rollup.record_audit(await self._connection.in_snapshot(compare, *chunk))
            return None
        if done["deleted"]:
            _add(purge, found)
            await self._connection.execute(
                "UPDATE stats_schema.chat_stats_rollup_state "
                "SET purged_before = GREATEST(purged_before, $1::text::timestamptz)",
                chunk[1],
            )
        await self._rollup.fold()
        await asyncio.sleep((time.monotonic() - started) * PAUSE)
        return chunk[1]

    @asynccontextmanager
    async def _snapshot(self, lock: str) -> AsyncIterator[None]:
        """Open a transaction with one snapshot of requests and rollup, which no TRUNCATE comes in between."""
        try:
            async with self._connection.raw_transaction(
                f"SET LOCAL lock_timeout = {LOCK_MS}; LOCK TABLE {REQUESTS} IN {lock} MODE",
                isolation="repeatable_read",
            ):
                if await on_shards(self._connection):  # its nodes know no setting of the coordinator else
                    await self._connection.execute_raw("SET LOCAL citus.propagate_set_commands = local")
                    await self._connection.execute_raw(f"SET LOCAL lock_timeout = {LOCK_MS}")
                yield
        except _IN_THE_WAY:
            raise
        except asyncpg.ForeignKeyViolationError as error:
            raise SchemaError(
                f"other tables refer to requests that are to be deleted, so that these were kept: {error}"
            ) from error
        except ERRORS as error:
            known = upkeep_error(error)
            if known is error and isinstance(error, asyncpg.PostgresError):  # a rule, or a trigger of others
                known = SchemaError(f"requests could not be deleted, so that these were kept: {error}")
            raise known from error

    async def _require_rights(self) -> None:
        row = await self._connection.fetchrow(queries.load("retention_rights"))
        if lacking := row["lacking"]:
            raise SchemaError(
                f"the role {row['role']} lacks {' and '.join(lacking)} on {TABLE}; "
                f"its owner can say: GRANT {', '.join(lacking)} ON {TABLE} TO {row['role']}"
            )


@asynccontextmanager
async def open_retention(settings: Settings) -> AsyncIterator[Retention]:
    """Connect for purging, without a time-out for the whole."""
    async with open_rollup(settings) as rollup:
        yield Retention(rollup.connection.raw)


def _add(purge: Purge, found: Any) -> None:
    purge.requests += found["requests"]
    purge.buckets += found["buckets"]
    purge.oldest = purge.oldest or found["oldest"]
    purge.newest = found["newest"] or purge.newest
