"""For Prometheus, at the root.

/metrics is open to all, like /health; /metrics/usage needs a key where the statistics do: it shows the same.
"""

import asyncio

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from chat_stats.service.catalogue import schemas
from chat_stats.service.errors import NotFound, NotPermitted
from chat_stats.service.health import CacheHealth, DatabaseHealth, Health
from chat_stats.service.http.services import RequestServices
from chat_stats.service.observability import metrics
from chat_stats.service.observability.exposition import expose, expose_usage
from chat_stats.service.observability.metrics import Labels, Metric
from chat_stats.service.rollup.state import STATES, TROUBLES
from chat_stats.service.routes.guards import REFUSALS, check_read_key, scope_of
from chat_stats.service.settings import Settings

#: Values of gauges by metric and labels.
Gauges = dict[str, dict[Labels, float]]

router = APIRouter(tags=["health"])


@router.head("/metrics", name="metrics", include_in_schema=False)
@router.get(
    "/metrics",
    name="metrics",
    operation_id="metrics",
    summary="What was counted and measured, for Prometheus.",
    response_class=PlainTextResponse,
)
async def show(request: Request, services: RequestServices) -> Response:
    """Text of Prometheus, or OpenMetrics where it is asked for. Several processes of one service add up."""
    gauges = _gauges(await services.health.look_in_detail(), services.settings)
    shared = services.shared_counts
    counts = metrics.counts() if shared is None else shared.total()
    accept = request.headers.get("accept", "")
    # In a thread: it takes some milliseconds.
    text, content_type = await asyncio.to_thread(
        expose, counts, gauges, accept=accept, process=shared is None
    )
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


@router.head(
    "/metrics/usage",
    name="usage_metrics",
    include_in_schema=False,
    dependencies=[Depends(check_read_key)],
)
@router.get(
    "/metrics/usage",
    name="usage_metrics",
    operation_id="usage_metrics",
    summary="The gateway's own traffic, for Prometheus: what is cached, without a query.",
    response_class=PlainTextResponse,
    dependencies=[Depends(check_read_key)],
    responses={
        401: REFUSALS[401],
        403: schemas.problem("A scoped key: these are figures of all requests."),
        404: schemas.problem("It is off: CHAT_STATS_USAGE_METRICS is not set."),
        503: schemas.problem("The worker has computed nothing of it yet; see Retry-After."),
    },
)
async def show_usage(request: Request, services: RequestServices) -> Response:
    """Totals over all time, and percentiles of the last hour, as of the last refresh."""
    if not services.settings.usage_questions:
        raise NotFound("it is off: CHAT_STATS_USAGE_METRICS is not set")
    if scope_of(request):
        raise NotPermitted("/metrics/usage is of all requests, and this key has a scope")
    counts, gauges = await services.usage.collect()
    text, content_type = expose_usage(counts, gauges, accept=request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def _gauges(found: Health, settings: Settings) -> Gauges:
    """Return what was found as gauges; what is not known is left out."""
    gauges: Gauges = {}
    _put(gauges, metrics.REFRESH_INTERVAL, settings.refresh_interval_seconds)
    _put(gauges, metrics.FRESH, settings.fresh_seconds)
    _put(gauges, metrics.REDIS_UP, found.cache.trouble is None)
    _put(gauges, metrics.POSTGRES_UP, found.database.reachable)
    _put(gauges, metrics.QUEUE_UP, found.queue.trouble is None)
    _put(gauges, metrics.WORKER_UP, found.queue.worker_alive)
    _put(gauges, metrics.QUEUE_JOBS, found.queue.jobs)
    for number, standby in enumerate(found.standbys, 1):  # without its host: /metrics is open to all
        _put(gauges, metrics.STANDBY_UP, standby.trouble is None, str(number))
        _put(gauges, metrics.STANDBY_LAG, standby.lag_seconds, str(number))
    _put_cache(gauges, found.cache)
    _put_rollup(gauges, found.database)
    return gauges


def _put_cache(gauges: Gauges, found: CacheHealth) -> None:
    if found.last is not None:
        _put(gauges, metrics.GENERATION_AGE, found.age_seconds)
        _put(gauges, metrics.GENERATION_DURATION, found.last.duration_ms / 1000)
        _put(gauges, metrics.GENERATION_ENTRIES, found.last.entries)
        _put(gauges, metrics.GENERATION_FAILURES, found.last.failed)
    for query, (age_seconds, header) in found.entries.items():
        labels = (query.aggregation, str(query.range.window))
        _put(gauges, metrics.ENTRY_AGE, age_seconds, *labels)
        _put(gauges, metrics.ENTRY_METHOD, 1, *labels, header.method)


def _put_rollup(gauges: Gauges, found: DatabaseHealth) -> None:
    if found.rollup is not None:
        for state in STATES:
            _put(gauges, metrics.ROLLUP_STATE, state == found.rollup.state, state)
        for trouble in TROUBLES:
            _put(gauges, metrics.ROLLUP_TROUBLE, trouble == found.rollup.trouble, trouble)
    if found.figures is not None:
        _put(gauges, metrics.ROLLUP_DRIFT, found.figures.drift)
        _put(gauges, metrics.ROLLUP_DELTAS, found.figures.unfolded_deltas)
        _put(gauges, metrics.ROLLUP_BYTES, found.figures.rollup_bytes)
        _put(gauges, metrics.ROLLUP_FOLD_AGE, found.figures.fold_age_seconds)
        _put(gauges, metrics.ROLLUP_AUDIT_AGE, found.figures.audit_age_seconds)


def _put(gauges: Gauges, metric: Metric, value: float | None, *labels: str) -> None:
    if value is not None:
        gauges.setdefault(metric.name, {})[labels] = float(value)
