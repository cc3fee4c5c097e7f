"""The parts of the service, and the dependency by which a request reaches them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from chat_stats.service.cache.announcements import Announcements
from chat_stats.service.cache.store import Cache
from chat_stats.service.database.clock import Clock
from chat_stats.service.database.pool import Database
from chat_stats.service.explorer.download import Downloads
from chat_stats.service.explorer.explorer import Explorer
from chat_stats.service.health import HealthChecks
from chat_stats.service.http.auth import ReadKeys
from chat_stats.service.http.envelope import Envelope
from chat_stats.service.http.event_streams import EventStreams
from chat_stats.service.http.fast_path import FastPath
from chat_stats.service.http.rate_limit import RateLimiter
from chat_stats.service.keys.known_keys import KnownKeys
from chat_stats.service.observability.shared_counts import SharedCounts
from chat_stats.service.queue import Queue
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Stats
from chat_stats.service.usage import UsageMetrics


@dataclass(frozen=True, slots=True)
class Services:
    """One of each per process. `service.app` builds, opens and closes them."""

    settings: Settings
    clock: Clock
    database: Database
    cache: Cache
    queue: Queue
    stats: Stats
    explorer: Explorer
    downloads: Downloads
    health: HealthChecks
    known_keys: KnownKeys
    read_keys: ReadKeys
    usage: UsageMetrics
    rate_limiter: RateLimiter
    announcements: Announcements
    event_streams: EventStreams
    envelope: Envelope
    fast_path: FastPath
    #: None: this process is the only one of the service.
    shared_counts: SharedCounts | None


# A coroutine, though it waits for nothing: FastAPI runs plain functions in threads, at ten times their cost.
async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


RequestServices = Annotated[Services, Depends(services_of)]
