"""What an aggregation is, what a query for one is, and the registry of those that are declared.

`service.catalogue.aggregations` declares them; import `AGGREGATIONS` from there, where it is complete.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote
from uuid import UUID

import orjson
from pydantic import BaseModel

from chat_stats.service.catalogue import schemas
from chat_stats.service.catalogue.questions import Filter, Question, digest_of
from chat_stats.service.catalogue.row_pages import cursor_of, rows_behind
from chat_stats.service.catalogue.rows import (
    PERCENTILE_FIELDS,
    SOURCE_FIELDS,
    UNKNOWN_FROM_COUNTS,
    UNRESOLVED,
    UNRESOLVED_FIELDS,
    Data,
    ModelUsage,
    Row,
    Usage,
    plain_rows,
    series_points,
    value_of,
)
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import DEFAULT_SERIES, MAX_POINTS, Series
from chat_stats.service.errors import InvalidParameter

Totals = dict[str, Any]
Argument = str | int | None


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for: one aggregation over one time range, of some providers or models, in some order."""

    aggregation: str
    range: TimeRange = TimeRange()
    provider_id: str | None = None
    model_id: str | None = None
    #: How it is cut, if it is a time series.
    series: Series = DEFAULT_SERIES
    #: Only models whose name contains this, in upper or lower case.
    model_name: str | None = None
    #: A field of the rows, with a minus sign for descending order (`Aggregation.sortable`).
    order_by: str | None = None
    #: Most rows of the answer.
    limit: int | None = None
    #: Behind which row it begins (`service.catalogue.row_pages`).
    cursor: str | None = None
    #: What is asked by any dimension; `aggregation` is then the question's endpoint.
    question: Question | None = None
    #: Only requests with these values of dimensions; those of a question are in `question` itself.
    where: tuple[Filter, ...] = ()

    def key(self) -> str:
        """Return the part of the cache key that tells this query from every other."""
        if self.question is not None:
            return self.question.key(self.range)
        aggregation = AGGREGATIONS[self.aggregation]
        key = f"{aggregation.key_name}:{self.range.key()}"
        if aggregation.is_series:
            key += f":{self.series.key()}"
        if self.provider_id is not None:
            key += f":provider={self.provider_id}"
        if self.model_id is not None:
            key += f":model={self.model_id}"
        if self.model_name is not None:
            key += f":name={quote(self.model_name.lower(), safe='')}"
        if self.order_by is not None:
            key += f":order={self.order_by}"
        if self.limit is not None:
            key += f":limit={self.limit}"
        if self.cursor is not None:
            key += f":cursor={self.cursor}"
        if self.where:
            key += f":where={digest_of(self.where)}"
        return key

    @property
    def by_dimension(self) -> bool:
        """Whether it takes a question to answer it: usage per model is not enough."""
        return bool(self.where) or self.series.dimension is not None

    @property
    def filters(self) -> tuple[str | None, ...]:
        return self.provider_id, self.model_id, self.model_name

    @property
    def filters_digest(self) -> str:
        """What tells its filters from all others, for cursors."""
        text = orjson.dumps((self.filters, digest_of(self.where)))
        return blake2b(text, digest_size=8).hexdigest()

    @property
    def wants_unresolved(self) -> bool:
        """Whether requests without a model and provider that exist are among those asked for."""
        return self.provider_id is None and self.model_name is None and self.model_id in (None, UNRESOLVED)

    @property
    def is_whole(self) -> bool:
        """Whether it asks for all rows in their own order: what the worker computes."""
        return not self.where and not any(
            value is not None for value in (*self.filters, self.order_by, self.limit, self.cursor)
        )

    def base(self, *, kept: bool) -> "Query | None":
        """Return the query from whose rows the answer is cut; None: it is computed.

        `kept`: the worker keeps the whole computed. In other ranges the database applies the filters, whose
        indexes make that cheap, and only order and limit are left to be cut.
        """
        if self.question is not None:
            return None
        aggregation = AGGREGATIONS[self.aggregation]
        if self.is_whole or aggregation.is_series:
            return None
        if kept and not self.where and any(value is not None for value in self.filters):
            name = aggregation.cut_from(self)
            if name is not None:
                return Query(name, self.range)
        unordered = replace(self, order_by=None, limit=None, cursor=None)
        return None if unordered == self else unordered

    def metadata(self, data: Data, of: Mapping[str, Any]) -> Totals:
        """Return the answer's metadata beside the common fields; `of` has those that the data do not show.

        That is `UNRESOLVED_FIELDS`, and `SOURCE_FIELDS` where there are some.
        """
        aggregation = AGGREGATIONS[self.aggregation]
        if aggregation.is_series:
            series = self.series
            return {"bucket": series.bucket, "timezone": series.timezone, "group_by": series.group_by}
        totals = {**aggregation.totals(data), **{name: of[name] for name in SOURCE_FIELDS if name in of}}
        if not aggregation.states_unresolved:
            return totals
        unresolved = {name: of[name] if self.wants_unresolved else 0 for name in UNRESOLVED_FIELDS}
        return totals | unresolved | {"next_cursor": None}


