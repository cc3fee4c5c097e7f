"""GET /events: Server-Sent Events, one for each generation that is published, by a refresh or between two."""

from fastapi import APIRouter, Depends, Request, Response

from chat_stats.service.catalogue import schemas
from chat_stats.service.http.services import RequestServices
from chat_stats.service.routes import parameters
from chat_stats.service.routes.guards import REFUSALS, check_read_key, count_request

PATH = "/events"
SUMMARY = "Server-Sent Events: one for each generation that is published, until the client leaves."

_EXAMPLE = (
    "retry: 3000\n\n"
    "id: 20260104T120000.000000Z-3f9a1c\n"
    "event: generation\n"
    'data: {"generation":"20260104T120000.000000Z-3f9a1c","computed_at":"2026-01-04T12:00:00Z"}\n\n'
    "id: 20260104T120001.000000Z-8d20e7\n"
    "event: totals\n"
    'data: {"generation":"20260104T120001.000000Z-8d20e7","computed_at":"2026-01-04T12:00:01Z",'
    '"windows":["24h"]}\n\n'
)

router = APIRouter(
    tags=["events"],
    dependencies=[Depends(check_read_key), Depends(count_request), Depends(parameters.check)],
)


@router.head(PATH, name="events", include_in_schema=False)
@router.get(
    PATH,
    name="events",
    operation_id="get_events",
    summary=SUMMARY,
    response_class=Response,
    responses={
        200: {
            "description": SUMMARY,
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **REFUSALS,
        503: schemas.problem("Too many clients listen already; see Retry-After."),
    },
)
async def listen(request: Request, services: RequestServices) -> Response:
    """A client that names the last generation it has seen, in the header `Last-Event-ID`, gets the current
    one at once if it is another; so does one that names none. Comments come every 15 seconds."""
    return services.event_streams.start(request.headers.get("last-event-id"))
