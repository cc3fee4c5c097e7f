"""Keys: who may read, and who may start a refresh."""

import secrets
from collections.abc import Iterable

from fastapi import Request
from pydantic import SecretStr

from service.errors import NotAuthenticated, NotFound
from service.settings import Settings


def check_read_key(request: Request) -> None:
    """Pass when reading is open or the request brings one of the API keys."""
    settings: Settings = request.app.state.settings
    if settings.api_keys:
        _check(request, settings.api_keys)


def check_admin_token(request: Request) -> None:
    """Pass when the request brings the admin token; `NotFound` when none is set."""
    settings: Settings = request.app.state.settings
    if settings.admin_token is None:
        raise NotFound("refreshing over HTTP is off: CHAT_STATS_ADMIN_TOKEN is not set")
    _check(request, (settings.admin_token,))


def _check(request: Request, accepted: Iterable[SecretStr]) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    if not key:
        raise NotAuthenticated("send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
    # Every accepted key is compared, in constant time: the time taken tells nothing about them.
    given = key.encode()
    matches = [secrets.compare_digest(given, secret.get_secret_value().encode()) for secret in accepted]
    if not any(matches):
        raise NotAuthenticated("the key in Authorization or X-API-Key is not accepted")
