"""Points for scatter plots: a bounded number of requests that stands for all of them.

A time range is cut into slots of equal width, and the first requests of each are read from an index. Slots
that had no more than those are complete; the points that they left over go to the others, which are cut into
smaller slots, and so on. So busy times get more points than quiet ones, no gap and no burst is missed, and
what is read grows with the number of points, not with that of requests.

The width is a power of two of microseconds and the slots are counted from 1970: the same requests give the
same points, and new requests leave the older points where they are, until the width doubles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from chat_stats.service.explorer.query import REQUEST_COLUMNS
from chat_stats.service.explorer.reading import Reading, fetch

DEFAULT_POINTS = 2000
MAX_POINTS = 5000
#: Fewer would hardly be a plot.
MIN_POINTS = 10

#: Requests taken of each slot.
PER_SLOT = 4
#: Each pass at least doubles how finely a busy time is cut; this many reach from a century to a microsecond.
MAX_PASSES = 52

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COLUMNS = [REQUEST_COLUMNS[name] for name in ("id", "total_tokens", "processing_time_ms", "created_at")]

Slot = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Points:
    """Requests as (created_at, total_tokens, processing_time_ms), oldest first."""

    points: Sequence[tuple[datetime | None, int, float | None]]
    #: How they were chosen, for `metadata.sampling`.
    sampling: dict[str, Any]


async def sample(reading: Reading, most: int) -> Points:
    """Return at most `most` of the requests that `reading` means, by the method above."""
    first, last = await _end(reading, "ASC"), await _end(reading, "DESC")
    taken: dict[Slot, list[asyncpg.Record]] = {}
    if first is not None and last is not None:
        waiting = _slots(_micros(first), _micros(last) + 1, max(2, most // PER_SLOT - 1))
        for _ in range(MAX_PASSES):
            taken |= await _read(reading, waiting, PER_SLOT)
            full, left = _state(taken, most)
            parts = 1 + left // (len(full) * PER_SLOT) if full else 1
            parts = 1 << (parts.bit_length() - 1)  # slots stay powers of two wide
            cut = [slot for slot in full if _width(slot) >= parts > 1]
            if not cut:
                break
            waiting = [part for slot in cut for part in _cut(slot, parts)]
            for slot in cut:
                del taken[slot]
        full, left = _state(taken, most)
        if full and left >= len(full):  # many requests at one moment, which cannot be cut
            taken |= await _read(reading, full, PER_SLOT + left // len(full))
    points = [
        (record["created_at"], record["total_tokens"], record["processing_time_ms"])
        for slot in sorted(taken)
        for record in taken[slot]
    ]
    sampling = {"method": "time_slots", "points": len(points), "max_points": most, "per_slot": PER_SLOT}
    return Points(points, sampling)


def whole(rows: Sequence[tuple[datetime | None, int, float | None]], most: int) -> Points:
    """Return all requests, which are few."""
    return Points(rows, {"method": "all", "points": len(rows), "max_points": most, "per_slot": None})


def _slots(first: int, end: int, most: int) -> list[Slot]:
    """Cut [first, end) into at most `most` slots, each as wide as a power of two and at a multiple of it.

    At least 2 of them, since 1970 always lies between two.
    """
    width = 1
    while (end - 1) // width - first // width + 1 > most:
        width *= 2
    return [(at * width, (at + 1) * width) for at in range(first // width, (end - 1) // width + 1)]


def _state(taken: dict[Slot, list[asyncpg.Record]], most: int) -> tuple[list[Slot], int]:
    """Return the slots that may have more requests than were taken, and how many points are left over."""
    full = [slot for slot, records in taken.items() if len(records) >= PER_SLOT]
    return full, most - sum(len(records) for records in taken.values())


def _width(slot: Slot) -> int:
    return slot[1] - slot[0]


def _cut(slot: Slot, parts: int) -> list[Slot]:
    width = _width(slot) // parts
    return [(slot[0] + at * width, slot[0] + (at + 1) * width) for at in range(parts)]


async def _end(reading: Reading, direction: str) -> datetime | None:
    arguments: list[Any] = [*reading.bounds, reading.filters.status]
    statement = reading.statement("plot_end", arguments, [direction])
    records = await fetch(reading.snapshot, statement, *arguments, timeout=reading.timeout)
    return records[0]["created_at"] if records else None


async def _read(reading: Reading, slots: list[Slot], per_slot: int) -> dict[Slot, list[asyncpg.Record]]:
    start, end = reading.bounds
    lowest = None if start is None else _micros(start)
    highest = None if end is None else _micros(end)
    arguments: list[Any] = [
        reading.filters.status,
        [slot[0] if lowest is None else max(slot[0], lowest) for slot in slots],
        [slot[1] if highest is None else min(slot[1], highest) for slot in slots],
        per_slot,
    ]
    name = "plot_slots_citus" if reading.snapshot.in_citus else "plot_slots"
    statement = reading.statement(name, arguments, _COLUMNS)
    records = await fetch(reading.snapshot, statement, *arguments, timeout=reading.timeout)
    taken: dict[Slot, list[asyncpg.Record]] = {slot: [] for slot in slots}
    for record in records:
        taken[slots[record["slot"] - 1]].append(record)
    return taken


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
