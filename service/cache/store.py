"""The cache in Redis: keys, reading, storing.

Reading and storing answers never fails: Redis trouble is a miss, logged once per change. Only the look-ups of
operators raise `CacheUnavailable`, and publishing a refresh (`service.cache.publication`).

    chat-stats:v2:entry:models@5f3a9c21:24h:provider=3   one entry
    chat-stats:v2:generation                             what refreshes published (`publication`)
    chat-stats:v2:lease:..., failure:...                 which process computes an entry (`lease`)
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError, WatchError

from chat_stats.service.cache.entry import (
    HEADER_BYTES,
    VERSION,
    Entry,
    EntryHeader,
    Generation,
    UndecodableEntry,
    decode,
    decode_generation,
    decode_header,
    encode,
)
from chat_stats.service.cache.errors import TROUBLE, is_foreign, named, trouble_of, unavailable
from chat_stats.service.cache.on_demand import OnDemandBudget
from chat_stats.service.connecting.redis_pools import redis_pool
from chat_stats.service.database.clock import Clock
from chat_stats.service.observability import metrics
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds after a failure during which Redis is not asked again: a hung one must not delay every request.
PAUSE_SECONDS = 1.0

#: Seconds by which a time-out is late in a process too busy to tell whether Redis answered.
LATE_SECONDS = 0.05

#: Connections of one process; further commands wait for one.
MAX_CONNECTIONS = 32

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Stored:
    """The entry that is in the cache after storing, or (`kept` is False) the one that could not be stored."""

    entry: Entry
    kept: bool


class Cache:
    """Answers in Redis."""

    def __init__(self, settings: Settings, redis: Redis, clock: Clock) -> None:
        self.redis = redis
        self.clock = clock
        self._prefix = f"{settings.cache_prefix}:v{VERSION}"
        self._url = settings.redis_url.get_secret_value()
        self._on_demand = OnDemandBudget(self._prefix, settings.on_demand_cache_bytes)
        #: Of what the worker keeps computed: the fresh and the stale time.
        self.lifetime = timedelta(seconds=settings.fresh_seconds + settings.stale_seconds)
        self._timeout = settings.redis_timeout_seconds
        self._paused_until = 0.0
        self.reachable = True
        self.accepting = True

    def key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    def entry_key(self, query_key: str) -> str:
        return self.key("entry", query_key)

    @property
    def name(self) -> str:
        """Identifies this cache among those that are computed from the same database."""
        return f"{self._url}|{self._prefix}"

    @property
    def paused(self) -> bool:
        """Whether Redis has just failed to answer, and is not asked now."""
        return time.monotonic() < self._paused_until

    @property
    def generation_key(self) -> str:
        """The key of what the last refresh of everything published."""
        return self.key("generation")

    async def get_with_generation(self, query_key: str) -> tuple[Entry | None, Generation | None]:
        """Return the entry, as `get` does, and the last refresh of everything."""

        async def ask() -> list[Any]:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.get(self.entry_key(query_key))
                pipe.get(self.generation_key)
                return await pipe.execute(raise_on_error=False)

        answers = [
            answer if isinstance(answer, bytes) else None
            for answer in await self.attempt(ask) or (None, None)
        ]
        entry, generation = answers
        return None if entry is None else self.decoded(query_key, entry), decode_generation(generation)

    async def get(self, query_key: str) -> Entry | None:
        """Return the entry, or None: absent, undecodable, or (`reachable` is False) Redis does not answer."""
        stored = await self.attempt(lambda: self.redis.get(self.entry_key(query_key)))
        return None if stored is None else self.decoded(query_key, stored)

    async def holds(self, query_key: str, entry: Entry) -> bool:
        """Return whether Redis has this entry, by its head and its length: the body is not read."""
        head, key = entry.head, self.entry_key(query_key)

        async def ask() -> list[Any]:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.getrange(key, 0, len(head) - 1)
                pipe.strlen(key)
                return await pipe.execute(raise_on_error=False)

        return await self.attempt(ask) == [head, len(head) + len(entry.body)]

    async def last_generation(self) -> Generation | None:
        """Return the last refresh of everything, or None: there was none, or Redis does not answer."""
        return decode_generation(await self.attempt(lambda: self.redis.get(self.generation_key)))

    async def attempt(self, command: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return Redis' answer to a command of a request; None when it has none, or does not answer.

        The wait is limited by the settings, however many connections and replies the command takes.
        """
        if self.paused:
            return None
        if not self.reachable:
            self._pause()  # one request tries whether Redis is back, the others go on without it
        try:
            answer = await self._in_time(command)
        except ResponseError as error:
            if not is_foreign(error):
                self._trouble(error)
                return None
            # Redis answers, but the value under the key is no string: foreign.
            logger.warning("ignored what lies under a key: %s", error)
            answer = None
        except TROUBLE as error:
            self._trouble(error)
            return None
        self._works()
        return answer

    async def store(self, query_key: str, entry: Entry, *, lifetime_seconds: float | None = None) -> Stored:
        """Store a live answer, unless a newer one came in between; return which one is stored, and whether.

        It lives for the fresh and the stale time; or for `lifetime_seconds`, in the budget for what the
        worker does not keep computed.
        """
        if self.paused:
            return Stored(entry, kept=False)
        try:
            newer = await self._in_time(lambda: self._replace_older(query_key, entry, lifetime_seconds))
            if newer is not None:
                return Stored(newer, kept=True)
        except WatchError:
            theirs = await self.get(query_key)  # another process was faster
            if theirs is None or self.clock.is_newer(entry.computed_at, theirs.computed_at):
                return Stored(entry, kept=False)
            return Stored(theirs, kept=True)
        except ResponseError as error:  # reachable, but it refuses to write: full, or read-only
            self._refused(error)
            return Stored(entry, kept=False)
        except TROUBLE as error:
            self._trouble(error)
            return Stored(entry, kept=False)
        self._works()
        self.accepts()
        return Stored(entry, kept=True)

    def can_store(self, query_key: str, entry: Entry, lifetime_seconds: float | None) -> bool:
        """Return whether `store` would keep this entry, as far as this process knows."""
        return self.accepting and (
            lifetime_seconds is None or self._on_demand.fits(self.entry_key(query_key), encode(entry))
        )

    async def _replace_older(
        self, query_key: str, entry: Entry, lifetime_seconds: float | None
    ) -> Entry | None:
        """Store the entry, or return the newer one that is stored already."""
        key = self.entry_key(query_key)
        async with self.redis.pipeline() as pipe:
            await pipe.watch(key)
            current = await self._current(pipe, query_key)
            if current is not None and not self.clock.is_newer(entry.computed_at, current.computed_at):
                return current
            pipe.multi()  # type: ignore[no-untyped-call]
            if lifetime_seconds is None:
                pipe.set(key, encode(entry), px=self.lifetime)
            else:
                lifetime_ms = round(lifetime_seconds * 1000)
                self._on_demand.store(pipe, key, encode(entry), lifetime_ms=lifetime_ms)
            await pipe.execute()
        return None

    async def _in_time(self, command: Callable[[], Awaitable[Answer]]) -> Answer:
        """Run a command within the time-out; once more when this process was late and not Redis.

        In a burst of requests the event loop may be that late in seeing the reply and the time.
        """
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                return await command()
        except ResponseError:
            raise
        except TROUBLE:
            if time.monotonic() - began_at < self._timeout + LATE_SECONDS:
                raise
        async with asyncio.timeout(self._timeout):
            return await command()

    async def on_demand_bytes(self) -> int:
        """Return the bytes of the answers on demand, for `status`. Raises `CacheUnavailable`."""
        try:
            return await self._on_demand.used_bytes(self.redis)
        except TROUBLE as error:
            raise unavailable(error) from error

    async def entries(self) -> dict[str, Entry]:
        """Return all entries by their query key, for `status`. Raises `CacheUnavailable`."""
        found: dict[str, Entry] = {}
        start = self.entry_key("")
        try:
            keys = [key async for key in self.redis.scan_iter(match=f"{start}*", count=1000)]
            for batch in (keys[i : i + 500] for i in range(0, len(keys), 500)):
                for key, stored in zip(batch, await self.redis.mget(batch), strict=True):
                    query_key = key.decode().removeprefix(start)
                    if stored is not None and (entry := self.decoded(query_key, stored)) is not None:
                        found[query_key] = entry
        except TROUBLE as error:
            raise unavailable(error) from error
        return found

    async def entry_headers(self, query_keys: Iterable[str]) -> dict[str, EntryHeader]:
        """Return how and when the entries were computed, without reading their bodies; absent ones are left
        out. Raises `CacheUnavailable`.
        """
        keys = list(query_keys)
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.getrange(self.entry_key(key), 0, HEADER_BYTES - 1)
                found = await pipe.execute(raise_on_error=False)
        except TROUBLE as error:
            raise unavailable(error) from error
        headers = {key: decode_header(stored) for key, stored in zip(keys, found, strict=True)}
        return {key: header for key, header in headers.items() if header is not None}

    async def close(self) -> None:
        await self.redis.aclose(close_connection_pool=True)

    async def _current(self, redis: Redis, query_key: str) -> Entry | None:
        try:
            stored = await redis.get(self.entry_key(query_key))
        except ResponseError:
            return None  # no string: `store` replaces it
        return None if stored is None else self.decoded(query_key, stored)

    def decoded(self, query_key: str, stored: bytes) -> Entry | None:
        try:
            return decode(stored)
        except UndecodableEntry as error:
            metrics.cache_error("undecodable")
            logger.warning("ignored the cached entry %s: %s", self.entry_key(query_key), error)
            return None

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _trouble(self, error: BaseException) -> None:
        self._pause()
        metrics.cache_error("unreachable")
        if self.reachable:
            logger.warning("Redis %s; going on without it (%s)", trouble_of(error), named(error))
        self.reachable = False

    def _works(self) -> None:
        if not self.reachable:
            logger.warning("Redis answers again")
        self.reachable = True
        self._paused_until = 0.0

    def _refused(self, error: BaseException) -> None:
        metrics.cache_error("refused")
        # The error's text holds the whole command: the log gets its kind alone.
        if self.accepting:
            logger.warning("Redis refuses to store answers (%s)", type(error).__name__)
        self.accepting = False

    def accepts(self) -> None:
        if not self.accepting:
            logger.warning("Redis stores answers again")
        self.accepting = True


def connect(url: str, *, timeout_seconds: float) -> Redis:
    """Return a client that connects when it is first used; every wait of it ends after `timeout_seconds`."""
    pool = redis_pool(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout_seconds=timeout_seconds,
        retry=Retry(NoBackoff(), 1),  # a connection that died while it lay idle
        retry_on_error=[ConnectionError],
    )
    return Redis.from_pool(pool)
