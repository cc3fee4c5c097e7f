"""Turns the records of a log into rows for `chat_completion_requests`, or says why a record is bad."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from chat_stats.service.catalogue.statuses import Statuses
from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.worker.importer.fields import (
    REQUIRED,
    TOKENS,
    Column,
    Converter,
    converter,
    find_columns,
    option,
)
from chat_stats.worker.importer.rows import BadLine, LogFile, shown

REQUESTS = "chat_completion_requests"
DEFAULT_PROVIDER = "imported"
DEFAULT_STATUSES = Statuses()

#: Line of the record, (provider's name, model's name), values for `Requests.columns`.
Request = tuple[int, tuple[str, str], list[object]]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to read a file.

    `columns` names the file's column for a field (`worker.importer.fields.FIELDS`), "" for none; other fields
    are recognised by their columns' names. `provider` and `model` are names for all requests; without them
    the file's columns are used, and without such columns "imported" and the file's name. With `skip_bad` the
    good lines are loaded and the bad ones skipped. With `empty_tokens` an empty token cell means "not known",
    and does not make the line bad.
    """

    provider: str | None = None
    model: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    delimiter: str = ","
    skip_bad: bool = False
    empty_tokens: bool = False


@dataclass(frozen=True, slots=True)
class _Cell:
    """How one cell of a record is converted."""

    place: int
    name: str
    convert: Converter
    if_empty: str | None  # why it must not be empty; None: it may be


class Requests:
    """The requests of a file; `columns` are the table's columns that they fill, except `model_id`.

    `table` holds the columns that chat_completion_requests has, `statuses` what those mean.
    """

    def __init__(
        self,
        file: LogFile,
        options: ImportOptions,
        table: Mapping[str, Column],
        statuses: Statuses = DEFAULT_STATUSES,
    ) -> None:
        self._file = file
        places = find_columns(file.header, options.columns)
        self._provider = _name("provider", options.provider, options, places, DEFAULT_PROVIDER)
        self._model = _name("model", options.model, options, places, file.path.stem)
        self._cells = {
            name: cell
            for name, place in places.items()
            if name not in ("provider", "model")
            and (cell := _cell(name, place, file.header[place], options, table.get(name))) is not None
        }
        #: The file's column for each field that is loaded.
        self.fields = {
            name: file.header[place]
            for name, place in places.items()
            if name in self._cells or name in ("provider", "model")
        }
        file.needed = frozenset(places.values())
        self._generated = _generated_values(table, self._cells, statuses)
        self.columns = [*self._cells, *self._generated]
        self._tokens = tuple(self.columns.index(name) for name in TOKENS)

    def __iter__(self) -> Iterator[Request | BadLine]:
        width = len(self._file.header)
        cells = [(cell.place, cell.name, cell.convert, cell.if_empty) for cell in self._cells.values()]
        made = list(self._generated.values())
        for record in self._file.records():
            if isinstance(record, BadLine):
                yield record
                continue
            line, fields = record
            try:
                if len(fields) != width:
                    raise ValueError(f"{len(fields)} fields where the first line has {width}")
                values: list[object] = []
                for place, name, convert, if_empty in cells:
                    text = fields[place].strip()
                    if text:
                        values.append(convert(text))
                    elif if_empty is None:
                        values.append(None)
                    else:
                        raise ValueError(f"{name} is empty{if_empty}")
                key = (self._provider(fields), self._model(fields))
            except ValueError as error:
                yield BadLine(line, f"{error}{self._hint(line)}")
                continue
            values.extend(make() for make in made)
            yield line, key, values

    def _hint(self, line: int) -> str:
        if self._file.lines > 1:
            return f"; it goes on to line {line + self._file.lines - 1}, is a quote not closed?"
        return "; the file ends in this line, is it cut off?" if self._file.cut else ""

    def tokens(self, values: list[object]) -> tuple[int, int]:
        """Return the input and output tokens of a request; 0 if not known."""
        given, answered = (values[place] for place in self._tokens)
        return int(given or 0), int(answered or 0)  # type: ignore[call-overload]  # they are int or Decimal


def _name(
    what: str, name: str | None, options: ImportOptions, places: dict[str, int], default: str
) -> Callable[[list[str]], str]:
    """Return the function that finds the provider's or model's name of a record."""
    place = places.get(what)
    if name is None and place is not None:
        return _name_from(what, place)
    if name is not None and what in options.columns:
        raise InvalidParameter(what, f"give either --{what} or {option(what)}, not both")
    places.pop(what, None)
    fixed = (default if name is None else name).strip()
    if problem := _name_problem(what, fixed):
        raise InvalidParameter(what, f"--{what}: {problem}")
    return lambda _fields: fixed


def _name_from(what: str, place: int) -> Callable[[list[str]], str]:
    usable: set[str] = set()

    def name(fields: list[str]) -> str:
        text = fields[place].strip()
        if text not in usable:
            if problem := _name_problem(what, text):
                hint = (
                    ""
                    if text
                    else f" (--{what} names one for all requests, --skip-bad leaves such lines out)"
                )
                raise ValueError(f"{problem}{hint}")
            usable.add(text)
        return text

    return name


def _name_problem(what: str, name: str) -> str | None:
    if not any(character.isalnum() for character in name):
        return f"the {what}'s name {shown(name)} holds no letter or digit" if name else f"{what} is empty"
    return None if name.isprintable() and len(name) <= 200 else f"{shown(name)} cannot be a {what}'s name"


def _cell(name: str, place: int, heading: str, options: ImportOptions, column: Column | None) -> _Cell | None:
    """Return how a column's cells are converted; None if the table cannot hold them."""
    if column is None:
        if name in options.columns:
            raise InvalidParameter(
                f"{name}_column", f"{option(name)}: the table {REQUESTS} has no column {name}"
            )
        return None
    try:
        convert = converter(name, heading, column)
    except SchemaError:
        if name in REQUIRED or name in options.columns:
            raise
        return None
    if_empty = None
    if column.not_null:
        if_empty = f", and {column.table}.{column.name} must have a value"
    elif name in TOKENS and not options.empty_tokens:
        if_empty = " (--empty-tokens loads such requests without a count)"
    elif name == "created_at":
        if_empty = ""
    return _Cell(place, heading, convert, if_empty)


def _generated_values(
    table: Mapping[str, Column], cells: Mapping[str, object], statuses: Statuses
) -> dict[str, Callable[[], object]]:
    """Return generators for columns that neither the file nor a default fills as a log needs it."""
    made: dict[str, Callable[[], object]] = {}
    for name in ("id", "request_id"):
        column = table.get(name)
        if column is not None and column.not_null and not column.has_default and name not in cells:
            made[name] = new_id(column)
    status = table["status"]
    begins_pending = (status.default_text() or "").lower() in statuses.pending
    if "status" not in cells and (not status.has_default or begins_pending):
        # The log has no status. Requests without one would count as failed, and with that
        # in which the gateway inserts its own, as pending for ever.
        completed = next(iter(statuses.success), "completed")
        made["status"] = lambda: completed
    return made


def new_id(column: Column) -> Callable[[], object]:
    """Return a generator of ids for a column without a default: some gateways make ids in the application."""
    if column.type == "uuid":
        return uuid4
    if column.is_text and not column.is_enum:
        return lambda: str(uuid4())
    raise SchemaError(f"{column.table}.{column.name} ({column.declared}) has no default for ids: give it one")
