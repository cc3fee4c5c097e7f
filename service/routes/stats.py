"""The statistics: one GET route for each aggregation of the catalogue."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from chat_stats.service.catalogue import aggregations, schemas
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Aggregation
from chat_stats.service.catalogue.dimensions import MODEL_ID, Dimensions
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.row_pages import check_cursor
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.scopes import query_within
from chat_stats.service.catalogue.timerange import WINDOWS, TimeRange, parse_time_range
from chat_stats.service.catalogue.timeseries import (
    BUCKETS,
    DEFAULT_SERIES,
    MAX_BUCKETS,
    MAX_POINTS,
    Series,
    check_bounds,
    groupings,
    parse_series,
)
from chat_stats.service.explorer.query import MAX_LIMIT, parse_number, parse_text
from chat_stats.service.http.access_log import ANSWER
from chat_stats.service.http.fast_path import FAILURE
from chat_stats.service.http.named_enums import orders
from chat_stats.service.http.rate_limit import Work
from chat_stats.service.http.services import RequestServices, Services
from chat_stats.service.routes import parameters
from chat_stats.service.routes import question_document as document
from chat_stats.service.routes.guards import REFUSALS, check_read_key, count_request, reader_of
from chat_stats.service.routes.read_route import add_read_route
from chat_stats.service.settings import Settings

RESPONSES: dict[int | str, dict[str, Any]] = {
    304: {"description": "The numbers are still those of the ETag in If-None-Match."},
    **REFUSALS,
    503: schemas.problem("Nothing is cached and nothing can be computed; see Retry-After."),
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: schemas.problem("There is no such model.")}


# Coroutines, though they wait for nothing: FastAPI runs plain functions in threads, at ten times their cost.
async def time_range(
    window: Annotated[
        str | None,
        parameters.one_of(WINDOWS),
        Query(
            description="Preset window that ends now; `all` when nothing is given. Not together with dates."
        ),
    ] = None,
    start_date: Annotated[
        str | None,
        parameters.MOMENT,
        Query(
            description="Start of the range, ISO 8601 date or datetime; without an offset it means UTC.",
        ),
    ] = None,
    end_date: Annotated[
        str | None,
        parameters.MOMENT,
        Query(
            description="End of the range, exclusive; but a date alone includes that day.",
        ),
    ] = None,
) -> TimeRange:
    return parse_time_range(window, start_date, end_date)


Range = Annotated[TimeRange, Depends(time_range)]


def _series(known: Dimensions) -> Callable[..., Awaitable[Series]]:
    async def series(
        bucket: Annotated[
            str | None,
            parameters.one_of(BUCKETS),
            Query(
                description=f"Length of the intervals; {DEFAULT_SERIES.bucket} when not given. Those from a "
                "day up follow the calendar of the time zone, weeks begin on Monday. "
                f"At most {MAX_BUCKETS:,} in one answer.",
            ),
        ] = None,
        group_by: Annotated[
            str | None,
            parameters.one_of(groupings(known)),
            Query(
                description="A series for each provider, model or value of another dimension, those with "
                f"most requests first; at most {MAX_POINTS:,} points in all. One series when not given.",
            ),
        ] = None,
        timezone: Annotated[
            str | None,
            parameters.TIMEZONE,
            Query(
                description="Name of an IANA time zone; UTC when not given.",
            ),
        ] = None,
    ) -> Series:
        return parse_series(bucket, group_by, timezone, known)

    return series


#: Parts of a query.
_Parts = dict[str, Any]


Where = Annotated[tuple[Filter, ...], Depends(parameters.by_dimension)]


async def _filters(
    where: Where,
    model_name: parameters.ModelName = None,
) -> _Parts:
    return {"model_name": parse_text("model_name", model_name) or None, **_parts(where)}


def _parts(where: tuple[Filter, ...]) -> _Parts:
    """Return filters as parts of a query: one provider and one model as what all answers can be cut by."""
    parts: _Parts = {}
    for filter_ in where:
        name, [value, *more] = filter_.dimension.name, filter_.values
        if (
            more
            or filter_.negated
            or not filter_.dimension.is_id
            or (value is None and name != MODEL_ID.name)
        ):
            continue
        parts[name] = UNRESOLVED if value is None else value
    rest = tuple(each for each in where if each.negated or each.dimension.name not in parts)
    return {**parts, "where": rest}


def _order(aggregation: Aggregation) -> Callable[..., Awaitable[_Parts]]:
    fields = aggregation.sortable

    async def order(
        order_by: Annotated[
            str | None,
            parameters.one_of(orders(fields)),
            Query(
                description="Field by which the rows are sorted, with a minus sign for the largest first. "
                "Equal ones, and all when it is not given: most requests first, then by id."
            ),
        ] = None,
        limit: Annotated[
            str | None,
            parameters.whole_number(1, MAX_LIMIT),
            Query(description="Most rows to return; all when not given. The metadata are about all."),
        ] = None,
        cursor: Annotated[
            str | None,
            parameters.CURSOR,
            Query(description="`next_cursor` of the rows before, with the same filters and order."),
        ] = None,
    ) -> _Parts:
        if order_by is not None:
            aggregations.parse_order_by(aggregation, order_by)
        return {
            "order_by": order_by,
            "cursor": cursor,
            "limit": parse_number("limit", limit, default=None, least=1, most=MAX_LIMIT),
        }

    return order


async def _nothing() -> _Parts:
    return {}


async def respond(request: Request, services: Services, query: aggregations.Query) -> Response:
    scope = request.scope
    if (failure := scope.get(FAILURE)) is not None:  # the fast path has tried already
        raise failure
    reader = reader_of(request)
    query = query_within(query, reader.scope)
    if query.cursor is not None:
        order = aggregations.AGGREGATIONS[query.aggregation].order_of(query)
        check_cursor(query.cursor, order, query.filters_digest)
    if parameters.CACHE_BUSTER not in request.query_params:  # such a target comes once
        services.fast_path.learn(scope, reader, query)
    answer = await services.stats.read(query, admit=lambda: services.rate_limiter.spend(Work.MISSES, scope))
    scope[ANSWER] = (answer.state, answer.entry.method)
    rendered = await services.envelope.respond(scope["headers"], query.range, answer)
    response = Response(b"" if request.method == "HEAD" else rendered.body, rendered.status)
    response.raw_headers = rendered.headers
    return response


def _all_rows(aggregation: Aggregation, *, by_dimension: bool) -> Callable[..., Awaitable[Response]]:
    name = aggregation.name
    filters = _filters if by_dimension else _nothing
    order = _order(aggregation) if aggregation.sortable else _nothing

    async def all_rows(
        request: Request,
        services: RequestServices,
        time_range: Range,
        filters: Annotated[_Parts, Depends(filters)],
        order: Annotated[_Parts, Depends(order)],
    ) -> Response:
        return await respond(request, services, aggregations.Query(name, time_range, **filters, **order))

    return all_rows


def _one_model(aggregation: Aggregation) -> Callable[..., Awaitable[Response]]:
    name = aggregation.name

    async def one_model(
        request: Request,
        services: RequestServices,
        time_range: Range,
        model_id: Annotated[
            str, parameters.ID, Path(description="The model's id: a whole number or a UUID.")
        ],
        where: Where,
    ) -> Response:
        model_id = aggregations.parse_id("model_id", model_id)
        query = aggregations.Query(name, time_range, model_id=model_id, where=where)
        return await respond(request, services, query)

    return one_model


def _time_series(aggregation: Aggregation, known: Dimensions) -> Callable[..., Awaitable[Response]]:
    name = aggregation.name
    series = _series(known)

    async def time_series(
        request: Request,
        services: RequestServices,
        time_range: Range,
        filters: Annotated[_Parts, Depends(_filters)],
        series: Annotated[Series, Depends(series)],
    ) -> Response:
        now = services.clock.now()
        start, end = time_range.bounds(now)
        if start is not None:  # else the first request in the database is the start
            check_bounds(series, start, end or now)
        query = aggregations.Query(name, time_range, series=series, **filters)
        return await respond(request, services, query)

    return time_series


def _add_route(router: APIRouter, aggregation: Aggregation, known: Dimensions) -> None:
    name = aggregation.name
    # What is not made from usage per model has a function of its own, which knows no filters.
    by_dimension = aggregation.is_series or aggregation.from_usage is not None
    if aggregation.is_series:
        endpoint = _time_series(aggregation, known)
    elif aggregation.narrowed_by == "model_id":
        endpoint = _one_model(aggregation)
    else:
        endpoint = _all_rows(aggregation, by_dimension=by_dimension)
    # One that is in the path, too, would be two arguments of one name to generated clients.
    filters_given = [
        each for each in document.filters(known) if f"{{{each['name']}}}" not in aggregation.path
    ]
    add_read_route(
        router,
        aggregation.path,
        endpoint,
        name=name,
        operation_id=f"get_{name}",
        summary=aggregation.purpose,
        responses={
            200: {"model": aggregation.answer, "description": aggregation.purpose},
            **(_NOT_FOUND if aggregation.narrowed_by == "model_id" else {}),
            **RESPONSES,
        },
        openapi_extra={"parameters": filters_given} if by_dimension else None,
    )


def create_router(settings: Settings) -> APIRouter:
    router = APIRouter(
        tags=["statistics"],
        dependencies=[Depends(check_read_key), Depends(count_request), Depends(parameters.check)],
    )
    for aggregation in AGGREGATIONS.values():
        _add_route(router, aggregation, settings.known_dimensions)
    return router
