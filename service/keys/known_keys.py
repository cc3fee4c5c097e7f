"""The scoped keys that a process knows: the whole table, in memory, so that no request waits for it.

While the table has keys, it is read twice a second, so that a revoked key ends within a second everywhere.
While the database does not answer, known keys go on for `OFFLINE_SECONDS`, and end with a 503 then: a
key that is revoked meanwhile, from where the database can be reached, lives no longer than that. A key that
is not known may be new: it is looked up at once, but at most ten times a second, whatever clients send.
"""

import asyncio
import logging
import time
from collections.abc import Mapping

import asyncpg

from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database import queries
from chat_stats.service.database.errors import reading_error
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import ChatStatsError, DatabaseUnavailable
from chat_stats.service.keys.keys import ScopedKey, hash_of
from chat_stats.service.keys.scopes import decode_scope
from chat_stats.service.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds between two looks at the table. With the look itself, a revocation takes less than a second.
LOOK_SECONDS = 0.5
#: Seconds from one look to the next, whatever keys come that are not known.
UNKNOWN_SECONDS = 0.1
#: Seconds for which known keys go on while the database does not answer.
OFFLINE_SECONDS = 3600
_TIMEOUT_SECONDS = 2.0
_FAILED = "the keys cannot be read"


class KnownKeys:
    """One per process. It reads nothing before a request brings a key."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._dimensions = settings.known_dimensions
        self._database = database
        self._keys: Mapping[bytes, ScopedKey] = {}
        #: When the last look that succeeded began, and the last one that ended, by the monotonic clock.
        self._read_at: float | None = None
        self._looked_at: float | None = None
        self._looks = SingleFlight[None]()
        self._trouble: str | None = None

    async def close(self) -> None:
        await self._looks.close()

    async def keep_looking(self) -> None:
        """Look at the table again and again, while there are keys in it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._keys:
                await self._look()

    async def find(self, key: bytes) -> ScopedKey | None:
        """Return the key if it is one; `DatabaseUnavailable` when that cannot be known."""
        hashed = hash_of(key)
        found, asked_at = self._keys.get(hashed), time.monotonic()
        if found is None or not self._is_read():
            await self._look()
            if hashed not in self._keys and self._looked_at is not None and self._looked_at < asked_at:
                await self._look()  # that look had begun before, perhaps before the key was made
            found = self._keys.get(hashed)
        if not self._is_read() or (found is None and self._read_at != self._looked_at):
            raise DatabaseUnavailable("the database, which knows the keys, does not answer")
        return found

    def known(self, hashed: bytes) -> ScopedKey | None:
        """Return the key with this hash if it is known now, looking nothing up: else only `find` can tell."""
        return self._keys.get(hashed) if self._is_read() else None

    def _is_read(self) -> bool:
        """Return whether what is known of the table still counts."""
        return self._read_at is not None and time.monotonic() - self._read_at < OFFLINE_SECONDS

    async def _look(self) -> None:
        await self._looks.run(None, self._read)

    async def _read(self) -> None:
        """Read the table; what is known stays when that fails."""
        if self._looked_at is not None:
            await asyncio.sleep(self._looked_at + UNKNOWN_SECONDS - time.monotonic())
        began_at = time.monotonic()
        try:
            records = await self._records()
        except asyncpg.PostgresError as error:
            self._failed(reading_error(error, timed_out="the keys could not be read in time", failed=_FAILED))
        except ChatStatsError:  # of the database, which logs it
            pass
        else:
            self._trouble = None
            self._keys = {record["hash"]: self._key(record) for record in records}
            self._read_at = began_at
        finally:
            self._looked_at = began_at

    async def _records(self) -> list[asyncpg.Record]:
        async with self._database.transaction(reads=False) as snapshot:
            try:
                return await snapshot.fetch(queries.load("keys"), timeout=_TIMEOUT_SECONDS, keeps_plan=True)
            except asyncpg.UndefinedTableError:  # not migrated yet: nothing can have made a key
                return []

    def _key(self, record: asyncpg.Record) -> ScopedKey:
        name, hashed = record["name"], record["hash"]
        known = self._keys.get(hashed)
        try:
            return ScopedKey(name, hashed, decode_scope(record["scope"], self._dimensions))
        except ValueError as error:
            if known is None or known.trouble != str(error):
                logger.warning("the key %r is refused: %s", name, error)
            return ScopedKey(name, hashed, None, str(error))

    def _failed(self, error: ChatStatsError) -> None:
        if self._trouble != str(error):
            logger.warning("%s", error)
        self._trouble = str(error)
