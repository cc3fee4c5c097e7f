"""Compares declared dimensions with the columns that the requests have."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
    """The type of a column: `name` as declared, `base` without its domain and length.

    `compared_by` are `rules` where its collation is nondeterministic, so that different texts are equal.
    """

    name: str
    base: str
    category: str
    compared_by: str = "bytes"

    @property
    def is_text(self) -> bool:
        """Whether its values are compared as text is."""
        return self.base in ("text", "varchar") and self.compared_by == "bytes"

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
    columns = columns_of(wanted)
    types = types_of(await fetch(queries.load("dimension_columns"), columns) if columns else [])
    check_types(wanted, types)
    return types


def types_of(columns: Iterable[Sequence[str] | asyncpg.Record]) -> ColumnTypes:
    """Return the types of columns, of each of which name, type, base and category are given."""
    return {name: ColumnType(*type_) for name, *type_ in columns}


def check_types(dimensions: Iterable[Dimension], types: ColumnTypes) -> None:
    """Raise `SchemaError` for a dimension that cannot be used, and name it."""
    for dimension in dimensions:
        if (trouble := trouble_with(dimension, types)) is not None:
            raise SchemaError(f"CHAT_STATS_DIMENSIONS, {dimension}: {trouble}")


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
