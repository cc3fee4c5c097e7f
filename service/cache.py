"""The cache in Redis: keys, the format of an entry, and publication.

Reading and storing answers never fails: Redis trouble is a miss, logged once per change. Only publishing
a refresh raises, because then nobody has been served.

    chat-stats:v1:entry:models:24h:provider=3   one entry
    chat-stats:v1:generation                    what the last refresh of everything published (JSON)
"""

import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError, WatchError

from service.errors import CacheUnavailable
from service.settings import Settings

logger = logging.getLogger(__name__)

#: Version of the keys and of the entry format. Another version is another set of keys, so that old and new
#: processes can share a Redis.
VERSION = 1

#: After a failure, seconds during which Redis is not asked again: a hung one must not delay every request.
PAUSE_SECONDS = 1.0

_REDIS_TROUBLE = (RedisError, OSError, TimeoutError)


class UndecodableEntry(Exception):
    """What is stored under a key is not an entry of this version, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One computed answer: its body, and how, when and in which generation it was computed."""

    #: The JSON of `data`.
    body: bytes
    #: Metadata beside the common fields, such as `total_models`.
    totals: dict[str, int | str]
    method: str
    computed_at: datetime
    compute_ms: float
    generation: str
    unavailable: tuple[str, ...] = ()

    def age_seconds(self, now: datetime) -> float:
        """Return the age; 0 when the clock of whoever computed it is ahead of ours."""
        return max(0.0, (now - self.computed_at).total_seconds())

    @property
    def etag(self) -> str:
        """A validator of the numbers: the same from every process and refresh that finds the same ones.

        A weak one, since the metadata beside them (age, timestamp) differs from response to response.
        """
        return f'W/"{blake2b(self.body, digest_size=12).hexdigest()}"'


@dataclass(frozen=True, slots=True)
class Stored:
    """The entry that is in the cache after storing, or (`kept` is False) the one that could not be stored."""

    entry: Entry
    kept: bool


def encode(entry: Entry) -> bytes:
    """Return the stored form: one line of JSON that describes the entry, then its body."""
    header = {
        "format": f"chat-stats/{VERSION}",
        "length": len(entry.body),
        "crc32": zlib.crc32(entry.body),
        "method": entry.method,
        "computed_at": entry.computed_at.isoformat(),
        "compute_ms": entry.compute_ms,
        "generation": entry.generation,
        "totals": entry.totals,
        "unavailable": entry.unavailable,
    }
    return orjson.dumps(header) + b"\n" + entry.body


