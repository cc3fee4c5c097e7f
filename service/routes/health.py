"""Liveness and readiness, at the root and open to all."""

from typing import Literal

from fastapi import APIRouter, Response

from chat_stats.service.catalogue import schemas
from chat_stats.service.health import NO_WORKER, DatabaseHealth, Health
from chat_stats.service.http.services import RequestServices

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
    readiness = _readiness(await services.health.look(), has_copies=services.stats.local_entries() > 0)
    if readiness.status == "unavailable":
        response.status_code = 503
    return readiness


def _readiness(found: Health, *, has_copies: bool) -> schemas.Readiness:
    redis = schemas.Component(ok=found.cache.trouble is None, detail=found.cache.trouble)
    postgres = schemas.Component(ok=found.database.trouble is None, detail=found.database.trouble)
    rollup = _rollup(found.database)
    worker = _worker(found)
    standbys = [
        schemas.Standby(ok=each.trouble is None, detail=each.trouble, lag_seconds=each.lag_seconds)
        for each in found.standbys
    ]
    last = None
    if found.cache.last is not None and found.cache.age_seconds is not None:
        age_seconds = round(found.cache.age_seconds, 3)
        last = schemas.LastRefresh(**found.cache.last.figures(), age_seconds=age_seconds)
    status: Literal["ready", "degraded", "unavailable"] = "degraded"
    if not postgres.ok and last is None and not has_copies:
        status = "unavailable"
    elif all(part.ok for part in (postgres, redis, worker, rollup, *standbys)):
        status = "ready"
    return schemas.Readiness(
        status=status,
        redis=redis,
        postgres=postgres,
        worker=worker,
        rollup=rollup,
        standbys=standbys,
        last_refresh=last,
    )


def _rollup(found: DatabaseHealth) -> schemas.Component:
    if found.rollup is None:
        return schemas.Component(ok=False, detail=found.rollup_trouble or found.trouble)
    if found.rollup.trouble == "uncounted":  # its reason quotes the database, and readiness is open to all
        return schemas.Component(
            ok=False, detail=f"{found.rollup.state}: writes could not be counted; chat-stats status says why"
        )
    if found.foreign_lock is not None:
        return schemas.Component(ok=False, detail=f"{found.rollup}; {found.foreign_lock}")
    return schemas.Component(ok=found.rollup.state != "damaged", detail=str(found.rollup))


def _worker(found: Health) -> schemas.Component:
    if found.queue.trouble is not None:
        return schemas.Component(ok=False, detail=found.queue.trouble)
    if not found.queue.worker_alive:
        return schemas.Component(ok=False, detail=NO_WORKER)
    if found.late:
        return schemas.Component(ok=False, detail="it runs, but its last refresh is too long ago")
    return schemas.Component(ok=True)
