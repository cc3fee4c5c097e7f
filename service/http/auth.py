"""API keys and the admin token: what a request brings, and whether it is accepted."""

import secrets
from collections.abc import Iterable

from pydantic import SecretStr

from chat_stats.service.errors import NotAuthenticated

#: As ASGI has them: names in lower case.
Headers = Iterable[tuple[bytes, bytes]]


def brings_key(headers: Headers, accepted: Iterable[SecretStr]) -> bool:
    """Return whether a request with these headers brings one of the accepted keys."""
    return accepted_key(headers, accepted) is not None


def accepted_key(headers: Headers, accepted: Iterable[SecretStr]) -> bytes | None:
    """Return the accepted key that a request with these headers brings, if it brings one."""
    given = _given(headers)
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
    if brings_key(headers, accepted):
        return
    if _given(headers):
        raise NotAuthenticated("the key in Authorization or X-API-Key is not accepted")
    raise NotAuthenticated("send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")


def _given(headers: Headers) -> list[bytes]:
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
