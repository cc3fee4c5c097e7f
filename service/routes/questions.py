"""Questions by any dimension, and the dimensions that there are."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from chat_stats.service.catalogue.aggregation import Query
from chat_stats.service.catalogue.question_parameters import parse_question, parse_values
from chat_stats.service.catalogue.question_schemas import dimensions_answer, query_answer
from chat_stats.service.catalogue.scopes import query_within
from chat_stats.service.catalogue.timeseries import check_bounds
from chat_stats.service.explorer.exports import FORMATS, JSON, choose_format
from chat_stats.service.explorer.question_rows import download
from chat_stats.service.http.access_log import ANSWER
from chat_stats.service.http.rate_limit import Work
from chat_stats.service.http.services import RequestServices, Services
from chat_stats.service.routes import question_document as document
from chat_stats.service.routes.guards import check_read_key, count_request, scope_of
from chat_stats.service.routes.read_route import add_read_route
from chat_stats.service.routes.stats import RESPONSES, respond
from chat_stats.service.settings import Settings

QUERY_PATH = "/chat-requests/query"
DIMENSIONS_PATH = "/chat-requests/dimensions"


async def ask(request: Request, services: RequestServices) -> Response:
    items = request.query_params.multi_items()
    format_ = choose_format(request.query_params.get("format"), None)
    query = parse_question(items, services.settings.known_dimensions, scope_of(request))
    question = query.question
    assert question is not None
    if question.series is not None:
        now = question.as_of or services.clock.now()
        start, end = query.range.bounds(now)
        if start is not None:  # else the first request in the database is the start
            check_bounds(question.series, start, end or now)
    if format_ is JSON:
        return await respond(request, services, query)
    return await _download(request, services, query, format_.name)


async def list_dimensions(request: Request, services: RequestServices) -> Response:
    items = request.query_params.multi_items()
    query = parse_values(items, services.settings.known_dimensions, scope_of(request))
    return await respond(request, services, query)


async def _download(request: Request, services: Services, query: Query, name: str) -> Response:
    scope, format_ = request.scope, FORMATS[name]
    query = query_within(query, scope_of(request))
    answer = await services.stats.read(query, admit=lambda: services.rate_limiter.spend(Work.MISSES, scope))
    scope[ANSWER] = (answer.state, answer.entry.method)
    assert query.question is not None
    body = await download(answer.entry, query.question, format_)
    response = Response(b"" if request.method == "HEAD" else body, media_type=format_.content_type)
    response.headers["Content-Disposition"] = f'attachment; filename="chat-requests-query.{name}"'
    response.headers["Content-Length"] = str(len(body))
    shared = {b"age", b"cache-control", b"cache-status", b"vary"}
    rendered = await services.envelope.respond((), query.range, answer)
    for header, value in rendered.headers:
        if header in shared:
            response.raw_headers.append((header, value))
    return response


def create_router(settings: Settings) -> APIRouter:
    # What is known and what is given twice, `parse_question` checks: here parameters may have any name.
    router = APIRouter(tags=["statistics"], dependencies=[Depends(check_read_key), Depends(count_request)])
    known = settings.known_dimensions
    routes: tuple[tuple[str, str, Any, Any, list[dict[str, Any]], str], ...] = (
        (
            "query",
            QUERY_PATH,
            ask,
            query_answer(known),
            document.query_parameters(known),
            "Any measures by any dimensions: the first groups, the others together, and the total.",
        ),
        (
            "dimensions",
            DIMENSIONS_PATH,
            list_dimensions,
            dimensions_answer(),
            document.value_parameters(known),
            "The dimensions that there are; with `name`, the values of one, most requests first.",
        ),
    )
    for name, path, endpoint, answer, given, purpose in routes:
        add_read_route(
            router,
            path,
            endpoint,
            name=name,
            operation_id=f"get_{name}",
            summary=purpose,
            responses={
                200: {"model": answer, "description": purpose, "content": _CONTENT[name]},
                **RESPONSES,
            },
            openapi_extra={"parameters": given},
        )
    return router


_DOWNLOADS: dict[str, Any] = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}}
    for format_ in FORMATS.values()
    if format_ is not JSON
}
_CONTENT: dict[str, dict[str, Any]] = {
    "query": {JSON.media_type: {}, **_DOWNLOADS},
    "dimensions": {JSON.media_type: {}},
}
