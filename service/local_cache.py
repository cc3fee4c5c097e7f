"""This process's own copies of entries: asked before Redis, and the last resort when all else is down."""

import time
from collections import OrderedDict
from datetime import UTC, datetime

from service.cache import Entry

#: Entries kept; the one not asked for the longest makes way.
CAPACITY = 4096


class LocalCache:
    def __init__(self, recent_seconds: float) -> None:
        self._recent_seconds = recent_seconds
        self._copies: OrderedDict[str, tuple[float, Entry]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._copies)

    def put(self, key: str, entry: Entry) -> Entry:
        """Keep what was just read or computed, unless a newer one is known; return which one is kept."""
        _, known = self._copies.get(key, (0.0, None))
        if known is not None and entry.computed_at < known.computed_at <= datetime.now(UTC):
            entry = known
        self._copies[key] = (time.monotonic(), entry)
        self._copies.move_to_end(key)
        if len(self._copies) > CAPACITY:
            self._copies.popitem(last=False)
        return entry

    def recent(self, key: str) -> Entry | None:
        """Return the copy if it is so recent that Redis need not be asked."""
        taken_at, entry = self._copies.get(key, (0.0, None))
        return entry if time.monotonic() - taken_at < self._recent_seconds else None

    def last_good(self, key: str) -> Entry | None:
        """Return the copy, however long ago it was taken."""
        return self._copies.get(key, (0.0, None))[1]
