"""The audit: comparing a bounded part of the rollup with the requests, again and again.

Each audit compares the latest requests, with the bucket that is being written now, those of the future, those
without a time and those at infinite times. Two sweeps go on from where the last audit left them, one over the
last week and one over all time, both from the latest bucket backwards and without a gap. So the calendar
decides what is compared, whichever of rollup and requests knows of it, and each bucket is compared once in
each pass of the sweep over all time.

A range is compared in one snapshot with what is not folded yet: so it is exact beside writers, and takes no
lock that they would wait for.
"""

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Any

from chat_stats.service.database import queries
from chat_stats.service.rollup.connection import UpkeepConnection
from chat_stats.service.rollup.partitions import keep_detached
from chat_stats.service.rollup.triggers import on_shards

#: Requests that one audit compares in each of its ranges, at most, and in that of the sweep over all time.
RANGE_REQUESTS = 50_000
SWEEP_REQUESTS = 150_000
#: Rows of the rollup, by model and day, that a range has, at most.
RANGE_ROWS = 1_000

#: The first and the last start of a bucket that Postgres can have the end of.
BEGINNING = "4714-11-24 00:00:00+00 BC"
END = "294276-12-31 23:45:00+00"


@dataclass(frozen=True, slots=True)
class Range:
    """A range of whole buckets as Postgres writes it; both None: the requests without a time."""

    start: str | None
    end: str | None
    #: Whether this audit compares it.
    is_due: bool = True
    #: Whether it goes back as far as it was to.
    whole: bool = True


async def audit(connection: UpkeepConnection) -> Counter[str] | None:
    """Return in how many buckets each rollup differs from the requests; None when they are not read.

    The caller holds the lock of the rollup's upkeep.
    """
    states = await connection.fetch(queries.load("rollup_audit_state"))
    if not states:
        return None
    state = states[0]
    await keep_detached(connection.fetch)
    number = state["audits"]
    drift, compared_from = await _compare_latest(connection, state)
    places = []
    for place, oldest, requests in (
        (state["audited_week_from"], state["week_ago"], RANGE_REQUESTS),
        (state["audited_from"], BEGINNING, SWEEP_REQUESTS),
    ):
        found = await _range(connection, number, place or compared_from, oldest, requests)
        drift += await _compare(connection, found)
        places.append(_next_place(found))
    if not drift:  # else its place is kept, in case that the drift cannot be recorded
        await connection.execute(
            "UPDATE stats_schema.chat_stats_rollup_state SET audits = audits + 1, "
            "audited_week_from = $1::text::timestamptz, audited_from = $2::text::timestamptz",
            *places,
        )
    return drift


async def _compare_latest(connection: UpkeepConnection, state: Any) -> tuple[Counter[str], str | None]:
    """Compare what every audit compares. Return the drift, and from where on all finite time was compared."""
    number, now = state["audits"], state["end_of_now"]
    recent = await _range(connection, number, now, state["day_ago"], RANGE_REQUESTS)
    future = await _range(connection, number, END, now, RANGE_REQUESTS)
    of_untimed = "rollup_audit_untimed_citus" if await on_shards(connection) else "rollup_audit_untimed"
    untimed = [
        Range(row["start"], row["end"], _is_due(row["crowd"], RANGE_REQUESTS, number))
        for row in await connection.fetch(queries.load(of_untimed), RANGE_REQUESTS)
    ]
    compared_from = future.start if future.is_due else END
    timed = [recent, future]
    if recent.is_due and compared_from == now:  # in one go: both read the rollup's rows of today
        compared_from = recent.start
        timed = [Range(recent.start, END)]
    drift = Counter[str]()
    for found in (*timed, *untimed):
        drift += await _compare(connection, found)
    return drift, compared_from


async def _range(
    connection: UpkeepConnection, number: int, end: str | None, oldest: str, requests: int
) -> Range:
    """Return the range of about so many requests that ends there, back to `oldest` at most."""
    row = await connection.fetchrow(queries.load("rollup_audit_range"), end, oldest, requests, RANGE_ROWS)
    return Range(row["start"], end, _is_due(row["crowd"], requests, number), row["whole"])


def _is_due(crowd: int | None, requests: int, number: int) -> bool:
    """Return whether the audit of that number compares a range, one bucket of which may have a `crowd`.

    A bucket that alone has ten times as many requests as an audit may read is compared in each tenth audit.
    """
    return crowd is None or number % max(2, ceil(crowd / requests)) == 0


async def _compare(connection: UpkeepConnection, found: Range) -> Counter[str]:
    if not found.is_due:
        return Counter()
    compare = queries.load("rollup_differences"), found.start, found.end
    drift = await connection.in_snapshot(*compare)
    if drift and await keep_detached(connection.fetch):  # a partition went since this audit began
        drift = await connection.in_snapshot(*compare)
    return drift


def _next_place(found: Range) -> str | None:
    """Return where a sweep goes on, None when a pass is done."""
    if not found.is_due:
        return found.end
    return None if found.whole else found.start
