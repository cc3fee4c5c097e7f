"""Local copies of entries, in this process: read before Redis, and the last resort when all else is down."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from chat_stats.service.cache.entry import Entry
from chat_stats.service.database.clock import Clock

#: Entries kept; the one stored longest ago makes way.
CAPACITY = 4096
#: The same in bytes, as `size` estimates them: some hundred large answers.
CAPACITY_BYTES = 16_000_000

#: Approximate bytes of a copy beside its body.
_OVERHEAD = 2_000


@dataclass(slots=True)
class Copy:
    entry: Entry
    taken_at: float


def size(entry: Entry) -> int:
    """Estimate the bytes that a copy takes, with the compressed form that it may get."""
    return _OVERHEAD + len(entry.body) * 3 // 2


class LocalCache:
    """Copies by key, limited in number and in bytes; the last one stored stays, however large."""

    def __init__(self, recent_seconds: float, clock: Clock) -> None:
        self._recent_seconds = recent_seconds
        self._clock = clock
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._bytes = 0
        #: Copies from before are not recent, whatever their age.
        self._recent_from = 0.0

    def __len__(self) -> int:
        return len(self._copies)

    def put(self, key: str, entry: Entry, *, taken_at: float | None = None) -> Entry:
        """Keep what was read or computed, unless a newer copy exists; return which one is kept.

        It is as recent as `taken_at` (monotonic seconds; now, when not given). For a reply of Redis that is
        when it was asked for, since a refresh may have been published meanwhile.
        """
        known = self._copies.pop(key, None)
        if known is not None:
            self._bytes -= size(known.entry)
            newer = self._clock.is_newer(known.entry.computed_at, entry.computed_at)
            # Of two that are equal, the one that already has its ETag and compressed form.
            if newer or entry == known.entry:
                entry = known.entry
        self._copies[key] = Copy(entry, time.monotonic() if taken_at is None else taken_at)
        self._bytes += size(entry)
        while len(self._copies) > CAPACITY or (self._bytes > CAPACITY_BYTES and len(self._copies) > 1):
            _, oldest = self._copies.popitem(last=False)
            self._bytes -= size(oldest.entry)
        return entry

    def recent(self, key: str) -> Entry | None:
        """Return the copy if it is so recent that Redis need not be asked."""
        copy = self._copies.get(key)
        if copy is None or time.monotonic() - copy.taken_at >= self._recent_seconds:
            return None
        return copy.entry if copy.taken_at >= self._recent_from else None

    def expire(self) -> None:
        """Have Redis asked before a copy of until now is used again: newer answers were published."""
        self._recent_from = time.monotonic()

    def taken_at(self, key: str) -> float:
        """Return when the copy was read or computed, in monotonic seconds; 0 when there is none."""
        copy = self._copies.get(key)
        return 0.0 if copy is None else copy.taken_at

    def last_good(self, key: str) -> Entry | None:
        """Return the copy, however old."""
        copy = self._copies.get(key)
        return None if copy is None else copy.entry
