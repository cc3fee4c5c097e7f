"""What reading single requests works on: the models that are meant, and statements over their requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from chat_stats.service.compute.statement import request_conditions
from chat_stats.service.database import queries
from chat_stats.service.database.dimension_columns import ColumnTypes
from chat_stats.service.database.errors import reading_error
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ChatStatsError
from chat_stats.service.explorer.columns import Columns
from chat_stats.service.explorer.query import (
    MODEL_COLUMNS,
    NEWEST_FIRST,
    Filters,
    Order,
    Position,
    wrong_cursor,
)

#: Rows of the first batch, which is to come soon, and of the later ones; fewer when rows are long.
FIRST_BATCH_ROWS = 100
BATCH_ROWS = 1000
BATCH_BYTES = 1_000_000

#: Up to so many models, each one's requests are read in order and merged: then rare models are found at once.
#: Beyond that all requests are read in order, and those of other models passed over.
MERGED_MODELS = 64


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the ranges of requests that a statement reads and merges."""

    #: What it says of `model_id`.
    models: str
    #: What its rows are sorted by before their time. A constant: planners drop it.
    lead: str = "(NULL::int)"


#: The planner does not see that `model_id` is the same in all its rows: only sorted by it too, they come in
#: the order of the index on (model_id, created_at).
_WITHOUT_MODEL = Branch("model_id IS NULL", lead="model_id")


@dataclass(frozen=True, slots=True)
class Model:
    id: int | UUID
    #: The values of MODEL_COLUMNS.
    columns: Mapping[str, Any]
    #: The nested object, as JSON.
    nested: orjson.Fragment


@dataclass(slots=True)
class Reading:
    """One snapshot's view of the requests that the filters mean."""

    snapshot: Snapshot
    filters: Filters
    as_of: datetime
    models: dict[int | UUID, Model]
    #: None: the requests of `models` are meant. Else those without a model, and of these, which do not exist.
    unresolved: Sequence[int | UUID] | None
    columns: Columns
    timeout: float
    order: Order = NEWEST_FIRST
    #: The types of the columns of the filters by dimension.
    types: ColumnTypes = field(default_factory=dict)
    #: Of the last row returned; None when there are no more rows after it.
    next: Position | None = None
    returned: int = 0
    #: Rows of the next batch: `fit_batches` goes by how long they are.
    batch_rows: int = FIRST_BATCH_ROWS

    def fit_batches(self, rows: int, encoded_bytes: int) -> None:
        """Choose the size of the next batch by that of the last one."""
        self.batch_rows = max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(1, encoded_bytes)))

    @property
    def is_empty(self) -> bool:
        """Whether the filters exclude each other or name what does not exist."""
        return not self.models and self.unresolved is None

    @property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        return self.filters.range.bounds(self.as_of)

    def statement(
        self, name: str, arguments: list[Any], columns: Sequence[str] = (), *, further: str = ""
    ) -> str:
        """Return a statement over the requests; what it needs beyond `arguments` is appended to them.

        `further`: what its branches read beside what they always do.
        """
        whole, _, branch = queries.load(name).partition("\n-- branch")
        branch = branch.partition("\n(")[2]
        argument = _STATUS_ARGUMENT[name]
        status = f"{argument}::text IS NULL"
        if self.filters.status is not None:
            status = f"status = {status_value(argument, self.columns.status_type)}"
        conditions = [status, *request_conditions(self.filters.where, self.types, arguments)]
        order = {
            "by": self.order.by,
            "type": self.columns.numbers.get(self.order.by, "timestamptz"),
            "direction": "DESC" if self.order.descending else "ASC",
            "beyond": "<" if self.order.descending else ">",
        }
        columns_text = ", ".join(columns)
        branches = [
            "("
            + branch.format(
                models=each.models,
                lead=each.lead,
                status="\n      AND ".join(conditions),
                columns=columns_text,
                further=further,
                **order,
            )
            for each in self._branches(arguments)
        ]
        return whole.format(columns=columns_text, branches=" UNION ALL ".join(branches), **order)

    def _branches(self, arguments: list[Any]) -> list[Branch]:
        # In another order than by time, no index has the models apart. To Citus each branch would be a query
        # of its own; of many models it reads the shards at the same time.
        merges = self.order.by == NEWEST_FIRST.by and not self.snapshot.in_citus
        most = MERGED_MODELS if merges else 1
        if self.unresolved is None:
            one, many = queries.load("of_one_model"), queries.load("of_many_models")
            return _branches(list(self.models), arguments, one, many, most)
        missing = _branches(
            self.unresolved, arguments, "model_id = {model}", "model_id = ANY ({models})", most
        )
        return [_WITHOUT_MODEL, *missing]


def _branches(
    ids: Sequence[int | UUID], arguments: list[Any], of_one: str, of_many: str, most: int
) -> list[Branch]:
    """Return a branch for each model, or one for many: more than `most`."""
    if len(ids) > most:
        arguments.append(ids)
        return [Branch(of_many.format(models=f"${len(arguments)}"))]
    first = len(arguments) + 1
    arguments += ids
    return [Branch(of_one.format(model=f"${first + at}")) for at in range(len(ids))]


#: Which argument of a statement the status is.
_STATUS_ARGUMENT = {
    "requests_timed": "$3",
    "requests_untimed": "$1",
    "requests_count": "$3",
    "plot_end": "$3",
    "plot_slots": "$1",
    "plot_slots_citus": "$1",
}


def status_value(argument: str, type_: str) -> str:
    """Return the argument of a statement as a value of the type of the statuses."""
    # A type with a schema is not built in: a cast from text may run what its owner made.
    return f"{argument}::{'' if '.' in type_ else 'text::'}{type_}"


_NO_VALUE = (
    asyncpg.InvalidDatetimeFormatError,
    asyncpg.DatetimeFieldOverflowError,
    asyncpg.InvalidTextRepresentationError,
    asyncpg.NumericValueOutOfRangeError,
)


async def fetch(snapshot: Snapshot, sql: str, *arguments: Any, timeout: float) -> list[asyncpg.Record]:
    """Run a statement over the three tables; its errors become ours."""
    try:
        return await snapshot.fetch(sql, *arguments, timeout=timeout)
    except _NO_VALUE as error:
        # The only text that is cast is the value at which a page begins.
        raise wrong_cursor() from error
    except asyncpg.PostgresError as error:
        if type(error) is asyncpg.DataError:
            # asyncpg's own, of an argument: only a cursor's id can be of another type than the table's.
            raise wrong_cursor() from error
        raise unreadable(error) from error


def unreadable(error: asyncpg.PostgresError) -> ChatStatsError:
    return reading_error(
        error,
        timed_out="the requests could not be read in time",
        failed="the requests cannot be read",
    )


def model_of(record: asyncpg.Record) -> Model:
    provider = {"id": record["provider_id"], "name": record["provider_name"], "slug": record["provider_slug"]}
    names = ("id", "model_id", "model_name", "model_identifier", "provider_model_id", "provider_id")
    nested = orjson.dumps({**{name: record[name] for name in names}, "providers": provider}, default=str)
    return Model(record["id"], {name: record[name] for name in MODEL_COLUMNS}, orjson.Fragment(nested))
