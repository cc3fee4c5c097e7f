"""Builds the web application: pools and routes."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service import VERSION
from service.cache.store import Cache, connect
from service.database.clock import Clock
from service.database.pool import Database
from service.explorer.download import DOWNLOADS_PER_EXPORT, Downloads
from service.explorer.explorer import Explorer
from service.health import Vitals
from service.http import problems
from service.http.access_log import Access
from service.http.envelope import Envelope
from service.http.fast_path import FastPath
from service.http.openapi import complete
from service.http.rate_limit import RateLimiter, Work
from service.observability import tracing
from service.observability.logs import configure_logging
from service.observability.metrics import LOCAL_CACHE_ENTRIES, gauge
from service.observability.request_id import RequestId
from service.observability.shared_counts import SharedCounts
from service.queue import Queue
from service.routes import documentation, health, metrics, pages, refresh, stats
from service.routes import explorer as requests
from service.settings import Settings, load_settings
from service.stats import Stats

BASE_PATH = "/api/monitoring"


class Application(FastAPI):
    """FastAPI, and ahead of it what answers without it: `entrance` ends in `FastAPI.__call__`."""

    entrance: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.entrance(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before it is needed.

    Without `settings` it is the factory that a server's process calls: it reads them and sets up its log.
    """
    own_process = settings is None
    if settings is None:
        settings = load_settings()
        configure_logging(settings)
        tracing.start("chat-stats service")
    app = Application(
        title="chat-stats",
        version=VERSION,
        description="Cached usage statistics of an LLM gateway. Every answer states in its metadata "
        "how its numbers were computed and how old they are.",
        docs_url=None,  # service.routes.documentation, without a CDN
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.own_process = own_process
    app.state.clock = Clock()
    app.state.envelope = Envelope(settings, app.state.clock)
    fast_path = FastPath(super(Application, app).__call__, settings, app.state.envelope)
    app.state.fast_path = app.entrance = fast_path
    app.include_router(stats.create_router(), prefix=BASE_PATH)
    app.include_router(requests.create_router(), prefix=BASE_PATH)
    app.include_router(refresh.create_router(), prefix=BASE_PATH)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(documentation.create_router())
    if settings.web_page:
        app.include_router(pages.create_router())
    problems.add_handlers(app)
    app.add_middleware(Access, log=settings.access_log)
    app.add_middleware(RequestId)  # around it: its line has the id
    if settings.cors_origins:
        app.entrance = CORSMiddleware(
            fast_path,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "If-None-Match"],
            expose_headers=["ETag", "Age", "Cache-Status", "Retry-After", "X-Request-ID"],
        )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database = Database(settings, application_name="chat-stats service", clock=app.state.clock)
    cache = Cache(
        settings,
        connect(settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds),
        app.state.clock,
    )
    queue = Queue(settings)
    await database.open()
    clock = asyncio.create_task(database.keep_clock())
    app.state.database, app.state.cache, app.state.queue = database, cache, queue
    app.state.stats = Stats(settings, database, cache)
    app.state.rate_limiter = RateLimiter(settings, cache)
    if not app.state.rate_limiter.limits(Work.REQUESTS):  # else each request takes the way that counts it
        app.state.fast_path.open(app.state.stats, app.state.rate_limiter)
    app.state.explorer = Explorer(settings, database)
    app.state.downloads = Downloads(DOWNLOADS_PER_EXPORT * settings.max_exports)
    app.state.vitals = Vitals(settings, database, cache, queue)
    gauge(LOCAL_CACHE_ENTRIES, app.state.stats.local_entries)
    if app.state.own_process:
        # What is loaded now stays: the garbage collector need not look through it again and again, which
        # would hold up requests for tens of milliseconds. (Nor now: there is hardly any garbage yet.)
        gc.freeze()
    try:
        async with _shared_counts(app):
            yield
    finally:
        clock.cancel()
        app.state.fast_path.close()
        await app.state.vitals.close()
        await app.state.downloads.close()
        await app.state.explorer.close()
        await app.state.stats.close()
        await database.close()
        await cache.close()
        await queue.close()
        await asyncio.to_thread(tracing.stop)


@asynccontextmanager
async def _shared_counts(app: FastAPI) -> AsyncIterator[None]:
    """Share the counts for /metrics with the other processes of this service, if there are any."""
    app.state.shared_counts = None
    if app.state.settings.metrics_folder is None:
        yield
        return
    shared = app.state.shared_counts = SharedCounts(app.state.settings.metrics_folder)
    writing = asyncio.create_task(shared.keep_writing())
    try:
        yield
    finally:
        writing.cancel()
        shared.close()
