"""Keys and the admin token: what a request brings, and whether and within which scope it may read."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import SecretStr

from chat_stats.service.catalogue.scopes import Scope
from chat_stats.service.errors import NotAuthenticated, NotPermitted
from chat_stats.service.keys.keys import ScopedKey, hash_of, looks_scoped
from chat_stats.service.keys.known_keys import KnownKeys
from chat_stats.service.settings import Settings

#: As ASGI has them: names in lower case.
Headers = Iterable[tuple[bytes, bytes]]

#: Where in the scope of a request its `Reader` is left.
READER = "chat_stats.reader"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads."""

    #: What tells this client's key from others, for limits; None: it has none of its own.
    identity: bytes | None = None
    #: What it may read; empty: everything.
    scope: Scope = ()


#: One that may read everything.
UNSCOPED = Reader()


class ReadKeys:
    """Which keys may read. One per process."""

    def __init__(self, settings: Settings, known: KnownKeys) -> None:
        self._is_needed = settings.needs_key
        self._unscoped = settings.api_keys
        self._known = known

    def known_reader(self, headers: Headers) -> Reader | None:
        """Return who reads with these headers; None if that is refused, or if only `reader` knows.

        It is on the path of each hit, and looks nothing up.
        """
        scoped = {key for key in given_keys(headers) if looks_scoped(key)}
        if scoped:
            if len(scoped) > 1 or not self._is_needed:
                return None
            key = self._known.known(hash_of(*scoped))
            return Reader(key.hash, key.scope) if key is not None and key.scope else None
        if self._is_needed and accepted_key(headers, self._unscoped) is None:
            return None
        return UNSCOPED

    def reads_on(self, reader: Reader) -> bool:
        """Return whether one that `known_reader` gave may go on: its key still has that scope."""
        if reader.identity is None:
            return True
        key = self._known.known(reader.identity)
        return key is not None and key.scope == reader.scope

    async def reader(self, headers: Headers) -> Reader:
        """Return who reads with these headers.

        Raises `NotAuthenticated`, `NotPermitted`, or what `KnownKeys.find` does. Of several keys the scoped
        one counts, so that no other one widens it.
        """
        scoped = {key for key in given_keys(headers) if looks_scoped(key)}
        if scoped and not self._is_needed:
            raise NotPermitted(
                "reading is open here, so that the scope of a key would hide nothing: set "
                "CHAT_STATS_REQUIRE_KEY=true, or send no key"
            )
        if len(scoped) > 1:
            raise NotAuthenticated("send one key: the request has several")
        for key in scoped:
            if (known := await self._known.find(key)) is not None:
                return _reader(known)
        if self._is_needed:
            check_key(headers, self._unscoped)
        return UNSCOPED


def _reader(key: ScopedKey) -> Reader:
    if not key.scope:
        raise NotPermitted(f"this key cannot be used at present: {key.trouble}")
    return Reader(key.hash, key.scope)


def accepted_key(headers: Headers, accepted: Iterable[SecretStr]) -> bytes | None:
    """Return the accepted key that a request with these headers brings, if it brings one."""
    given = given_keys(headers)
    # Every accepted key is compared, in constant time: the time taken tells nothing about them.
    matches = [
        key
        for key in given
        for secret in accepted
        if secrets.compare_digest(key, secret.get_secret_value().encode())
    ]
    return matches[0] if matches else None


def check_key(headers: Headers, accepted: Iterable[SecretStr]) -> None:
    """Raise `NotAuthenticated` unless a request with these headers brings one of the accepted keys."""
    if accepted_key(headers, accepted) is not None:
        return
    if given_keys(headers):
        raise NotAuthenticated("the key in Authorization or X-API-Key is not accepted")
    raise NotAuthenticated("send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")


def given_keys(headers: Headers) -> list[bytes]:
    """Return the keys that are in the headers, as the bytes that were sent."""
    given = []
    for name, value in headers:
        if name == b"x-api-key":
            given.append(value.strip())
        elif name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                given.append(token.strip())
    return [key for key in given if key]