@dataclass(frozen=True)
class Aggregation:
    """One declared statistic. Its answer, columns and cache keys follow from its rows' schema."""

    name: str
    #: One line for the API's and the command line's documentation.
    purpose: str
    #: Below /api/monitoring.
    path: str
    #: The SQL function, in `sql/functions`. By default its columns are the fields of a row.
    function: str
    #: Of the answer's `data`: `list[Row]`, or `Row` where it is one object.
    data: Any
    #: An example of `data`, and of the metadata beside the common fields.
    example: tuple[Any, Totals]
    #: Makes the rows from usage per model; None: usage is not enough, and counts are even less.
    from_usage: Callable[[list[ModelUsage]], Data] | None
    #: Then: the statement of `service/database/queries` that returns what the function does, for the same
    #: arguments.
    plain: str | None = None
    #: Metadata beside the common fields, and its schema. `RowsMetadata` states the unresolved requests.
    totals: Callable[[Any], Totals] = lambda _data: {}
    metadata: type[schemas.Metadata] = schemas.Metadata
    #: From the function's rows, with NULL where a number cannot be known.
    from_rpc: Callable[[Sequence[Mapping[str, Any]]], Data] = plain_rows
    #: The RPC statement, where it has other arguments. $1, $2: the time range.
    call: str | None = None
    #: The same, narrowed. $3: the provider's or model's id as text.
    narrowed_call: str | None = None
    narrowed_by: Literal["provider_id", "model_id"] | None = None
    #: What its percentiles are grouped by; None: it has none, or its function returns them itself.
    percentiles_by: Literal["none", "provider", "model"] | None = None
    #: Fields that a method which only counts requests cannot know, of those that the answer has.
    unknown_from_counts: tuple[str, ...] = UNKNOWN_FROM_COUNTS
    #: Whether its numbers are those of all requests, not of those whose model exists.
    of_all_requests: bool = False
    #: Whether it is made from the usage of each model apart, and not from that of all together.
    of_each_model: bool = True
    #: Whether it has a `bucket`, a grouping and a time zone (`Query.series`); then it may be narrowed by both
    #: ids, and its rows are made by `service.catalogue.rows.series_points`.
    is_series: bool = False
    #: Whether the worker keeps it computed; else it does so only when asked for it by name.
    kept_computed: bool = True
    #: The aggregation among whose rows are those that a query's filters want; None: none has them.
    cut_from: Callable[[Query], str | None] = lambda _query: None
    #: The answer to a query with filters, from all rows of `cut_from`; None if these cannot answer it.
    select: Callable[[Query, list[Row]], Data | None] = lambda _query, _rows: None

    @cached_property
    def answer(self) -> type[BaseModel]:
        """The schema of the answer, for the OpenAPI document."""
        data, totals = self.example
        return schemas.answer(f"{self.name.capitalize()}Answer", self.data, self.metadata, data, totals)

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of a row, those of its statistics too, with their types."""
        row = get_args(self.data)[0] if get_origin(self.data) is list else self.data
        fields: dict[str, Any] = {}
        for name, field in row.model_fields.items():
            fields[name] = field.annotation
            if name == "stats":
                fields |= {each: field.annotation for each, field in field.annotation.model_fields.items()}
        return fields

    @property
    def states_unresolved(self) -> bool:
        """Whether its metadata have the requests that are in none of its rows."""
        return issubclass(self.metadata, schemas.RowsMetadata)

    @cached_property
    def answered(self) -> frozenset[str]:
        """The fields that it has, of rows and metadata."""
        return frozenset((*self.fields, *self.metadata.model_fields))

    def of_usage(self, usage: Usage) -> Data:
        """Return the answer from the usage of its models, in the order of the usage."""
        assert self.from_usage is not None, f"{self.name} is not made from usage per model"
        return self.from_usage([*usage.models, usage.unresolved] if self.of_all_requests else usage.models)

    @cached_property
    def sortable(self) -> tuple[str, ...]:
        """The fields by which its rows can be ordered: their numbers."""
        if get_origin(self.data) is not list or self.is_series:
            return ()
        return tuple(name for name, kind in self.fields.items() if kind in (int, float))

    @property
    def default_order(self) -> str:
        """Return the order of rows with a `next_cursor` when none is asked for: their first number."""
        return f"-{self.sortable[0]}"

    def order_of(self, query: Query) -> str:
        return query.order_by or self.default_order

    def cut(self, query: Query, base: Query, data: Any, totals: Totals) -> tuple[Data, Totals] | None:
        """Return the answer to `query`, cut from the answer to its base, and its metadata; None: it cannot.

        The metadata are about all rows that the filters want, also where `limit` leaves some out.
        """
        filtered = base.filters == query.filters
        selected = data if filtered else self.select(query, data)
        if selected is None:
            return None
        metadata = query.metadata(selected, totals)
        if not isinstance(selected, list):
            return selected, metadata
        if query.order_by is not None:
            name = query.order_by.removeprefix("-")
            selected = sorted(
                selected, key=lambda row: value_of(row, name), reverse=query.order_by.startswith("-")
            )
        if query.cursor is not None:
            selected = rows_behind(query.cursor, selected)
        page = selected[: query.limit]
        if self.states_unresolved and len(page) < len(selected):  # the metadata that have a cursor
            metadata["next_cursor"] = cursor_of(page[-1], self.order_of(query), query.filters_digest)
        return page, metadata

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """What the function returns, in any order; other columns mean that it is a foreign one."""
        row = get_args(self.data)[0] if get_origin(self.data) is list else self.data
        separate = PERCENTILE_FIELDS if self.percentiles_by is not None else ()
        return tuple(name for name in row.model_fields if name not in separate)

    @cached_property
    def key_name(self) -> str:
        """The name with a digest of the answer's fields, as cache keys begin.

        An entry that lacks a field of today's answers must not be served. So a process whose answers have
        other fields uses other keys, for this aggregation alone.
        """
        shape = orjson.dumps(schemas.shape(self.answer), option=orjson.OPT_SORT_KEYS)
        return f"{self.name}@{blake2b(shape, digest_size=4).hexdigest()}"

    def rpc(self, query: Query) -> tuple[str, tuple[Argument, ...]]:
        """Return the statement for `query` and its arguments after the time range."""
        call = self.call or f"SELECT * FROM stats_schema.{self.function}($1::timestamptz, $2::timestamptz)"  # noqa: S608
        if self.is_series:
            return call, series_arguments(query)
        narrowed = query.model_id if query.provider_id is None else query.provider_id
        if narrowed is None:
            return call, ()
        assert self.narrowed_call is not None, f"{self.name} cannot be narrowed"
        return self.narrowed_call, (narrowed,)

    def rows(self, query: Query, records: Sequence[Mapping[str, Any]]) -> Data:
        """Return the answer to `query` that the function's rows hold."""
        if self.is_series:
            return series_points(records, self.columns)
        return self.from_rpc(records)


