"""Compares declared dimensions with the columns that the requests have."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import asyncpg

from chat_stats.service.catalogue.dimensions import Dimension, columns_of
from chat_stats.service.database import queries
from chat_stats.service.errors import SchemaError

_TEXTS = ("text", "varchar", "bpchar", "name")
_INTEGERS = ("int2", "int4", "int8")
_OTHERS = ("uuid", "bool", "numeric", "date", "inet", "cidr", "macaddr")
_JSON = ("json", "jsonb")

Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]


@dataclass(frozen=True, slots=True)
class ColumnType:
    """The type of a column: `name` as declared, `base` without its domain and length."""

    name: str
    base: str
    category: str

    @property
    def is_text(self) -> bool:
        """Whether its values are compared as text is."""
        return self.base in ("text", "varchar")

    @property
    def is_integer(self) -> bool:
        return self.base in _INTEGERS

    @property
    def is_padded(self) -> bool:
        return self.base == "bpchar"

    @property
    def is_json(self) -> bool:
        return self.base in _JSON

    @property
    def can_group(self) -> bool:
        """Whether its values, as text, tell requests apart: enums and kinds of text, but no floats."""
        return self.base in (*_TEXTS, *_INTEGERS, *_OTHERS) or self.category in ("E", "S")


ColumnTypes = Mapping[str, ColumnType]


async def column_types(fetch: Fetch, dimensions: Iterable[Dimension]) -> ColumnTypes:
    """Return the types of the declared columns; `SchemaError` names the dimension that cannot be used."""
    wanted = list(dimensions)
    types = await read_types(fetch, columns_of(wanted))
    for dimension in wanted:
        if (trouble := trouble_with(dimension, types)) is not None:
            raise SchemaError(f"CHAT_STATS_DIMENSIONS, {dimension}: {trouble}")
    return types


async def read_types(fetch: Fetch, columns: list[str]) -> ColumnTypes:
    """Return the types of those of the columns that there are."""
    records = await fetch(queries.load("dimension_columns"), columns) if columns else []
    return {
        record["name"]: ColumnType(record["type"], record["base"], record["category"]) for record in records
    }


def trouble_with(dimension: Dimension, types: ColumnTypes) -> str | None:
    """Return why a dimension cannot be used; None: it can."""
    column = dimension.column
    if column is None:
        return None
    found = types.get(column)
    if found is None:
        return f"chat_completion_requests has no column {column}"
    if dimension.key is not None:
        return None if found.is_json else f"the column {column} is {found.name}, not json or jsonb"
    if found.is_json:
        return f"the column {column} is {found.name}: name a key, as in team={column}->>team"
    return None if found.can_group else f"the column {column} is {found.name}, which cannot be grouped by"
