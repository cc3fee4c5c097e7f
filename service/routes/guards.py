"""What the routes check before they answer: keys and rate limits. Dependencies of the routers."""

from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from chat_stats.service.catalogue import schemas
from chat_stats.service.catalogue.scopes import Scope
from chat_stats.service.errors import NotFound
from chat_stats.service.http.auth import READER, Reader, check_key
from chat_stats.service.http.rate_limit import Work
from chat_stats.service.http.services import RequestServices

# They tell the OpenAPI document how to send a key; `check_key` reads what was sent.
_Bearer = Annotated[object, Security(HTTPBearer(auto_error=False))]
_Header = Annotated[object, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]

#: How the checks of a route that reads refuse a request, for the OpenAPI document.
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: schemas.problem("No key, or one that is not accepted (where reading needs one)."),
    403: schemas.problem("The key has a scope that does not fit."),
    422: schemas.problem("A parameter is wrong; `parameter` names it."),
    429: schemas.problem("This client asked too often; see Retry-After."),
}


async def check_read_key(
    request: Request, services: RequestServices, _bearer: _Bearer, _header: _Header
) -> None:
    """Pass when reading is open or the request has a key that may read; `reader_of` then says who."""
    request.scope[READER] = await services.read_keys.reader(request.scope["headers"])


def reader_of(request: Request) -> Reader:
    """Return who reads. A route without the guard above fails."""
    reader: Reader = request.scope[READER]
    return reader


def scope_of(request: Request) -> Scope:
    """Return what the request may read."""
    return reader_of(request).scope


async def check_admin_token(
    request: Request, services: RequestServices, _bearer: _Bearer, _header: _Header
) -> None:
    """Pass when the request has the admin token; `NotFound` when none is set."""
    token = services.settings.admin_token
    if token is None:
        raise NotFound("refreshing over HTTP is off: CHAT_STATS_ADMIN_TOKEN is not set")
    check_key(request.scope["headers"], (token,))


async def count_request(request: Request, services: RequestServices) -> None:
    """Count a call of the API."""
    await services.rate_limiter.spend(Work.REQUESTS, request.scope)


async def count_rows(request: Request, services: RequestServices) -> None:
    """Count a call of an endpoint that reads single requests."""
    await services.rate_limiter.spend(Work.ROWS, request.scope)
