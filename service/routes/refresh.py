"""POST /refresh: asks the worker for a refresh."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from chat_stats.service.catalogue import schemas
from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.catalogue.timerange import WINDOWS, parse_window
from chat_stats.service.errors import InvalidParameter, RefreshRunning, Unavailable
from chat_stats.service.http.services import RequestServices
from chat_stats.service.routes import parameters
from chat_stats.service.routes.guards import check_admin_token

#: Longest time in seconds that `wait=true` holds a request.
WAIT_SECONDS = 60.0


async def refresh(
    services: RequestServices,
    response: Response,
    aggregation: Annotated[
        list[str],
        Query(
            description="Only these aggregations; all when none is given.",
            json_schema_extra={"items": {"type": "string", "enum": list(AGGREGATIONS)}},
        ),
    ] = [],  # noqa: B006  FastAPI copies it for each request
    window: Annotated[
        list[str],
        Query(
            description="Only these windows; the configured ones when none is given.",
            json_schema_extra={"items": {"type": "string", "enum": list(WINDOWS)}},
        ),
    ] = [],  # noqa: B006
    wait: Annotated[bool, Query(description="Answer when the refresh is done.")] = False,
) -> schemas.RefreshAnswer:
    for name in aggregation:
        if name not in AGGREGATIONS:
            raise InvalidParameter(
                "aggregation", f"unknown aggregation {name[:40]!r}; known: {', '.join(AGGREGATIONS)}"
            )
    windows = [parse_window(text) for text in window]
    if wait and not await services.queue.worker_alive():
        raise Unavailable("no worker has reported lately; without wait=true the refresh would be queued")
    job_id = await services.queue.enqueue_refresh(aggregation, windows)
    if not wait:
        return schemas.RefreshAnswer(success=True, data=schemas.RefreshJob(job_id=job_id, status="queued"))
    try:
        report = await services.queue.result(job_id, timeout=WAIT_SECONDS)
    except TimeoutError:
        raise RefreshRunning(
            f"the refresh was queued as {job_id} but is not done after {WAIT_SECONDS:.0f} s; "
            "is a worker running?"
        ) from None
    if "error" in report:
        raise Unavailable(f"the refresh failed: {report['error']}")
    response.status_code = 200
    return schemas.RefreshAnswer(
        success=True, data=schemas.RefreshJob(job_id=job_id, status="complete", report=report)
    )


def create_router() -> APIRouter:
    router = APIRouter(
        tags=["administration"], dependencies=[Depends(check_admin_token), Depends(parameters.check)]
    )
    router.add_api_route(
        "/refresh",
        refresh,
        methods=["POST"],
        operation_id="refresh",
        summary="Ask the worker to recompute the statistics.",
        status_code=202,
        response_model=schemas.RefreshAnswer,
        responses={
            200: {"model": schemas.RefreshAnswer, "description": "Done (with wait=true)."},
            401: schemas.problem("No token, or a wrong one."),
            404: schemas.problem("Refreshing over HTTP is off."),
            422: schemas.problem("A parameter is wrong; `parameter` names it."),
            503: schemas.problem("The queue cannot be reached, or no worker answered in time."),
        },
    )
    return router
