"""The table of the keys, for the command line: makes, lists and revokes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from chat_stats.service.catalogue.scopes import Scope
from chat_stats.service.database import queries
from chat_stats.service.database.dimension_columns import column_types
from chat_stats.service.database.errors import ERRORS, upkeep_error
from chat_stats.service.database.names import begin
from chat_stats.service.database.pool import connect
from chat_stats.service.errors import InvalidParameter, NotFound
from chat_stats.service.keys.keys import hash_of, new_key
from chat_stats.service.keys.scopes import decode_scope, encode_scope, written
from chat_stats.service.settings import Settings

LONGEST_NAME = 100

_KEPT_BY = "keys are kept by the role that ran chat-stats migrate"


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key as it is listed."""

    name: str
    #: Values by dimension; None: the scope cannot be applied, for this trouble.
    scope: dict[str, str] | None
    created_at: datetime
    trouble: str | None = None


class KeyTable:
    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings) -> None:
        self._connection = connection
        self._dimensions = settings.known_dimensions

    async def create(self, name: str, scope: Scope) -> str:
        """Make a key and return it: only its hash is kept.

        Raises `InvalidParameter` for the name, and `SchemaError` for a dimension that the requests lack.
        """
        check_name(name)
        key = new_key()
        async with self._transaction() as fetch:
            await column_types(fetch, [each.dimension for each in scope])
            if not await fetch(queries.load("key_create"), name, hash_of(key.encode()), encode_scope(scope)):
                raise InvalidParameter("name", f"there is a key named {name!r} already: choose another name")
        return key

    async def listed(self) -> list[KeptKey]:
        async with self._transaction() as fetch:
            return [self._kept(record) for record in await fetch(queries.load("keys"))]

    async def revoke(self, name: str) -> None:
        """Forget a key; `NotFound` when there is none of that name."""
        async with self._transaction() as fetch:
            if not await fetch(queries.load("key_revoke"), name):
                raise NotFound(f"there is no key named {name!r}")

    def _kept(self, record: asyncpg.Record) -> KeptKey:
        name, created_at = record["name"], record["created_at"]
        try:
            return KeptKey(name, written(decode_scope(record["scope"], self._dimensions)), created_at)
        except ValueError as error:
            return KeptKey(name, None, created_at, str(error))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        """Open a transaction that searches pg_catalog alone; yields what runs a statement in it."""
        try:
            async with self._connection.transaction():
                names = (await begin(self._connection)).names

                async def fetch(sql: str, *arguments: Any) -> list[asyncpg.Record]:
                    return await self._connection.fetch(names.fill(sql), *arguments)

                yield fetch
        except ERRORS as error:
            raise upkeep_error(error, _KEPT_BY) from error


def check_name(name: str) -> None:
    if not name.strip():
        raise InvalidParameter("name", "the name must not be empty")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidParameter(
            "name", f"the name must be at most {LONGEST_NAME} characters, none of them a control character"
        )


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncIterator[KeyTable]:
    connection = await connect(settings, application_name="chat-stats key")
    try:
        yield KeyTable(connection, settings)
    finally:
        with suppress(asyncpg.InterfaceError, OSError, TimeoutError):
            await connection.close(timeout=settings.connect_timeout_seconds)
