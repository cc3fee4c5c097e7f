"""Reads single requests: pages of them, newest first, and how many there are.

The models and providers are read first, as they are few; the statement over the requests then needs no join,
and goes down an index in the order of the answer. It runs as a cursor in a read-only transaction, so that
neither side holds more than a batch of rows.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg

from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.database import queries
from chat_stats.service.database.dimension_columns import column_types
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ComputationTimedOut, InvalidParameter
from chat_stats.service.explorer.columns import Columns, columns_of
from chat_stats.service.explorer.query import (
    NESTED,
    NEWEST_FIRST,
    ODD_MOMENT,
    Filters,
    Order,
    Position,
    RequestQuery,
)
from chat_stats.service.explorer.reading import Model, Reading, fetch, model_of, status_value, unreadable

logger = logging.getLogger(__name__)

#: A count that took t seconds is kept for t times this many, so that counting takes at most 5 % of the time.
COUNT_KEPT_TIMES = 20
COUNT_KEPT_SECONDS = 60.0
#: Counts quicker than this are made each time.
QUICK_COUNT_SECONDS = 0.02
COUNTS_KEPT = 1000

#: Seconds after which the columns are looked up again.
COLUMNS_KEPT_SECONDS = 60.0

Row = tuple[Any, ...]

_cursor_numbers = count(1)


class Requests:
    """Single requests. One per process; it keeps counts that were costly, and what columns there are."""

    def __init__(self, *, timeout: float, columns: Sequence[str] | None = None) -> None:
        self._timeout = timeout
        self._wanted = columns
        self._columns: Columns | None = None
        self._columns_until = 0.0
        self._counts: OrderedDict[str, tuple[float, int | None]] = OrderedDict()

    def known_columns(self) -> Columns | None:
        """Return the columns if it is not long since they were looked up: tables get new ones."""
        return self._columns if time.monotonic() < self._columns_until else None

    async def columns(self, snapshot: Snapshot) -> Columns:
        """Return the columns; `SchemaError` when the table lacks one that the settings name."""
        if (known := self.known_columns()) is not None:
            return known
        records = await fetch(snapshot, queries.load("requests_columns"), timeout=self._timeout)
        self._columns = columns_of(records, self._wanted)
        self._columns_until = time.monotonic() + COLUMNS_KEPT_SECONDS
        return self._columns

    def forget_columns(self) -> None:
        self._columns = None

    async def open(
        self,
        snapshot: Snapshot,
        filters: Filters,
        after: Position | None = None,
        columns: Columns | None = None,
        order: Order = NEWEST_FIRST,
    ) -> Reading:
        """Look up what the filters mean; `columns`: those by which the fields were chosen.

        Raises `InvalidParameter` for an order that no index has, and `SchemaError` for a dimension that the
        requests do not have.
        """
        columns = columns or await self.columns(snapshot)
        if order.by != NEWEST_FIRST.by:
            await self._require_index(snapshot, columns, order)
        types = await column_types(
            partial(fetch, snapshot, timeout=self._timeout), [each.dimension for each in filters.where]
        )
        as_of = snapshot.now if after is None else after.as_of
        models: dict[int | UUID, Model] = {}
        unresolved: Sequence[int | UUID] | None = None
        if not await self._may_have(snapshot, columns.status_type, filters.status):
            pass
        elif filters.model_id != UNRESOLVED:
            models = await self._models(snapshot, filters)
        elif (
            filters.provider_id is None
            and filters.model_name is None
            and all(_wants(filter_, None) for filter_ in filters.where)
        ):
            statement = "requests_unresolved_citus" if snapshot.in_citus else "requests_unresolved"
            records = await fetch(snapshot, queries.load(statement), timeout=self._timeout)
            unresolved = [record["model_id"] for record in records]
        return Reading(snapshot, filters, as_of, models, unresolved, columns, self._timeout, order, types)

    async def _require_index(self, snapshot: Snapshot, columns: Columns, order: Order) -> None:
        if order.by not in columns.numbers:
            raise InvalidParameter("order_by", f"the requests have no number {order.by} to be sorted by")
        [found] = await fetch(snapshot, queries.load("requests_index"), order.by, timeout=self._timeout)
        if not found["exists"]:
            raise InvalidParameter(
                "order_by",
                f"order_by={order} needs an index, which chat-stats does not create by itself: "
                f"CREATE INDEX CONCURRENTLY ON chat_completion_requests ({order.by}, id)",
            )

    async def _models(self, snapshot: Snapshot, filters: Filters) -> dict[int | UUID, Model]:
        records = await fetch(
            snapshot,
            queries.load("requests_models"),
            filters.provider_id,
            filters.model_id,
            timeout=self._timeout,
        )
        needle = None if filters.model_name is None else filters.model_name.lower()
        return {
            record["id"]: model_of(record)
            for record in records
            if (needle is None or needle in (record["model_name"] or "").lower())
            and all(_wants(filter_, record) for filter_ in filters.where)
        }

    async def _may_have(self, snapshot: Snapshot, type_: str, status: str | None) -> bool:
        """Return whether the type of the statuses has such a value."""
        if status is None or type_ == "text":
            return True
        try:
            await snapshot.fetch(f"SELECT {status_value('$1', type_)}", status, timeout=self._timeout)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            return False
        except asyncpg.PostgresError as error:
            raise unreadable(error) from error
        return True

    async def batches(
        self, reading: Reading, query: RequestQuery, fields: Sequence[str]
    ) -> AsyncIterator[list[Row]]:
        """Yield the page's rows as tuples of `fields`; `reading.next` is known when it is over."""
        if reading.is_empty:
            return
        read = reading.columns.read_for(fields)
        columns = list(read)
        cells = [columns.index(name) if name in read else name for name in fields]
        model_at, moment_at, value_at = columns.index("model_id"), columns.index("created_at"), len(columns)
        if reading.order.by != NEWEST_FIRST.by:
            moment_at = value_at
        last: asyncpg.Record | None = None
        async for records, more in self._pages(reading, query, read):
            last = records[-1]
            reading.returned += len(records)
            reading.next = (
                Position(_value(last, moment_at, value_at), last["id"], reading.as_of) if more else None
            )
            yield [
                tuple(
                    record[cell]
                    if isinstance(cell, int)
                    else _of_model(reading.models.get(record[model_at]), cell)
                    for cell in cells
                )
                for record in records
            ]

    async def _pages(
        self, reading: Reading, query: RequestQuery, columns: Mapping[str, str]
    ) -> AsyncIterator[tuple[list[asyncpg.Record], bool]]:
        """Yield batches of records, each with whether there are more rows after it; one row more is read."""
        left, offset, after = query.limit, query.offset, query.after
        by_time = reading.order.by == NEWEST_FIRST.by
        sql_columns = [*columns.values(), ODD_MOMENT if by_time else f"r.{reading.order.by}::text"]
        further = reading.columns.read_in_branches(columns)
        held: list[asyncpg.Record] = []
        filters = reading.filters
        parts = []
        if after is None or after.value is not None:
            parts.append("requests_timed")
        if not by_time or reading.bounds == (None, None):
            parts.append("requests_untimed")
        for part in parts:
            arguments: list[Any]
            if part == "requests_timed":
                place = (None, None) if after is None else (after.value, after.id)
                arguments = [*reading.bounds, filters.status, *place, offset, left + 1 - len(held)]
            else:
                if offset and not held and left == query.limit and parts[0] == "requests_timed":
                    offset = max(0, offset - await self._count(reading, timed=True))
                elif left != query.limit or held:
                    offset = 0
                among = after is not None and after.value is None
                arguments = [
                    filters.status,
                    among,
                    after.id if among and after else None,
                    offset,
                    left + 1 - len(held),
                    *reading.bounds,
                ]
            statement = reading.statement(part, arguments, sql_columns, further=further)
            async for records in self._cursor(reading, part, statement, arguments):
                held += records
                # The last row is held back until it is known whether another one follows.
                if len(held) > left:
                    yield held[:left], True
                    return
                if len(held) > 1:
                    left -= len(held) - 1
                    yield held[:-1], True
                    held = held[-1:]
        if held:
            yield held, False

    async def _cursor(
        self, reading: Reading, name: str, statement: str, arguments: list[Any]
    ) -> AsyncIterator[list[asyncpg.Record]]:
        name = f"{name}_{next(_cursor_numbers)}"
        await fetch(
            reading.snapshot,
            f"DECLARE {name} NO SCROLL CURSOR FOR {statement}",
            *arguments,
            timeout=reading.timeout,
        )
        while True:
            wanted = reading.batch_rows
            records = await fetch(reading.snapshot, f"FETCH {wanted} FROM {name}", timeout=reading.timeout)
            if records:
                yield records
            if len(records) < wanted:
                return

    async def total(self, reading: Reading) -> tuple[int | None, str]:
        """Return how many requests there are, None if that takes too long, and the method that counted.

        Costly counts are kept for a while, in proportion to their cost.
        """
        if reading.is_empty:
            return 0, "query"
        filters = reading.filters
        of_models = filters.status is None and all(each.dimension.is_id for each in filters.where)
        if of_models and reading.unresolved is None:
            count = await self._rolled_up(reading)
            if count is not None:
                return count, "rpc"
        key = filters.key()
        kept_until, kept = self._counts.get(key, (0.0, None))
        if time.monotonic() < kept_until:
            return kept, "query"
        started = time.monotonic()
        total: int | None
        try:
            total = await self._count(reading)
        except ComputationTimedOut:
            total = None
        took = time.monotonic() - started
        if took >= QUICK_COUNT_SECONDS:
            self._counts[key] = (time.monotonic() + min(COUNT_KEPT_SECONDS, took * COUNT_KEPT_TIMES), total)
            self._counts.move_to_end(key)
            if len(self._counts) > COUNTS_KEPT:
                self._counts.popitem(last=False)
        return total, "query"

    async def _rolled_up(self, reading: Reading) -> int | None:
        filters = reading.filters
        all_named = filters.model_name is None and not filters.where
        names = None if all_named else [str(id_) for id_ in reading.models]
        try:
            records = await reading.snapshot.fetch(
                queries.load("requests_rolled_up"),
                *reading.bounds,
                filters.provider_id,
                filters.model_id,
                names,
                timeout=reading.timeout,
            )
        except asyncpg.PostgresError as error:
            # The functions are not there, or not for us: the requests themselves are counted.
            logger.debug("the rollup cannot say how many requests there are: %s", error)
            return None
        count: int | None = records[0]["count"]
        return count

    async def _count(self, reading: Reading, *, timed: bool = False) -> int:
        arguments: list[Any] = [*reading.bounds, reading.filters.status, timed]
        statement = reading.statement("requests_count", arguments)
        records = await fetch(reading.snapshot, statement, *arguments, timeout=reading.timeout / 2)
        count: int = records[0]["count"]
        return count


def _of_model(model: Model | None, name: str) -> Any:
    if model is None:  # of an unresolved request
        return None
    return model.nested if name == NESTED else model.columns[name]


def _wants(filter_: Filter, model: asyncpg.Record | None) -> bool:
    """Return whether a filter by ids lets a model (None: unresolved) through; other filters let all."""
    if not filter_.dimension.is_id:
        return True
    value = (
        None if model is None else str(model["id" if filter_.dimension.kind == "model" else "provider_id"])
    )
    return (value in filter_.values) is not filter_.negated


def _value(record: asyncpg.Record, moment_at: int, value_at: int) -> str | None:
    """Return a row's value of the order as text; of a time, `value_at` has what no datetime can be."""
    moment: datetime | None = record[moment_at] if moment_at != value_at else None
    value: str | None = record[value_at]
    return value if moment is None else moment.astimezone(UTC).isoformat()