#: By name, in the order in which a refresh computes them.
AGGREGATIONS: dict[str, Aggregation] = {}


def register(aggregation: Aggregation) -> Aggregation:
    """Add a declared aggregation: its route, refresh, command line and metrics follow."""
    assert aggregation.name not in AGGREGATIONS, f"two aggregations are named {aggregation.name}"
    AGGREGATIONS[aggregation.name] = aggregation
    return aggregation


def key_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of aggregations with the digests of their answers' fields."""
    return tuple(sorted(AGGREGATIONS[name].key_name for name in names))


def series_arguments(query: Query) -> tuple[Argument, ...]:
    """Return the arguments after the time range of the statements for a time series."""
    series = query.series
    # One row more than there may be, to see that there are too many.
    limit = MAX_POINTS + 1
    return series.bucket, series.group_by, series.timezone, *query.filters, limit


def parse_order_by(aggregation: Aggregation, text: str) -> str:
    """Return `order_by` if the rows can be ordered by it; `InvalidParameter` says by what they can be."""
    if text.removeprefix("-") not in aggregation.sortable:
        raise InvalidParameter(
            "order_by",
            f"{aggregation.name} has no order_by {text[:60]!r}; known: {', '.join(aggregation.sortable)}; "
            "with a minus sign before it the order is descending",
        )
    return text


def parse_id(parameter: str, text: str) -> str:
    """Return the canonical text of an id: a whole number from 0 to 2^63 - 1, or a UUID."""
    if re.fullmatch(r"[0-9]{1,30}", text) and int(text) < 2**63:
        return str(int(text))
    if re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", text):
        return str(UUID(text))
    raise InvalidParameter(
        parameter, f"{parameter} {text[:60]!r} is neither a whole number from 0 to {2**63 - 1} nor a UUID"
    )
