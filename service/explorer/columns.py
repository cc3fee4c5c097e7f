"""What single requests show: the columns that all answers have, and those that only some gateways have.

`CHAT_STATS_REQUEST_COLUMNS` names the latter. Moments, numbers and texts have one form each, whatever their
type in the table. Values of types that users made are shown as Postgres prints them: a cast may run what a
user wrote.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.service.explorer.query import FLAT_FIELDS, IN_CALENDAR, MODEL_COLUMNS, NESTED, REQUEST_COLUMNS
from chat_stats.service.settings import ALL_COLUMNS, KNOWN_REQUEST_COLUMNS, PREFIX

#: The kinds of the values of the columns that every answer has. Ids are numbers or text; others are text.
_KINDS = {
    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), "int"),
    **dict.fromkeys(("processing_time_ms", "cost_usd"), "float"),
    "created_at": "moment",
}
_WHOLE_NUMBERS = ("int2", "int4", "int8")

#: The kind of a column's values and how it is read, by its type. Null is what JSON has no form for: NaN,
#: infinities, moments that ISO 8601 does not know.
_FORMS = {
    **dict.fromkeys(_WHOLE_NUMBERS, ("int", "{0}::bigint")),
    **dict.fromkeys(
        ("numeric", "float8"), ("float", "CASE WHEN {0} BETWEEN -1e300 AND 1e300 THEN {0}::float8 END")
    ),
    # By its text: 0.1 is 0.1, and not 0.10000000149.
    "float4": ("float", "CASE WHEN {0} BETWEEN -3.5e38 AND 3.5e38 THEN {0}::text::float8 END"),
    "bool": ("bool", "{0}"),
    **dict.fromkeys(("json", "jsonb"), ("json", "{0}::text")),
    **dict.fromkeys(
        ("timestamptz", "timestamp"),
        ("moment", f"CASE WHEN {IN_CALENDAR} THEN {{0}}::timestamptz END"),
    ),
    "date": ("date", "CASE WHEN {0} BETWEEN '0001-01-01' AND '9999-12-31' THEN {0} END"),
    "bpchar": ("text", "{0}::text"),  # without the blanks at its end
}
_ARRAY = ("json", "to_json({0})::text")
_OTHER = ("text", "CASE WHEN {0} IS DISTINCT FROM NULL THEN concat({0}) END")
_MISSING = ("text", "NULL::text")


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of single requests in one database."""

    #: How each column that only some gateways have is read.
    further: Mapping[str, str]
    #: Those of them that the table has. The others are shown only when asked for, and null.
    present: Sequence[str]
    #: The kind of each field; text where there is none.
    kinds: Mapping[str, str]
    status_type: str = "text"
    #: The types of the built-in columns that are numbers.
    numbers: Mapping[str, str] = field(default_factory=dict)

    def shown(self, *, nested: bool) -> tuple[str, ...]:
        """Return the fields of a row when none are chosen."""
        if nested:
            return (*REQUEST_COLUMNS, *self.present, NESTED)
        return (*FLAT_FIELDS, *self.present)

    def parse_fields(self, text: str | None, *, nested: bool) -> tuple[str, ...]:
        """Read the comma-separated `fields`."""
        if text is None:
            return self.shown(nested=nested)
        known = (*FLAT_FIELDS, *self.further, *((NESTED,) if nested else ()))
        fields = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        for name in fields:
            if name not in known:
                raise InvalidParameter("fields", f"unknown field {name[:40]!r}; known: {', '.join(known)}")
        return fields

    def read_for(self, fields: Sequence[str]) -> dict[str, str]:
        """Return what to read for `fields`, and how: id, model and time too, by which the order goes on."""
        known = {**REQUEST_COLUMNS, **self.further}
        names = dict.fromkeys(("id", "model_id", "created_at", *fields))
        return {name: known[name] for name in names if name in known}

    def read_in_branches(self, names: Iterable[str]) -> str:
        """Return what the branches of a statement read beside what they always do."""
        return "".join(f", {_quoted(name)}" for name in names if name in self.present)


def columns_of(records: Iterable[asyncpg.Record], wanted: Sequence[str] | None) -> Columns:
    """Return what there is of the wanted columns, in a table whose columns `requests_columns.sql` returned.

    Raises `SchemaError`, naming them, for those that are missing.
    """
    records = list(records)
    table = {record["name"]: record for record in records if not record["of_models"]}
    ids = {record["name"]: record for record in records if record["of_models"]}
    ids |= {name: table[name] for name in ("id", "model_id") if name in table}
    forms = {name: _form(table.get(name)) for name in _chosen(tuple(table), wanted)}
    return Columns(
        {name: f"{how.format(f'r.{_quoted(name)}')} AS {_quoted(name)}" for name, (_, how) in forms.items()},
        [name for name in forms if name in table],
        {
            **_KINDS,
            **{name: "int" for name, record in ids.items() if record["type"] in _WHOLE_NUMBERS},
            **{name: kind for name, (kind, _) in forms.items()},
        },
        table["status"]["declared"] if "status" in table else "text",
        {
            name: record["type"]
            for name, record in table.items()
            if record["built_in"] and _FORMS.get(record["type"], _OTHER)[0] in ("int", "float")
        },
    )


def _chosen(table: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Return the columns that are shown beside those of every answer."""
    names: Sequence[str] = KNOWN_REQUEST_COLUMNS
    if wanted is not None:
        missing = [name for name in wanted if name not in (*table, *REQUEST_COLUMNS, ALL_COLUMNS)]
        if missing:
            raise SchemaError(
                f"{PREFIX}REQUEST_COLUMNS names columns that chat_completion_requests lacks, or that the "
                f"service may not read: {', '.join(missing)}"
            )
        names = (*wanted, *table) if ALL_COLUMNS in wanted else wanted
    # A field has one meaning: that of every answer.
    taken = (*REQUEST_COLUMNS, *MODEL_COLUMNS, NESTED, ALL_COLUMNS)
    return [name for name in dict.fromkeys(names) if name not in taken]


def _form(column: asyncpg.Record | None) -> tuple[str, str]:
    """Return the kind of a column's values, and how it is read."""
    if column is None:
        return _MISSING
    if not column["built_in"]:
        return _OTHER
    return _ARRAY if column["is_array"] else _FORMS.get(column["type"], _OTHER)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
