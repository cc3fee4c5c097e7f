"""Liveness and readiness, at the root and open to all."""

import asyncio
import logging

import asyncpg
from fastapi import APIRouter, Response

from chat_stats.service.cache.publication import Publication
from chat_stats.service.catalogue import schemas
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ChatStatsError, Unavailable
from chat_stats.service.http.services import RequestServices, Services
from chat_stats.service.rollup.state import state_in

logger = logging.getLogger(__name__)

#: Seconds for which the result of one look at everything is shared.
LOOK_SECONDS = 1.0

router = APIRouter(tags=["health"])


@router.head("/health", include_in_schema=False)
@router.get("/health", operation_id="health", summary="The process is up.")
async def health() -> schemas.Health:
    return schemas.Health(status="ok")


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    operation_id="ready",
    summary="What is reachable, and how old the last refresh is.",
    responses={503: {"model": schemas.Readiness, "description": "No answer could be given now."}},
)
async def ready(services: RequestServices, response: Response) -> schemas.Readiness:
    """Ready or degraded: 200. 503 when neither cache nor database can answer, and nothing is in memory."""
    # Callers within a second share one look: each is a transaction.
    readiness = await services.readiness.run(None, lambda: _look(services))
    if readiness.status == "unavailable":
        response.status_code = 503
    return readiness


async def _look(services: Services) -> schemas.Readiness:
    (postgres, rollup), (redis, last), worker = await asyncio.gather(
        _postgres(services), _redis(services), _worker(services)
    )
    late = last is None or last.age_seconds > services.settings.late_seconds
    if worker.ok and late:
        worker = schemas.Component(ok=False, detail="it runs, but its last refresh is too long ago")
    if not postgres.ok and last is None and not services.stats.local_entries():
        status = "unavailable"
    elif postgres.ok and redis.ok and worker.ok and rollup.ok:
        status = "ready"
    else:
        status = "degraded"
    return schemas.Readiness(
        status=status, redis=redis, postgres=postgres, worker=worker, rollup=rollup, last_refresh=last
    )


async def _postgres(services: Services) -> tuple[schemas.Component, schemas.Component]:
    """Look at the database and, in the same transaction, at the rollup."""
    rollup = None
    try:
        async with services.database.checked() as snapshot:
            rollup = await _rollup(services, snapshot)
    except ChatStatsError as error:
        down = schemas.Component(ok=False, detail=str(error))
        return down, rollup or down
    return schemas.Component(ok=True), rollup


async def _rollup(services: Services, snapshot: Snapshot) -> schemas.Component:
    try:
        state = await state_in(snapshot, timeout=services.settings.connect_timeout_seconds)
    except ChatStatsError as error:
        return schemas.Component(ok=False, detail=str(error))
    except asyncpg.PostgresError as error:
        logger.warning("the state of the rollup cannot be read: %s: %s", type(error).__name__, error)
        return schemas.Component(ok=False, detail="its state cannot be read; the log has the error")
    if state.trouble == "uncounted":  # its reason quotes the database, and readiness is open to all
        return schemas.Component(
            ok=False, detail=f"{state.state}: writes could not be counted; chat-stats status says why"
        )
    return schemas.Component(ok=state.state != "damaged", detail=str(state))


async def _redis(services: Services) -> tuple[schemas.Component, schemas.LastRefresh | None]:
    try:
        async with _patience(services):
            last = await Publication(services.cache).last_generation()
    except Unavailable as error:
        return schemas.Component(ok=False, detail=str(error)), None
    except TimeoutError:
        return schemas.Component(ok=False, detail="Redis does not answer"), None
    if last is None:
        return schemas.Component(ok=True), None
    return schemas.Component(ok=True), schemas.LastRefresh(
        **last.figures(), age_seconds=round(last.age_seconds(services.clock.now()), 3)
    )


async def _worker(services: Services) -> schemas.Component:
    try:
        async with _patience(services):
            alive = await services.queue.worker_alive()
    except Unavailable as error:
        return schemas.Component(ok=False, detail=str(error))
    except TimeoutError:
        return schemas.Component(ok=False, detail="the queue's Redis does not answer")
    return schemas.Component(ok=alive, detail=None if alive else "no worker has reported lately")


def _patience(services: Services) -> asyncio.Timeout:
    """Limit the wait: an orchestrator often waits no longer than a second for readiness."""
    return asyncio.timeout(services.settings.redis_timeout_seconds)
