"""Answers questions by any dimension, in one snapshot: rows, the others together, and the total."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from chat_stats.service.catalogue.aggregation import Query
from chat_stats.service.catalogue.dimensions import Dimension
from chat_stats.service.catalogue.figures import of_cost
from chat_stats.service.catalogue.measures import MEASURES
from chat_stats.service.catalogue.question_parameters import filters_given, next_cursor
from chat_stats.service.catalogue.questions import PREVIOUS, Question
from chat_stats.service.catalogue.rows import Row
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import MAX_POINTS
from chat_stats.service.compute import purged, sources
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.deadline import Deadline
from chat_stats.service.compute.look import look
from chat_stats.service.compute.methods import METHOD_LOG, STEP_DOWN, Method
from chat_stats.service.compute.offsets import put_offsets
from chat_stats.service.compute.own_function import with_bounds
from chat_stats.service.compute.question_rows import (
    Figures,
    Labels,
    add_change,
    add_previous,
    number_type,
    row_of,
    shown,
    value_row,
)
from chat_stats.service.compute.sources import Source
from chat_stats.service.compute.statement import Bounds, Key, first_moment, statement
from chat_stats.service.database import queries
from chat_stats.service.database.dimension_columns import (
    ColumnTypes,
    check_types,
    trouble_with,
)
from chat_stats.service.database.errors import hides_rows
from chat_stats.service.database.rendering import declared
from chat_stats.service.database.snapshot import Look, Snapshot
from chat_stats.service.errors import InvalidParameter
from chat_stats.service.observability import metrics


@dataclass(frozen=True, slots=True)
class Parts:
    """What the statement returned."""

    rows: list[Figures]
    others: Row
    total: Row
    groups: int


async def compute(snapshot: Snapshot, query: Query, *, timeout: float) -> Computed:
    """Answer a question; its statements may take `timeout` seconds, with `compare` twice as long.

    Raises `InvalidParameter` for a series of too many points, `SchemaError` for a dimension that the requests
    do not have, and asyncpg's errors.
    """
    started = time.perf_counter()
    asking = Asking(snapshot, query, timeout)
    computed = await (asking.list_dimensions() if asking.lists else asking.by_best_source(asking.answer_from))
    seconds = time.perf_counter() - started
    metrics.computed(query.aggregation, computed.method, seconds)
    return replace(computed, compute_ms=seconds * 1000)


def too_many_groups(points: int) -> InvalidParameter:
    return InvalidParameter(
        "limit",
        f"{points:,} points are too many: the limit is {MAX_POINTS:,}; ask for fewer groups by limit, for "
        "longer buckets, or for a shorter range",
    )


class Asking:
    """One question in one snapshot. `too_many`: the error for a series of that many points."""

    def __init__(
        self,
        snapshot: Snapshot,
        query: Query,
        timeout: float,
        too_many: Callable[[int], InvalidParameter] = too_many_groups,
    ) -> None:
        assert query.question is not None
        self._snapshot = snapshot
        self._query = query
        self._question: Question = query.question
        # The range that is compared with has as much time again.
        self._seconds = timeout * (1 if self._question.compare is None else 2)
        self._deadline = Deadline(self._seconds)
        self._too_many = too_many

    async def by_best_source(self, answer_from: Callable[[Source], Awaitable[Computed]]) -> Computed:
        """Answer from the first source that works, and say what held back the ones before."""
        reason = None
        possible = await sources.choose(self._snapshot, self._question, timeout=self._deadline.left())
        for step, source in enumerate(possible):
            self._deadline = Deadline(self._seconds / 2**step)
            try:
                computed = await answer_from(source)
            except STEP_DOWN[Method.RPC] as error:
                if source is possible[-1] or hides_rows(error):
                    raise
                reason = f"{source.method} failed with {type(error).__name__}: {error}"
                continue
            if source.method is not Method.QUERY or reason is not None:
                METHOD_LOG.record(self._query.aggregation, source.method, reason)
            return computed
        raise AssertionError("the last source has no next one")  # pragma: no cover

    async def answer_from(self, source: Source) -> Computed:
        question = self._question
        bounds = await self.bounds()
        parts = await self.parts(source, bounds)
        labels = await self.labels(parts)
        rows = [row_of(question, key, start, figures, labels) for key, start, figures in parts.rows]
        if question.series is not None:
            await self.put_offsets(rows)
        total, others = shown(question, parts.total), shown(question, parts.others)
        ranges = [bounds]
        if question.compare is not None:
            earlier = self._earlier(bounds)
            ranges.append(earlier)
            keys = list(dict.fromkeys(key for key, _, _ in parts.rows))
            before = await self.parts(source, earlier, keys)
            add_previous(question, rows, parts.rows, before.rows)
            add_change(total, shown(question, before.total))
            add_change(others, shown(question, before.others))
        unavailable = await self.unavailable()
        precision, incomplete_before = await self.edges(source, ranges)
        metadata = {
            "source": source.name,
            "measures": list(question.figures),
            "group_by": [each.name for each in question.group_by],
            "filters": filters_given(question.filters),
            "bucket": question.bucket,
            "timezone": question.timezone if question.bucket else None,
            "order_by": str(question.order),
            "limit": question.limit,
            "compare": _written(question.compare),
            "total": total,
            "others": others,
            "total_groups": parts.groups,
            "next_cursor": self._next_cursor(parts.groups),
            "incomplete_before": incomplete_before,
            "suggested_rollup": source.suggestion,
        }
        if question.endpoint == "dimensions":
            rows = [value_row(question, row) for row in rows]
            metadata = {name: metadata[name] for name in VALUE_METADATA}
        return Computed(rows, metadata, source.method, 0.0, unavailable, precision)

    async def edges(self, source: Source, ranges: Sequence[Bounds]) -> tuple[str | None, str | None]:
        """Return to what the ranges are exact (`precision`), and before when requests are missing in them."""
        incomplete_before = await self._incomplete_before(source, ranges)
        if not source.knows_purged:
            return None, incomplete_before
        edges = [
            await purged.precision(self._snapshot, each, timeout=self._deadline.left()) for each in ranges
        ]
        return next((edge for edge in edges if edge is not None), None), incomplete_before

    async def put_offsets(self, rows: list[Row]) -> None:
        zone = self._question.timezone
        await put_offsets(self._snapshot, rows, zone, timeout=self._deadline.left())

    @property
    def lists(self) -> bool:
        """Whether the dimensions themselves are asked for."""
        return bool(self._question.listed)

    async def list_dimensions(self) -> Computed:
        listed = self._question.listed
        types = (await self._look()).columns
        ids = {record["kind"]: record["type"] for record in await self._fetch(queries.load("id_types"))}
        ready = await sources.ready_rollups(self._snapshot, timeout=self._deadline.left())
        rows = []
        for dimension in listed:
            trouble = trouble_with(dimension, types)
            rows.append(
                {
                    "name": dimension.name,
                    "type": None if trouble else _type(dimension, types, ids),
                    "rollups": [name for name, by in ready.items() if dimension.name in by],
                    "trouble": trouble,
                }
            )
        return Computed(rows, {}, Method.QUERY, 0.0)

    async def _fetch(self, sql: str, *arguments: Any, **options: Any) -> list[asyncpg.Record]:
        return await self._snapshot.fetch(sql, *arguments, timeout=self._deadline.left(), **options)

    async def _look(self) -> Look:
        return await look(self._snapshot, timeout=self._deadline.left())

    async def _types(self, question: Question) -> ColumnTypes:
        """Return the types of the requests' columns; `SchemaError` names a dimension that cannot be used."""
        types = (await self._look()).columns
        check_types(question.dimensions, types)
        return types

    async def bounds(self) -> Bounds:
        bounds = self._query.range.bounds(self._question.as_of or self._snapshot.now)
        if self._question.series is None:
            return bounds
        query = replace(self._query, series=self._question.series, range=TimeRange(None, *bounds))
        first = self._first_of_scope if any(each.is_scope for each in self._question.filters) else None
        return (await with_bounds(self._snapshot, query, self._deadline.left(), first)).range.bounds(
            self._snapshot.now
        )

    async def _first_of_scope(self) -> datetime | None:
        """Return the first moment of the requests that a scoped key sees: that of others is not for it."""
        types = await self._types(self._question)
        made = first_moment(self._question, types)
        [record] = await self._fetch(made.text, *made.arguments)
        moment: datetime | None = record["first_moment"]
        return moment

    def _earlier(self, bounds: Bounds) -> Bounds:
        """Return the range of equal length that is compared with."""
        start, end = bounds
        assert start is not None
        end = self._snapshot.now if end is None else end
        length = max(end - start, timedelta())
        try:
            if self._question.compare == PREVIOUS:
                return start - length, start
            assert isinstance(self._question.compare, datetime)
            return self._question.compare, self._question.compare + length
        except OverflowError:
            raise InvalidParameter("compare", "the range to compare with leaves the calendar") from None

    async def parts(
        self,
        source: Source,
        bounds: Bounds,
        wanted: Sequence[Key] | None = None,
        *,
        question: Question | None = None,
        sums: bool = False,
    ) -> Parts:
        """Return the groups, or the `wanted` ones; `sums`: with the totals of all measures by their names.

        `question`: another one that the same source can answer.
        """
        question = question or self._question
        types = await self._types(question)
        made = statement(
            question,
            bounds,
            types,
            functions=source.by_functions,
            own=source.own,
            wanted=wanted,
            sums=sums,
            purged=(await self._look()).has_purged,
            whole=source.whole_from is None,
        )
        preparation = "" if source.own is None else queries.load("own_reading")
        records = await self._fetch(
            made.text, *made.arguments, preparation=preparation, keeps_plan=source.is_rollup
        )
        if records[0]["points"] > question.most_points:
            raise self._too_many(records[0]["points"])
        numbers = {name: number_type(name) for name in question.computed}
        found: dict[str, list[Figures]] = {"row": [], "others": [], "total": []}
        for record in records:
            figures: Row = {name: as_number(record[name]) for name, as_number in numbers.items()}
            if sums:
                figures |= {measure.total: record[measure.name] for measure in MEASURES}
            found[record["part"]].append((tuple(record["key"]), record["bucket_start"], figures))
        return Parts(found["row"], found["others"][0][2], found["total"][0][2], records[0]["groups"])

    async def labels(self, parts: Parts) -> Labels:
        """Return id and name of each model and provider among the rows, by kind and id as text."""
        found: dict[str, dict[str, tuple[Any, str | None]]] = {}
        for place, dimension in enumerate(self._question.group_by):
            if dimension.is_id:
                table, name = ("models", "model_name") if dimension.kind == "model" else ("providers", "name")
                text = declared().statement("asked/labels.sql", (), table=table, name=name)
                values = {key[place] for key, _, _ in parts.rows} - {None}
                records = await self._fetch(text, list(values), keeps_plan=True) if values else []
                found[dimension.kind] = {each["value"]: (_shown_id(each), each["name"]) for each in records}
        return found

    async def unavailable(self) -> tuple[str, ...]:
        of_costs = of_cost(self._question.figures)
        if not of_costs:
            return ()
        return () if (await self._look()).has_cost else of_costs

    def _next_cursor(self, groups: int) -> str | None:
        question, range_ = self._question, self._query.range
        if not question.group_by or question.offset + question.limit >= groups:
            return None
        return next_cursor(question, range_, question.as_of or self._snapshot.now)

    async def _incomplete_before(self, source: Source, ranges: Sequence[Bounds]) -> str | None:
        """Return up to when requests of the ranges were purged that the source does not know."""
        if source.knows_purged and source.whole_from is None:
            return None
        if not (await self._look()).has_purged:
            return None
        name = "purged_until_citus" if self._snapshot.in_citus else "purged_until"
        moments = [
            record["moment"] for bounds in ranges for record in await self._fetch(queries.load(name), *bounds)
        ]
        if source.whole_from is not None:
            moments = [min(moment, source.whole_from) for moment in moments if self._reaches(source, ranges)]
        return max(moments).astimezone(UTC).isoformat().replace("+00:00", "Z") if moments else None

    def _reaches(self, source: Source, ranges: Sequence[Bounds]) -> bool:
        """Return whether a range begins before the rollup is whole."""
        assert source.whole_from is not None
        return any(start is None or start < source.whole_from for start, _ in ranges)


def _type(dimension: Dimension, types: ColumnTypes, ids: Mapping[str, str]) -> str:
    """Return the type of a dimension's values, as the database has it."""
    if dimension.is_id:
        return ids[dimension.kind]
    if dimension.kind == "error_kind" or dimension.key is not None:
        return "text"
    return types[dimension.column or dimension.name].name


#: What the metadata of the values of a dimension has.
VALUE_METADATA = ("source", "total", "others", "total_groups", "incomplete_before")


def _written(compare: str | datetime | None) -> str | None:
    return compare.isoformat().replace("+00:00", "Z") if isinstance(compare, datetime) else compare


def _shown_id(label: asyncpg.Record) -> int | str:
    """Return an id as all answers show it: a UUID as text."""
    return label["id"] if isinstance(label["id"], int) else str(label["value"])
