"""What an error looks like: application/problem+json (RFC 9457)."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from chat_stats.service.errors import ChatStatsError, InvalidParameter, NotAuthenticated
from chat_stats.service.observability.request_id import HEADER, request_id

logger = logging.getLogger(__name__)


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ChatStatsError, _chat_stats_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    parameter: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "success": False,
    }
    if parameter is not None:
        body["parameter"] = parameter
    if (identity := request_id.get()) is not None:
        body["request_id"] = identity
    return Response(
        orjson.dumps(body),
        status_code=status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def _chat_stats_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ChatStatsError)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    parameter = error.parameter if isinstance(error, InvalidParameter) else None
    return problem(error.status, error.title, str(error), parameter=parameter, headers=headers)


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    parameter = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    detail = f"{parameter}: {first['msg']}"
    if first["type"] == "bool_parsing":
        detail = f"{parameter} must be true or false"
    return problem(422, InvalidParameter.title, detail, parameter=parameter)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return problem(error.status_code, str(error.detail), str(error.detail), headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes of this path: Starlette names those of the first one alone."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    app: FastAPI = request.app
    return [
        method
        for method in methods
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.routes)
    ]


async def _unexpected_error(request: Request, error: Exception) -> Response:
    # Starlette raises the error again afterwards, so that the server logs its traceback.
    logger.error("unexpected %s at %s", type(error).__name__, request.url.path)
    detail = "an unexpected error; the service's log has the details"
    # This is the one answer that is made outside of the middleware that adds the header.
    identity = request_id.get()
    headers = None if identity is None else {HEADER.decode(): identity}
    return problem(500, ChatStatsError.title, detail, headers=headers)
