"""Computes aggregations by dimensions: of the requests that filters want, or a series of each value.

They are questions. The usage of each model is one that is grouped by model, from which the answers are made
as from that of the other methods; a time series is one with a bucket.
"""

import time
from dataclasses import replace

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.dimensions import MODEL_ID, PROVIDER_ID, Dimension
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.catalogue.questions import Filter, Question
from chat_stats.service.catalogue.rows import (
    NOTHING_UNRESOLVED,
    PERCENTILE_FIELDS,
    SOURCE_FIELDS,
    TOTALS,
    UNRESOLVED,
    ModelUsage,
    Row,
    Usage,
)
from chat_stats.service.catalogue.timeseries import MAX_POINTS, too_many_points
from chat_stats.service.compute.answers import Found, answer
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.look import look
from chat_stats.service.compute.models import catalogue, most_requests_first
from chat_stats.service.compute.percentiles import Groups
from chat_stats.service.compute.question_rows import row_of
from chat_stats.service.compute.questions import Asking, Parts
from chat_stats.service.compute.sources import Source
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import InvalidParameter
from chat_stats.service.observability import metrics

#: There are never so many models.
_ALL = 2**31


async def compute(snapshot: Snapshot, query: Query, *, timeout: float) -> Computed:
    """Compute `query`; raises as `questions.compute` does, and `NotFound` for an unknown model."""
    started = time.perf_counter()
    aggregation = AGGREGATIONS[query.aggregation]
    filters = await _filters(snapshot, query, timeout)
    if aggregation.is_series:
        computed = await _series(snapshot, query, filters, timeout)
    elif aggregation.from_usage is not None:
        computed = await _of_usage(snapshot, query, filters, timeout)
    else:
        raise InvalidParameter(query.where[0].parameter, f"{aggregation.name} has no filters by dimension")
    seconds = time.perf_counter() - started
    metrics.computed(query.aggregation, computed.method, seconds)
    return replace(computed, compute_ms=seconds * 1000)


async def _filters(snapshot: Snapshot, query: Query, timeout: float) -> tuple[Filter, ...]:
    """Return all filters of a query by dimension: a part of a name means the models that have it."""
    filters = list(query.where)
    if query.provider_id is not None:
        filters.append(Filter(PROVIDER_ID, (query.provider_id,)))
    if query.model_id is not None:
        filters.append(Filter(MODEL_ID, (None if query.model_id == UNRESOLVED else query.model_id,)))
    if query.model_name is not None:
        models = await catalogue(snapshot, Deadline(timeout), (None, None, query.model_name))
        filters.append(Filter(MODEL_ID, tuple(sorted(str(model.model_id) for model in models))))
    return tuple(filters)


async def _of_usage(
    snapshot: Snapshot, query: Query, filters: tuple[Filter, ...], timeout: float
) -> Computed:
    aggregation = AGGREGATIONS[query.aggregation]
    by = aggregation.percentiles_by
    of_models = Question(
        figures=() if by in (None, "provider") else PERCENTILE_FIELDS,
        group_by=(MODEL_ID,) if aggregation.of_each_model else (),
        filters=filters,
        limit=_ALL,
    )
    of_providers = replace(of_models, figures=PERCENTILE_FIELDS, group_by=(PROVIDER_ID,))
    # The source is chosen for the one that needs more: not every rollup has percentiles.
    question = of_providers if by == "provider" else of_models
    asking = Asking(snapshot, replace(query, question=question), timeout)

    async def answer_from(source: Source) -> Computed:
        bounds = await asking.bounds()
        parts = await asking.parts(source, bounds, question=of_models, sums=True)
        groups: Groups = {"none": {None: _percentiles(parts.total)}, "model": _by_id(parts)}
        if by == "provider":
            groups[by] = _by_id(await asking.parts(source, bounds))
        has_cost = (await look(snapshot, timeout=timeout)).has_cost
        found = Found(await _usage(snapshot, parts, timeout), groups, source.method, has_cost)
        data, totals, unavailable = await answer(snapshot, query, found, timeout=timeout)
        precision, incomplete_before = await asking.edges(source, [bounds])
        totals |= _source_fields(source, incomplete_before)
        return Computed(data, totals, source.method, 0.0, unavailable, precision)

    return await asking.by_best_source(answer_from)


def _source_fields(source: Source, incomplete_before: str | None) -> Row:
    fields = (source.name, incomplete_before, source.suggestion)
    return dict(zip(SOURCE_FIELDS, fields, strict=True))


def _by_id(parts: Parts) -> dict[str | None, Row]:
    """Return the percentiles of each group by its id."""
    return {key[0]: _percentiles(figures) for key, _, figures in parts.rows if key}


def _percentiles(figures: Row) -> Row:
    return {name: figures[name] for name in PERCENTILE_FIELDS if name in figures}


async def _usage(snapshot: Snapshot, parts: Parts, timeout: float) -> Usage:
    """Return the usage of each model, and of all other requests together."""
    known = {str(model.model_id): model for model in await catalogue(snapshot, Deadline(timeout))}
    models: list[ModelUsage] = []
    unresolved = NOTHING_UNRESOLVED
    for key, _, figures in parts.rows:
        totals = {name: figures[name] for name in TOTALS}
        if key and key[0] is not None:
            models.append(replace(known[key[0]], **totals))
        else:
            unresolved = replace(unresolved, **totals)
    return Usage(most_requests_first(model for model in models if model.total_requests), unresolved)


async def _series(snapshot: Snapshot, query: Query, filters: tuple[Filter, ...], timeout: float) -> Computed:
    series = query.series
    dimension = _GROUPED_BY.get(series.group_by, series.dimension)
    fields = AGGREGATIONS[query.aggregation].fields
    question = Question(
        figures=tuple(name for name in FIGURES if name in fields),
        group_by=() if dimension is None else (dimension,),
        filters=filters,
        bucket=series.bucket,
        timezone=series.timezone,
        # One more than there may be, to see that there are too many.
        limit=MAX_POINTS + 1,
    )
    asking = Asking(
        snapshot, replace(query, question=question), timeout, too_many=lambda _: too_many_points(series)
    )

    async def answer_from(source: Source) -> Computed:
        bounds = await asking.bounds()
        parts = await asking.parts(source, bounds)
        labels = await asking.labels(parts)
        rows = [row_of(question, key, start, figures, labels) for key, start, figures in parts.rows]
        await asking.put_offsets(rows)
        points = [_point(row, dimension, tuple(fields)) for row in rows]
        unavailable = await asking.unavailable()
        precision, incomplete_before = await asking.edges(source, [bounds])
        totals = query.metadata(points, {})
        totals |= _source_fields(source, incomplete_before)
        return Computed(points, totals, source.method, 0.0, unavailable, precision)

    return await asking.by_best_source(answer_from)


_GROUPED_BY = {"provider": PROVIDER_ID, "model": MODEL_ID}


def _point(row: Row, dimension: Dimension | None, fields: tuple[str, ...]) -> Row:
    group: Row = {"group_id": None, "group_name": None}
    if dimension is not None:
        name = row[dimension.name_field if dimension.is_id else dimension.name]
        group = {"group_id": row[dimension.name], "group_name": name}
    return {name: (row | group)[name] for name in fields}
