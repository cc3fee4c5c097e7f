"""Single requests: pages and downloads of them, and points for plots."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue import schemas
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.scopes import within
from chat_stats.service.explorer.download import DownloadResponse, unless_disconnected
from chat_stats.service.explorer.explorer import LARGE_PAGE, etag
from chat_stats.service.explorer.exports import FORMATS, JSON, Format, choose_format
from chat_stats.service.explorer.plot import DEFAULT_POINTS, MAX_POINTS, MIN_POINTS
from chat_stats.service.explorer.query import (
    DEFAULT_LIMIT,
    FLAT_FIELDS,
    MAX_LIMIT,
    MAX_OFFSET,
    NESTED,
    NEWEST_FIRST,
    SORTABLE,
    Filters,
    RequestQuery,
    check_start,
    parse_cursor,
    parse_filters,
    parse_number,
    parse_order,
)
from chat_stats.service.explorer.schemas import PlotAnswer, RequestsAnswer
from chat_stats.service.http.envelope import cache_status
from chat_stats.service.http.named_enums import orders
from chat_stats.service.http.negotiation import header_value, matches_etag
from chat_stats.service.http.services import RequestServices, Services
from chat_stats.service.routes import parameters
from chat_stats.service.routes import question_document as document
from chat_stats.service.routes.guards import (
    REFUSALS,
    check_read_key,
    count_request,
    count_rows,
    scope_of,
)
from chat_stats.service.routes.read_route import add_read_route
from chat_stats.service.routes.stats import Range, Where
from chat_stats.service.settings import Settings


def filters(
    request: Request,
    time_range: Range,
    where: Where,
    model_name: parameters.ModelName = None,
) -> Filters:
    found = parse_filters(time_range, where, model_name=model_name)
    return replace(found, where=within(found.where, scope_of(request)))


Chosen = Annotated[Filters, Depends(filters)]


async def list_requests(
    request: Request,
    services: RequestServices,
    chosen: Chosen,
    limit: Annotated[
        str | None,
        parameters.whole_number(1, MAX_LIMIT),
        Query(description=f"Most rows to return; {DEFAULT_LIMIT} when not given."),
    ] = None,
    offset: Annotated[
        str | None,
        parameters.whole_number(0, MAX_OFFSET),
        Query(description="Rows to skip; a cursor is quicker on deep pages."),
    ] = None,
    cursor: Annotated[
        str | None,
        parameters.CURSOR,
        Query(
            description="`next_cursor` of the page before, with the same filters. Any page then takes as "
            "long as the first. Not together with `offset`."
        ),
    ] = None,
    order_by: Annotated[
        str | None,
        parameters.one_of(orders(SORTABLE)),
        Query(
            description=f"Column by which the requests are sorted, with a minus sign for the largest first; "
            f"`{NEWEST_FIRST}` when not given. Requests without a value come last. Columns other than the "
            "time need an index that begins with them: without one the answer is a 422 that names it."
        ),
    ] = None,
    fields: Annotated[
        str | None,
        parameters.FIELDS,
        Query(
            description=f"Columns, comma-separated: {', '.join(FLAT_FIELDS)}; in JSON and NDJSON also "
            f"`{NESTED}`, the nested model and provider; and the further columns that the service is set to "
            "show.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        parameters.one_of(FORMATS),
        Query(description="Format of the answer, whatever Accept says."),
    ] = None,
) -> Response:
    accept = header_value(request.scope["headers"], b"accept").decode("latin-1")
    format_ = choose_format(format, accept or None)
    check_start(cursor, offset)
    order = parse_order(order_by)
    query = RequestQuery(
        chosen,
        parse_number("limit", limit, default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT),
        parse_number("offset", offset, default=0, least=0, most=MAX_OFFSET),
        None if cursor is None else parse_cursor(cursor, chosen, order),
        order,
    )
    columns = await services.explorer.columns()
    names = columns.parse_fields(fields, nested=format_.nested)
    pieces = services.explorer.page(query, columns, names, format_)
    if format_ is JSON and query.limit <= LARGE_PAGE:
        body = await unless_disconnected(request.receive, _joined(pieces))
        return _GONE if body is None else _small_page(request, services, body)
    return await _download(request, services, pieces, format_)


#: The client has disconnected.
_GONE = Response(status_code=499)


async def _download(
    request: Request, services: Services, pieces: AsyncIterator[bytes], format_: Format
) -> Response:
    name = f"chat-requests-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{format_.name}"
    headers = {
        **_headers(services.settings, CacheState.BYPASS),
        **({} if format_ is JSON else {"Content-Disposition": f'attachment; filename="{name}"'}),
    }
    if request.method == "HEAD":  # nothing is read to find out how long it would be
        response = Response(media_type=format_.content_type, headers=headers)
        del response.headers["content-length"]
        return response
    download = services.downloads.start(pieces)
    begun = False
    try:
        begun = await unless_disconnected(request.receive, download.started()) or False
    finally:
        if not begun:
            await download.close()
    if not begun:
        return _GONE
    return DownloadResponse(
        download,
        content_type=format_.content_type,
        headers=headers,
        seconds=services.settings.download_seconds,
    )


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def _small_page(request: Request, services: Services, body: bytes) -> Response:
    # This cannot occur within the rows, where quotation marks are escaped.
    data, _, metadata = body.rpartition(b'],"metadata":')
    total = str(orjson.loads(metadata[:-1])["total_count"]).encode()
    return _answer(request, body, etag(data, total), _headers(services.settings, CacheState.BYPASS))


async def plot_data(
    request: Request,
    services: RequestServices,
    chosen: Chosen,
    points: Annotated[
        str | None,
        parameters.whole_number(MIN_POINTS, MAX_POINTS),
        Query(description=f"Most points to return; {DEFAULT_POINTS:,} when not given."),
    ] = None,
) -> Response:
    most = parse_number("points", points, default=DEFAULT_POINTS, least=MIN_POINTS, most=MAX_POINTS)
    plot, state = await services.explorer.plot(chosen, most)
    headers = _headers(services.settings, state, age=plot.age_seconds(), seconds_left=plot.seconds_left())
    return _answer(request, plot.render(state, services.clock.now()), plot.etag, headers)


def _headers(settings: Settings, state: CacheState, *, age: int = 0, seconds_left: int = 0) -> dict[str, str]:
    visibility = "private" if settings.needs_key else "public"
    # Caches subtract the age.
    cached = f"max-age={age + seconds_left}" if seconds_left > 0 else "no-cache"
    return {
        "Age": str(age),
        "Cache-Control": f"{visibility}, {cached}",
        "Cache-Status": cache_status(state, seconds_left).decode(),
        "Vary": "Accept, Authorization, X-API-Key, Origin",
    }


def _answer(request: Request, body: bytes, tag: str, headers: dict[str, str]) -> Response:
    headers = {"ETag": tag, **headers}
    if matches_etag(header_value(request.scope["headers"], b"if-none-match"), tag.encode()):
        return Response(status_code=304, headers=headers)
    response = Response(body, media_type="application/json", headers=headers)
    if request.method == "HEAD":
        response.body = b""
    return response


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    503: schemas.problem("The database does not answer, or is busy; see Retry-After."),
}
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The rows are still those of the ETag in If-None-Match."}
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORMATS: dict[str, dict[str, Any]] = {
    "application/json": {},  # its schema is the model's
    "text/csv": {
        "schema": {"type": "string"},
        "example": "id,model_name,total_tokens\r\n4711,GPT-4o mini,1340\r\n",
    },
    "application/x-ndjson": {
        "schema": {"type": "string"},
        "example": '{"id":4711,"model_name":"GPT-4o mini","total_tokens":1340}\n',
    },
    "application/vnd.apache.parquet": _BINARY,
}


def document_columns(document: dict[str, Any], request_columns: Sequence[str] | None) -> dict[str, Any]:
    """Say in the OpenAPI document which columns may be chosen."""
    for path in document["paths"].values():
        for parameter in path.get("get", {}).get("parameters", ()):
            if parameter["name"] == "fields":
                parameter["schema"] |= parameters.fields(request_columns)
    return document


def create_router(settings: Settings) -> APIRouter:
    filters_given = {"parameters": document.filters(settings.known_dimensions)}
    router = APIRouter(
        tags=["requests"],
        dependencies=[
            Depends(check_read_key),
            Depends(count_request),
            Depends(count_rows),
            Depends(parameters.check),
        ],
    )
    add_read_route(
        router,
        "/chat-requests",
        list_requests,
        name="requests",
        operation_id="list_requests",
        summary="Single requests, newest first; as JSON, or as a download in other formats.",
        description=f"Only requests whose model and provider exist, or with `model_id={UNRESOLVED}` the "
        "others; those without a time come last. Up to 100,000 rows, streamed. An answer that breaks off "
        "ends without the end that HTTP asks for. Rows have further columns where the gateway's table has "
        "them and the service is set to show them.",
        responses={
            200: {"model": RequestsAnswer, "description": "A page of requests.", "content": _FORMATS},
            406: schemas.problem("Accept allows none of the formats."),
            **_NOT_MODIFIED,
            **_PROBLEMS,
        },
        openapi_extra=filters_given,
    )
    add_read_route(
        router,
        "/chat-requests/plot-data",
        plot_data,
        name="plot_data",
        operation_id="get_plot_data",
        summary="Points for scatter plots, and the last 10 requests.",
        description="At most `points` requests stand for all: the first ones of slots of time, narrower "
        "where more happened. `metadata.sampling` says whether they are all of them.",
        responses={
            200: {"model": PlotAnswer, "description": "Points, oldest first."},
            **_NOT_MODIFIED,
            **_PROBLEMS,
        },
        openapi_extra=filters_given,
    )
    return router
