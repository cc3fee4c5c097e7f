"""Builds the web application: pools, routes, and what an error looks like."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service import VERSION
from service.cache import Cache, connect
from service.database import Database
from service.download import DOWNLOADS_PER_EXPORT, Downloads
from service.errors import ChatStatsError, InvalidParameter, NotAuthenticated
from service.explorer import Explorer
from service.queue import Queue
from service.routes import health, pages, refresh, requests, stats
from service.settings import Settings, configure_logging, load_settings
from service.stats import Stats

logger = logging.getLogger(__name__)

BASE_PATH = "/api/monitoring"


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before it is needed.

    Without `settings` it is the factory that a server's process calls: it reads them and sets up its log.
    """
    if settings is None:
        settings = load_settings()
        configure_logging(settings)
    app = FastAPI(
        title="chat-stats",
        version=VERSION,
        description="Cached usage statistics of an LLM gateway. Every answer states in its metadata "
        "how its numbers were computed and how old they are.",
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.include_router(stats.create_router(), prefix=BASE_PATH)
    app.include_router(requests.create_router(), prefix=BASE_PATH)
    app.include_router(refresh.create_router(), prefix=BASE_PATH)
    app.include_router(health.router)
    if settings.web_page:
        app.include_router(pages.create_router())
    app.add_exception_handler(ChatStatsError, _chat_stats_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "X-API-Key", "If-None-Match"],
            expose_headers=["ETag", "Age", "Cache-Status", "Retry-After"],
        )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database = Database(settings, application_name="chat-stats service")
    cache = Cache(
        settings,
        connect(settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds),
    )
    queue = Queue(settings)
    await database.open()
    app.state.database, app.state.cache, app.state.queue = database, cache, queue
    app.state.stats = Stats(settings, database, cache)
    app.state.explorer = Explorer(settings, database)
    app.state.downloads = Downloads(DOWNLOADS_PER_EXPORT * settings.max_exports)
    try:
        yield
    finally:
        await app.state.downloads.close()
        await app.state.explorer.close()
        await app.state.stats.close()
        await database.close()
        await cache.close()
        await queue.close()


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    parameter: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error as application/problem+json (RFC 9457)."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "success": False,
    }
    if parameter is not None:
        body["parameter"] = parameter
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
    return problem(422, InvalidParameter.title, f"{parameter}: {first['msg']}", parameter=parameter)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), str(error.detail), headers=error.headers)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    # Starlette raises the error again afterwards, so that the server logs its traceback.
    logger.error("unexpected %s at %s", type(error).__name__, request.url.path)
    return problem(500, ChatStatsError.title, "an unexpected error; the service's log has the details")
