"""Keys: who may read, and who may start a refresh."""

import secrets
from collections.abc import Iterable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import SecretStr

from service.errors import NotAuthenticated, NotFound
from service.settings import Settings

#: As ASGI has them: names in lower case.
Headers = Iterable[tuple[bytes, bytes]]

# They tell the OpenAPI document how to send a key; what was sent is checked below.
_Bearer = Annotated[object, Security(HTTPBearer(auto_error=False))]
_Header = Annotated[object, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]


# Coroutines, though they wait for nothing: FastAPI runs plain functions in threads, at ten times their cost.
async def check_read_key(request: Request, _bearer: _Bearer, _header: _Header) -> None:
    """Pass when reading is open or the request brings one of the API keys."""
    settings: Settings = request.app.state.settings
    if settings.api_keys:
        _check(request, settings.api_keys)


async def check_admin_token(request: Request, _bearer: _Bearer, _header: _Header) -> None:
    """Pass when the request brings the admin token; `NotFound` when none is set."""
    settings: Settings = request.app.state.settings
    if settings.admin_token is None:
        raise NotFound("refreshing over HTTP is off: CHAT_STATS_ADMIN_TOKEN is not set")
    _check(request, (settings.admin_token,))


def brings_key(headers: Headers, accepted: Iterable[SecretStr]) -> bool:
    """Return whether a request with these headers brings one of the accepted keys."""
    return accepted_key(headers, accepted) is not None


def accepted_key(headers: Headers, accepted: Iterable[SecretStr]) -> bytes | None:
    """Return the accepted key that a request with these headers brings, whatever else it brings."""
    given = _given(headers)
    # Every accepted key is compared, in constant time: the time taken tells nothing about them.
    matches = [
        key
        for key in given
        for secret in accepted
        if secrets.compare_digest(key, secret.get_secret_value().encode())
    ]
    return matches[0] if matches else None


def _check(request: Request, accepted: Iterable[SecretStr]) -> None:
    headers = request.scope["headers"]
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
