"""This process's own copies of entries: asked before Redis, and the last resort when all else is down."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from service.cache.entry import Entry
from service.database.clock import Clock

#: Entries kept; the one not asked for the longest makes way.
CAPACITY = 4096
#: The same in bytes, by what `size` says: some hundred large answers, little beside the process itself.
CAPACITY_BYTES = 16_000_000

#: Bytes of a copy beside its body, about.
_OVERHEAD = 2_000


@dataclass(slots=True)
class Copy:
    entry: Entry
    taken_at: float


def size(entry: Entry) -> int:
    """Return about how many bytes a copy takes, with the compressed form that it may get."""
    return _OVERHEAD + len(entry.body) * 3 // 2


class LocalCache:
    """Copies by key, bounded in number and in bytes; the one just put stays, however large."""

    def __init__(self, recent_seconds: float, clock: Clock) -> None:
        self._recent_seconds = recent_seconds
        self._clock = clock
        self._copies: OrderedDict[str, Copy] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._copies)

    def put(self, key: str, entry: Entry, *, taken_at: float | None = None) -> Entry:
        """Keep what was read or computed, unless a newer one is known; return which one is kept.

        It is as recent as `taken_at` (monotonic seconds; now, when not given): of a reply that took its
        time, when it was asked for, since anything may have been published meanwhile.
        """
        known = self._copies.pop(key, None)
        if known is not None:
            self._bytes -= size(known.entry)
            newer = self._clock.is_newer(known.entry.computed_at, entry.computed_at)
            # Of two that are equal, the one whose ETag and compressed form are made already.
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
        return copy.entry

    def last_good(self, key: str) -> Entry | None:
        """Return the copy, however long ago it was taken."""
        copy = self._copies.get(key)
        return None if copy is None else copy.entry
