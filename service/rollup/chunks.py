"""The ranges of buckets that a backfill, a check or a repair goes through, each in one snapshot."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from chat_stats.service.database import queries
from chat_stats.service.rollup.connection import REQUESTS, UpkeepConnection
from chat_stats.service.rollup.triggers import on_shards

#: Requests that one chunk covers, at most (unless more came in a quarter of an hour).
CHUNK_REQUESTS = 400_000
#: Chunks of a smaller table: so many that its progress is seen, of at least so many requests.
SHOWN_CHUNKS = 8
SHOWN_CHUNK_REQUESTS = 2_000


class Chunk(NamedTuple):
    """A range of whole buckets as Postgres writes it; both None: the requests without a time."""

    start: str | None
    end: str | None
    #: Whether the next chunk begins with another day.
    ends_day: bool


class Chunks:
    """Finds them in the table of the requests."""

    #: How many requests each covers, at most.
    requests = CHUNK_REQUESTS

    def __init__(self, connection: UpkeepConnection) -> None:
        self._connection = connection

    async def estimate_requests(self) -> int:
        """Return about how many requests there are, from the table's statistics."""
        if await on_shards(self._connection):  # the coordinator has none
            return int(await self._connection.fetchval(f"SELECT count(*) FROM {REQUESTS}"))  # noqa: S608
        row = await self._connection.fetchrow(
            "SELECT COALESCE(sum(GREATEST(c.reltuples, 0)), 0)::bigint AS requests FROM pg_class AS c "
            "WHERE c.oid = 'gateway_schema.chat_completion_requests'::regclass OR c.oid IN "
            "(SELECT relid FROM pg_partition_tree('gateway_schema.chat_completion_requests'::regclass))"
        )
        return int(row["requests"])

    async def show_progress(self) -> None:
        """Choose their size so that also the progress of a small table is seen."""
        share = await self.estimate_requests() // SHOWN_CHUNKS
        self.requests = min(CHUNK_REQUESTS, max(SHOWN_CHUNK_REQUESTS, share))

    async def one_by_one(self, place: str, end: str = "infinity") -> AsyncIterator[Chunk]:
        """Yield consecutive ranges of whole buckets from `place` to `end`; up to infinity, also no time."""
        while place != end:
            row = await self._connection.fetchrow(
                queries.load("rollup_next_chunk"), place, self.requests, end
            )
            yield Chunk(place, row["place"], row["ends_day"])
            place = row["place"]
        if end == "infinity":
            yield Chunk(None, None, True)

    async def together(self, place: str, end: str, count: int) -> AsyncIterator[list[Chunk]]:
        """Yield up to `count` chunks that share no day, and so may be repaired at the same time."""
        chunks: list[Chunk] = []
        async for chunk in self.one_by_one(place, end):
            chunks.append(chunk)
            if len(chunks) == count or not chunk.ends_day:
                yield chunks
                chunks = []
        if chunks:
            yield chunks
