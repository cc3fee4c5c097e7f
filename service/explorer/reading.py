"""What reading single requests works on: the models that are meant, and statements over their requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from chat_stats.service.database import queries
from chat_stats.service.database.errors import reading_error
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import InvalidParameter
from chat_stats.service.explorer.query import MODEL_COLUMNS, Filters, Position, wrong_cursor

#: Rows of the first batch, which is to come soon, and of the later ones; fewer when rows are long.
FIRST_BATCH_ROWS = 100
BATCH_ROWS = 1000
BATCH_BYTES = 1_000_000

#: Up to so many models, each one's requests are read in order and merged: then rare models are found at once.
#: Beyond that all requests are read in order, and those of other models passed over.
MERGED_MODELS = 64


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
    status_type: str
    timeout: float
    #: Of the last row returned; None when there are no more rows after it.
    next: Position | None = None
    returned: int = 0
    #: Rows of the next batch: `fit_batches` goes by how long they are.
    batch_rows: int = FIRST_BATCH_ROWS

    def fit_batches(self, rows: int, encoded_bytes: int) -> None:
        """Choose the size of the next batch by that of the last one."""
        self.batch_rows = max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(1, encoded_bytes)))

    @property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        return self.filters.range.bounds(self.as_of)

    def statement(self, name: str, arguments: list[Any], columns: Sequence[str] = ()) -> str:
        """Return a statement over the requests; what it needs beyond `arguments` is appended to them."""
        whole, _, branch = queries.load(name).partition("\n-- branch")
        branch = branch.partition("\n(")[2]
        argument = _STATUS_ARGUMENT[name]
        status = f"{argument}::text IS NULL"
        if self.filters.status is not None:
            # A type with a schema is not built in: a cast from text may run what its owner made.
            by = "" if "." in self.status_type else "text::"
            status = f"status = {argument}::{by}{self.status_type}"
        columns_text = ", ".join(columns)
        branches = [
            "(" + branch.format(models=models, status=status, columns=columns_text)
            for models in self._models_of_branches(arguments)
        ]
        return whole.format(columns=columns_text, branches=" UNION ALL ".join(branches))

    def _models_of_branches(self, arguments: list[Any]) -> list[str]:
        """Return what each branch says of `model_id`."""
        ids = list(self.models)
        if len(ids) > MERGED_MODELS:
            arguments.append(ids)
            return [queries.load("of_many_models").format(models=f"${len(arguments)}")]
        arguments += ids
        first = len(arguments) - len(ids) + 1
        return [queries.load("of_one_model").format(model=f"${first + at}") for at in range(len(ids))]


#: Which argument of a statement the status is.
_STATUS_ARGUMENT = {
    "requests_timed": "$3",
    "requests_untimed": "$1",
    "requests_count": "$3",
    "plot_end": "$3",
    "plot_slots": "$1",
}


async def fetch(snapshot: Snapshot, sql: str, *arguments: Any, timeout: float) -> list[asyncpg.Record]:
    """Run a statement over the three tables; its errors become ours."""
    try:
        return await snapshot.fetch(sql, *arguments, timeout=timeout)
    except asyncpg.InvalidTextRepresentationError as error:
        # The only text that is cast to a type of the gateway's.
        raise InvalidParameter("status", "status is not one that a request can have") from error
    except (asyncpg.InvalidDatetimeFormatError, asyncpg.DatetimeFieldOverflowError) as error:
        # So is the moment at which a page begins.
        raise wrong_cursor() from error
    except asyncpg.PostgresError as error:
        if type(error) is asyncpg.DataError:
            # asyncpg's own, of an argument: only a cursor's id can be of another type than the table's.
            raise wrong_cursor() from error
        raise reading_error(
            error,
            timed_out="the requests could not be read in time",
            failed="the requests cannot be read",
        ) from error


def model_of(record: asyncpg.Record) -> Model:
    provider = {"id": record["provider_id"], "name": record["provider_name"], "slug": record["provider_slug"]}
    names = ("id", "model_id", "model_name", "model_identifier", "provider_model_id", "provider_id")
    nested = orjson.dumps({**{name: record[name] for name in names}, "providers": provider}, default=str)
    return Model(record["id"], {name: record[name] for name in MODEL_COLUMNS}, orjson.Fragment(nested))