def decode(stored: bytes) -> Entry:
    """Read the stored form; `UndecodableEntry` says what is wrong with it."""
    line, _, body = stored.partition(b"\n")
    try:
        header = orjson.loads(line)
        if header["format"] != f"chat-stats/{VERSION}":
            raise UndecodableEntry("it has another format")
        if (header["length"], header["crc32"]) != (len(body), zlib.crc32(body)):
            raise UndecodableEntry("it is truncated or damaged")
        computed_at = datetime.fromisoformat(header["computed_at"])
        return Entry(
            body=body,
            totals=dict(header["totals"]),
            method=str(header["method"]),
            computed_at=computed_at if computed_at.tzinfo else computed_at.replace(tzinfo=UTC),
            compute_ms=float(header["compute_ms"]),
            generation=str(header["generation"]),
            unavailable=tuple(header["unavailable"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UndecodableEntry(f"it is no chat-stats entry ({type(error).__name__})") from None


@dataclass(frozen=True, slots=True)
class Generation:
    """What the last refresh of everything published."""

    generation: str
    computed_at: datetime
    duration_ms: float
    entries: int
    #: Aggregations that could not be computed in time.
    failed: int

    def age_seconds(self, now: datetime) -> float:
        return max(0.0, (now - self.computed_at).total_seconds())

    def encode(self) -> bytes:
        return orjson.dumps(self)


def decode_generation(stored: bytes | None) -> Generation | None:
    """Read what `Generation.encode` wrote; None when there is nothing, or something else."""
    try:
        fields = orjson.loads(stored or b"")
        computed_at = datetime.fromisoformat(fields["computed_at"])
        return Generation(
            str(fields["generation"]),
            computed_at if computed_at.tzinfo else computed_at.replace(tzinfo=UTC),
            float(fields["duration_ms"]),
            int(fields["entries"]),
            int(fields["failed"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


class Cache:
    """Answers in Redis."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._redis = redis
        self._prefix = f"{settings.cache_prefix}:v{VERSION}"
        self._url = settings.redis_url.get_secret_value()
        self._lifetime = timedelta(seconds=settings.fresh_seconds + settings.stale_seconds)
        self._paused_until = 0.0
        self.reachable = True
        self._accepting = True

    def entry_key(self, query_key: str) -> str:
        return f"{self._prefix}:entry:{query_key}"

    @property
    def generation_key(self) -> str:
        return f"{self._prefix}:generation"

    @property
    def name(self) -> str:
        """What tells this cache from every other that is computed from the same database."""
        return f"{self._url}|{self._prefix}"

    async def get(self, query_key: str) -> Entry | None:
        """Return the entry, or None: absent, undecodable, or (`reachable` is False) Redis is not there."""
        if time.monotonic() < self._paused_until:
            return None
        if not self.reachable:
            self._pause()  # one request looks whether Redis is back, the others go on without it
        try:
            stored = await self._redis.get(self.entry_key(query_key))
        except ResponseError as error:
            # Redis is there, but what lies under the key is no string: foreign.
            logger.warning("ignored what lies under %s: %s", self.entry_key(query_key), type(error).__name__)
            stored = None
        except _REDIS_TROUBLE as error:
            self._trouble(error)
            return None
        self._works()
        return None if stored is None else self._decoded(query_key, stored)

    async def store(self, query_key: str, entry: Entry, *, lifetime_seconds: float | None = None) -> Stored:
        """Keep a live answer, unless a newer one came in between; return which one is kept, and whether.

        It is kept for the fresh and the stale time, or for `lifetime_seconds`.
        """
        if time.monotonic() < self._paused_until:
            return Stored(entry, kept=False)
        lifetime = self._lifetime if lifetime_seconds is None else timedelta(seconds=lifetime_seconds)
        key = self.entry_key(query_key)
        try:
            async with self._redis.pipeline() as pipe:
                await pipe.watch(key)
                current = await self._current(pipe, query_key)
                if current is not None and entry.computed_at <= current.computed_at <= datetime.now(UTC):
                    return Stored(current, kept=True)
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.set(key, encode(entry), px=lifetime)
                await pipe.execute()
        except WatchError:
            return Stored(await self.get(query_key) or entry, kept=True)  # somebody was faster
        except ResponseError as error:  # reachable, but it refuses to write: full, or read-only
            self._refused(error)
            return Stored(entry, kept=False)
        except _REDIS_TROUBLE as error:
            self._trouble(error)
            return Stored(entry, kept=False)
        self._works()
        self._accepts()
        return Stored(entry, kept=True)

    async def publish(self, entries: Mapping[str, Entry], generation: Generation | None) -> bool:
        """Make all entries of one refresh appear together, and say so if it was of everything.

        Returns False, and changes nothing, when a later refresh was published already (by another worker,
        while this one was held up). An entry that was computed live in between is replaced, so that all
        answers are of one generation.
        """
        computed_at = max((entry.computed_at for entry in entries.values()), default=datetime.now(UTC))
        try:
            async with self._redis.pipeline() as pipe:
                await pipe.watch(self.generation_key)
                last = await self._last_generation(pipe)
                if last is not None and computed_at < last.computed_at <= datetime.now(UTC):
                    return False
                pipe.multi()  # type: ignore[no-untyped-call]
                for query_key, entry in entries.items():
                    pipe.set(self.entry_key(query_key), encode(entry), px=self._lifetime)
                if generation is not None:
                    pipe.set(self.generation_key, generation.encode())
                await pipe.execute()
        except WatchError:
            return False
        except _REDIS_TROUBLE as error:
            raise _unavailable(error) from error
        self._accepts()
        return True

    async def last_generation(self) -> Generation | None:
        """Return what the last refresh published; `CacheUnavailable` when Redis is not there."""
        try:
            return await self._last_generation(self._redis)
        except _REDIS_TROUBLE as error:
            raise _unavailable(error) from error

    async def entries(self) -> dict[str, Entry]:
        """Return all entries by their query key, for `status`; `CacheUnavailable` as above."""
        found: dict[str, Entry] = {}
        start = self.entry_key("")
        try:
            keys = [key async for key in self._redis.scan_iter(match=f"{start}*", count=1000)]
            for batch in (keys[i : i + 500] for i in range(0, len(keys), 500)):
                for key, stored in zip(batch, await self._redis.mget(batch), strict=True):
                    query_key = key.decode().removeprefix(start)
                    if stored is not None and (entry := self._decoded(query_key, stored)) is not None:
                        found[query_key] = entry
        except _REDIS_TROUBLE as error:
            raise _unavailable(error) from error
        return found

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _current(self, redis: Redis, query_key: str) -> Entry | None:
        try:
            stored = await redis.get(self.entry_key(query_key))
        except ResponseError:
            return None  # no string: about to be replaced
        return None if stored is None else self._decoded(query_key, stored)

    async def _last_generation(self, redis: Redis) -> Generation | None:
        try:
            return decode_generation(await redis.get(self.generation_key))
        except ResponseError:
            return None

    def _decoded(self, query_key: str, stored: bytes) -> Entry | None:
        try:
            return decode(stored)
        except UndecodableEntry as error:
            logger.warning("ignored the cached entry %s: %s", self.entry_key(query_key), error)
            return None

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _trouble(self, error: BaseException) -> None:
        self._pause()
        if self.reachable:
            logger.warning("Redis does not answer: going on without it (%s: %s)", type(error).__name__, error)
        self.reachable = False

    def _works(self) -> None:
        if not self.reachable:
            logger.warning("Redis answers again")
        self.reachable = True
        self._paused_until = 0.0

    def _refused(self, error: BaseException) -> None:
        # The error's text holds the whole command: the log gets its kind alone.
        if self._accepting:
            logger.warning("Redis refuses to store answers (%s)", type(error).__name__)
        self._accepting = False

    def _accepts(self) -> None:
        if not self._accepting:
            logger.warning("Redis stores answers again")
        self._accepting = True


def connect(url: str, *, timeout_seconds: float, max_connections: int = 32) -> Redis:
    """Return a client that connects when it is first used; every wait of it ends after `timeout_seconds`."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1),  # a connection that died while it lay idle
        retry_on_error=[ConnectionError],
    )
    return Redis.from_pool(pool)


def _unavailable(error: BaseException) -> CacheUnavailable:
    what = "refused" if isinstance(error, ResponseError) else "does not answer"
    return CacheUnavailable(f"Redis {what} ({type(error).__name__})")
