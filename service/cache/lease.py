"""Single flight across processes: one computation of a key at a time, over all that share a Redis.

    chat-stats:v2:lease:models@5f3a9c21:24h     token of the holder, which renews it; expires when it died
    chat-stats:v2:failure:models@5f3a9c21:24h   token and error of a holder that failed; brief

The holder of the lease computes. The others look for the entry, with pauses that grow with the time waited:
they return it soon after it is stored, fail as the holder failed, or take the lease when the holder died.
Without Redis there is no lease: each process computes one at a time per key, within the database's slots.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import orjson

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.store import Cache, Stored
from chat_stats.service.errors import ChatStatsError, DatabaseBusy, InvalidParameter, error_named

#: Milliseconds after which the lease of a holder that died or froze is free; a busy holder renews it in time.
LEASE_MS = 2000
#: The same in seconds.
LEASE_SECONDS = LEASE_MS / 1000
RENEW_SECONDS = 0.5
#: Milliseconds for which the waiting processes can read a failure; longer than they pause.
FAILURE_MS = 2000
#: The pauses of waiting processes: a share of the time waited so far, so that none gets an answer much later
#: than the holder; and their bounds in seconds.
PAUSE_SHARE = 0.2
SHORTEST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.25

_IF_MINE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call({}) else return 0 end"
_RENEW = _IF_MINE.format("'pexpire', KEYS[1], ARGV[2]")
_RELEASE = _IF_MINE.format("'del', KEYS[1]")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a key: the holder of its lease (this process, if it was free), and what is stored."""

    #: Token of the holder.
    holder: str
    entry: Entry | None
    #: Token and error of the last holder that failed.
    failure: tuple[str, ChatStatsError] | None


class Leases:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._renew = cache.redis.register_script(_RENEW)
        self._release = cache.redis.register_script(_RELEASE)

    async def run_once(
        self,
        query_key: str,
        compute: Callable[[], Awaitable[Stored]],
        *,
        suffices: Callable[[Entry], bool],
        wait_seconds: float,
    ) -> Stored:
        """Return what `compute` returns, here or in the process that holds the lease.

        An entry that another process stored is taken instead when it `suffices`. Raises what `compute`
        raises, here or in the holder, and `DatabaseBusy` when the holder is not done after `wait_seconds`.
        """
        token = secrets.token_hex(8)
        began_at = time.monotonic()
        awaited: str | None = None
        while (look := await self._look(query_key, token)) is not None:
            mine = look.holder == token
            # Only a failure that took place while this process waited counts: no failure is cached.
            told = look.failure[1] if look.failure is not None and look.failure[0] == awaited else None
            async with self._held(query_key, token) if mine else nullcontext():
                if look.entry is not None and suffices(look.entry):
                    return Stored(look.entry, kept=True)
                if mine and told is None:
                    return await compute()
            if told is not None:  # outside of `_held`, so that it is not stored again with this token
                raise told
            waited = time.monotonic() - began_at
            if waited > wait_seconds:
                raise DatabaseBusy("another process has been computing this for too long")
            awaited = look.holder
            await asyncio.sleep(pause_after(waited))
        return await compute()

    @asynccontextmanager
    async def _held(self, query_key: str, token: str) -> AsyncIterator[None]:
        """Keep the lease until the block ends; store the error for the waiting processes when it fails."""
        ended = asyncio.Event()
        renewing = asyncio.create_task(self._keep_renewing(query_key, token, ended))
        try:
            yield
        except ChatStatsError as error:
            parameter = error.parameter if isinstance(error, InvalidParameter) else None
            told = orjson.dumps([token, type(error).__name__, str(error), parameter])
            key = self._cache.key("failure", query_key)
            await self._cache.attempt(lambda: self._cache.redis.set(key, told, px=FAILURE_MS))
            raise
        finally:
            ended.set()
            await asyncio.wait({renewing})
            lease = self._cache.key("lease", query_key)
            await self._cache.attempt(lambda: self._release([lease], [token]))

    async def _keep_renewing(self, query_key: str, token: str, ended: asyncio.Event) -> None:
        # Ended by an event: Python 3.11's wait_for, which redis uses, may swallow a cancellation.
        lease = self._cache.key("lease", query_key)
        while not ended.is_set():
            try:
                async with asyncio.timeout(RENEW_SECONDS):
                    await ended.wait()
            except TimeoutError:
                await self._cache.attempt(lambda: self._renew([lease], [token, LEASE_MS]))

    async def _look(self, query_key: str, token: str) -> Look | None:
        """Take the lease if it is free, and read what is stored; None: Redis is away, or refuses to write."""
        lease = self._cache.key("lease", query_key)

        async def ask() -> list[Any]:
            async with self._cache.redis.pipeline(transaction=False) as pipe:
                # In this order, so that a new holder sees what the last one stored.
                pipe.set(lease, token, nx=True, px=LEASE_MS)
                pipe.get(lease)
                pipe.get(self._cache.key("entry", query_key))
                pipe.get(self._cache.key("failure", query_key))
                return await pipe.execute(raise_on_error=False)

        answers = await self._cache.attempt(ask)
        if answers is None or any(isinstance(answer, Exception) for answer in answers[:2]):
            return None  # away, or it refuses to write: full, or read-only
        _, holder, stored, failure = answers
        return Look(
            holder.decode() if holder is not None else "",
            self._cache.decoded(query_key, stored) if isinstance(stored, bytes) else None,
            _failure(failure),
        )


def pause_after(waited: float) -> float:
    """Return how many seconds to pause after having waited for so many."""
    return min(max(SHORTEST_PAUSE_SECONDS, waited * PAUSE_SHARE), LONGEST_PAUSE_SECONDS)


def _failure(told: object) -> tuple[str, ChatStatsError] | None:
    """Decode the failure that a holder stored; None when there is none, or something foreign."""
    if not isinstance(told, bytes):
        return None
    try:
        token, name, message, parameter = orjson.loads(told)
        return str(token), error_named(str(name), str(message), parameter)
    except (ValueError, TypeError):
        return None
