"""Locks of the gateway's tables that keep its writers waiting: asked for briefly, again and again."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from chat_stats.service.errors import DatabaseBusy

#: Longest time in milliseconds that a statement waits for such a lock, and later writers behind it.
LOCK_MS = 100
#: Pause between two attempts to get it, and attempts.
LOCK_PAUSE_SECONDS = 0.5
LOCK_ATTEMPTS = 600


async def with_brief_locks(work: Callable[[], Awaitable[None]], *, busy: str) -> None:
    """Run `work`, a transaction whose `lock_timeout` is `LOCK_MS`, until it gets its locks.

    Raises `DatabaseBusy`, which says `busy`, when it gets none for minutes.
    """
    for _attempt in range(LOCK_ATTEMPTS):
        try:
            return await work()
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
    raise DatabaseBusy(busy)
