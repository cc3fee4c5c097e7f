"""Liveness and readiness, at the root and open to all."""

import asyncio
import time

from fastapi import APIRouter, Request, Response

from service.cache.publication import Publication
from service.catalogue import schemas
from service.errors import ChatStatsError, Unavailable
from service.settings import Settings

#: Seconds for which one look at everything answers all who ask.
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
async def ready(request: Request, response: Response) -> schemas.Readiness:
    """Ready or degraded: 200. 503 when neither cache nor database can answer, and nothing is in memory."""
    readiness = await _shared(request)
    if readiness.status == "unavailable":
        response.status_code = 503
    return readiness


async def _shared(request: Request) -> schemas.Readiness:
    """Look once a second at most, and once for all who ask meanwhile: each look is a transaction."""
    state = request.app.state
    look: asyncio.Task[schemas.Readiness] | None = getattr(state, "readiness", None)
    if look is None or (look.done() and time.monotonic() - state.looked_at >= LOOK_SECONDS):
        state.looked_at = time.monotonic()
        look = state.readiness = asyncio.create_task(_look(request))
    return await asyncio.shield(look)


async def _look(request: Request) -> schemas.Readiness:
    state = request.app.state
    settings: Settings = state.settings
    postgres, (redis, last), worker = await asyncio.gather(
        _postgres(request), _redis(request), _worker(request)
    )
    late = last is None or last.age_seconds > settings.late_seconds
    if worker.ok and late:
        worker = schemas.Component(ok=False, detail="it runs, but its last refresh is too long ago")
    if not postgres.ok and last is None and not state.stats.local_entries():
        status = "unavailable"
    elif postgres.ok and redis.ok and worker.ok:
        status = "ready"
    else:
        status = "degraded"
    return schemas.Readiness(status=status, redis=redis, postgres=postgres, worker=worker, last_refresh=last)


async def _postgres(request: Request) -> schemas.Component:
    try:
        await request.app.state.database.check()
    except ChatStatsError as error:
        return schemas.Component(ok=False, detail=str(error))
    return schemas.Component(ok=True)


async def _redis(request: Request) -> tuple[schemas.Component, schemas.LastRefresh | None]:
    try:
        async with _patience(request):
            last = await Publication(request.app.state.cache).last_generation()
    except Unavailable as error:
        return schemas.Component(ok=False, detail=str(error)), None
    except TimeoutError:
        return schemas.Component(ok=False, detail="Redis does not answer"), None
    if last is None:
        return schemas.Component(ok=True), None
    return schemas.Component(ok=True), schemas.LastRefresh(
        **last.figures(), age_seconds=round(last.age_seconds(request.app.state.clock.now()), 3)
    )


async def _worker(request: Request) -> schemas.Component:
    try:
        async with _patience(request):
            alive = await request.app.state.queue.worker_alive()
    except Unavailable as error:
        return schemas.Component(ok=False, detail=str(error))
    except TimeoutError:
        return schemas.Component(ok=False, detail="the queue's Redis does not answer")
    return schemas.Component(ok=alive, detail=None if alive else "no worker has reported lately")


def _patience(request: Request) -> asyncio.Timeout:
    """Whoever asks for readiness, such as an orchestrator, often waits for a second only."""
    settings: Settings = request.app.state.settings
    return asyncio.timeout(settings.redis_timeout_seconds)
