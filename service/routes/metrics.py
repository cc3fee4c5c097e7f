"""GET /metrics, for Prometheus: at the root and open to all, like /health."""

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from chat_stats.service.http.services import RequestServices
from chat_stats.service.observability import metrics
from chat_stats.service.observability.exposition import expose

router = APIRouter(tags=["health"])


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    name="metrics",
    operation_id="metrics",
    summary="What was counted and measured, for Prometheus.",
    response_class=PlainTextResponse,
)
async def show(request: Request, services: RequestServices) -> Response:
    """Text of Prometheus, or OpenMetrics where it is asked for. Several processes of one service add up."""
    seen = await services.vitals.look()
    shared = services.shared_counts
    counts = metrics.counts() if shared is None else shared.total()
    accept = request.headers.get("accept", "")
    # In a thread: it takes some milliseconds.
    text, content_type = await asyncio.to_thread(expose, counts, seen, accept=accept, process=shared is None)
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
