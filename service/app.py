"""Builds the web application: the parts of the service, and the routes over them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_stats.service import VERSION
from chat_stats.service.cache.announcements import Announcements
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.connecting.late_look_ups import log_late_look_ups
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.pool import Database
from chat_stats.service.explorer.download import DOWNLOADS_PER_EXPORT, Downloads
from chat_stats.service.explorer.explorer import Explorer
from chat_stats.service.health import HealthChecks
from chat_stats.service.http import problems
from chat_stats.service.http.access_log import Access
from chat_stats.service.http.auth import ReadKeys
from chat_stats.service.http.connections import max_connections
from chat_stats.service.http.envelope import Envelope
from chat_stats.service.http.event_streams import EventStreams
from chat_stats.service.http.fast_path import FastPath
from chat_stats.service.http.hits import Hits
from chat_stats.service.http.openapi import complete
from chat_stats.service.http.rate_limit import RateLimiter
from chat_stats.service.http.services import Services
from chat_stats.service.http.stopping import on_stop
from chat_stats.service.keys.known_keys import KnownKeys
from chat_stats.service.observability import tracing
from chat_stats.service.observability.logs import configure_logging
from chat_stats.service.observability.metrics import EVENT_STREAMS, LOCAL_CACHE_ENTRIES, gauge
from chat_stats.service.observability.request_id import RequestId
from chat_stats.service.observability.shared_counts import SharedCounts
from chat_stats.service.queue import Queue
from chat_stats.service.routes import (
    documentation,
    events,
    explorer,
    health,
    metrics,
    pages,
    questions,
    refresh,
    slashes,
)
from chat_stats.service.routes import stats as statistics
from chat_stats.service.settings import Settings, load_settings
from chat_stats.service.stats import Stats
from chat_stats.service.usage import UsageMetrics

BASE_PATH = "/api/monitoring"


class Application(FastAPI):
    """FastAPI behind the layers of `entrance`, the innermost of which calls `FastAPI.__call__`."""

    entrance: ASGIApp
    #: For the HTTP protocol; None: a layer around the fast path has its part in each answer.
    hits: Hits | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.entrance(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            settings: Settings = self.state.services.settings
            document = complete(super().openapi(), settings)
            self.openapi_schema = explorer.document_columns(document, settings.request_columns)
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before it is needed.

    Without `settings` it is the factory that a server process calls: it reads them and sets up logging.
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
        root_path=settings.root_path,
        redirect_slashes=False,  # service.routes.slashes redirects after the checks
        lifespan=lambda running: _running(running, services, own_process=own_process),
    )
    services: Services = _build(settings, super(Application, app).__call__)
    app.state.services = services
    app.entrance = services.fast_path
    app.hits = Hits(services.fast_path)
    readers = (
        statistics.create_router(settings),
        questions.create_router(settings),
        explorer.create_router(settings),
    )
    for router in (*readers, events.router):
        app.include_router(router, prefix=BASE_PATH)
    app.include_router(slashes.create_router((*readers, events.router)), prefix=BASE_PATH)
    app.include_router(refresh.create_router(), prefix=BASE_PATH)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(slashes.create_router((health.router, metrics.router)))
    app.include_router(documentation.create_router())
    if settings.web_page:
        app.include_router(pages.create_router(settings.frame_ancestors))
    problems.add_handlers(app)
    app.add_middleware(Access, log=settings.access_log)
    app.add_middleware(RequestId)  # around it: its line has the id
    if settings.cors_origins:
        app.hits = None
        app.entrance = CORSMiddleware(
            services.fast_path,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Age", "Cache-Status", "Retry-After", "X-Request-ID"],
        )
    return app


def _build(settings: Settings, routed: ASGIApp) -> Services:
    """Return the parts, none of which connects yet; the fast path hands on to `routed`."""
    clock = Clock()
    database = Database(settings, application_name="chat-stats service", clock=clock)
    redis = connect(settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds)
    cache = Cache(settings, redis, clock)
    queue = Queue(settings)
    stats = Stats(settings, database, cache)
    known_keys = KnownKeys(settings, database)
    read_keys = ReadKeys(settings, known_keys)
    rate_limiter = RateLimiter(settings, cache)
    envelope = Envelope(settings, clock)
    announcements = Announcements(cache)
    # The other connections are for requests.
    event_streams = EventStreams(min(settings.max_event_streams, max_connections() * 3 // 4))
    announcements.listen(lambda _: stats.expire_local_copies())
    announcements.listen(event_streams.publish)
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        cache=cache,
        queue=queue,
        stats=stats,
        explorer=Explorer(settings, database),
        downloads=Downloads(DOWNLOADS_PER_EXPORT * settings.max_exports),
        health=HealthChecks(settings, database, cache, queue),
        known_keys=known_keys,
        read_keys=read_keys,
        usage=UsageMetrics(settings, stats, cache),
        rate_limiter=rate_limiter,
        announcements=announcements,
        event_streams=event_streams,
        envelope=envelope,
        fast_path=FastPath(routed, settings, stats, read_keys, rate_limiter, envelope),
        shared_counts=None if settings.metrics_folder is None else SharedCounts(settings.metrics_folder),
    )


@asynccontextmanager
async def _running(app: FastAPI, services: Services, *, own_process: bool) -> AsyncIterator[None]:
    """Open the parts, and close them at the end."""
    log_late_look_ups()
    _build_routes(app)
    await services.database.open()
    clock = asyncio.create_task(services.database.keep_clock())
    keys = asyncio.create_task(services.known_keys.keep_looking())
    services.fast_path.open()
    following = asyncio.create_task(services.announcements.follow())
    streaming = asyncio.create_task(services.event_streams.keep())
    telling = asyncio.create_task(
        services.stats.watched.keep_telling(lambda: len(services.event_streams) > 0)
    )
    gauge(LOCAL_CACHE_ENTRIES, services.stats.local_entries)
    gauge(EVENT_STREAMS, lambda: len(services.event_streams))
    loop = asyncio.get_running_loop()
    if own_process:
        # The garbage collector then skips what is loaded now, and holds up no request for tens of
        # milliseconds. (No collection before it: there is hardly any garbage yet.)
        gc.freeze()
    try:
        with on_stop(lambda: loop.call_soon_threadsafe(services.event_streams.stop)):
            async with _shared(services.shared_counts):
                yield
    finally:
        services.event_streams.stop()
        for task in (clock, keys, following, streaming, telling):
            task.cancel()
        await asyncio.wait((following, streaming, telling))
        await services.fast_path.close()
        await services.health.close()
        await services.known_keys.close()
        await services.downloads.close()
        await services.explorer.close()
        await services.stats.close()
        await services.database.close()
        await services.cache.close()
        await services.queue.close()
        await asyncio.to_thread(tracing.stop)


def _build_routes(app: FastAPI) -> None:
    """Have FastAPI build the routes, which it puts off to their first requests: 70 ms of processor time."""
    nothing = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "root_path": "",
        "headers": [],
        "query_string": b"",
    }
    for route in app.router.routes:
        route.matches(nothing.copy())


@asynccontextmanager
async def _shared(counts: SharedCounts | None) -> AsyncIterator[None]:
    """Share the counts for /metrics with the other processes of this service, if there are any."""
    if counts is None:
        yield
        return
    counts.open()
    writing = asyncio.create_task(counts.keep_writing())
    try:
        yield
    finally:
        writing.cancel()
        counts.close()
