"""Maps columns of a log to fields of a request, and their cells to values for the table."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from uuid import UUID

from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.worker.importer.rows import shown

#: The fields, and the names of their columns; the first name that the file has is used. Case, spaces and
#: punctuation do not matter: `ContextTokens` is `context_tokens`.
FIELDS: dict[str, tuple[str, ...]] = {
    "created_at": ("created_at", "timestamp", "time", "date", "datetime", "start_time"),
    "input_tokens": ("input_tokens", "prompt_tokens", "context_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "generated_tokens"),
    "processing_time_ms": ("processing_time_ms", "latency_ms", "duration_ms"),
    "status": ("status",),
    "cost_usd": ("cost_usd", "cost"),
    "error_message": ("error_message", "error"),
    "user_id": ("user_id", "user"),
    "request_id": ("request_id",),
    "model": ("model", "model_name"),
    "provider": ("provider", "provider_name"),
}
REQUIRED = ("created_at", "input_tokens", "output_tokens")
TOKENS = ("input_tokens", "output_tokens")

#: Turns the text of a cell that is not empty into a value; raises ValueError with the reason.
Converter = Callable[[str], object]

MAX_BIGINT = 2**63 - 1
_INTEGER_LIMITS = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": MAX_BIGINT}
#: Most digits of an amount before the decimal point, and after it; longer ones are refused.
_WHOLE_DIGITS, _DECIMALS = 18, 300
_EXACT = Context(prec=2 * (_WHOLE_DIGITS + _DECIMALS))
#: Log writers without a time write the year 1, and asyncpg stores Python's last moment as infinity.
_YEARS = range(1970, 9999)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UNITS = {10: 1_000_000, 13: 1_000, 16: 1}  # microseconds, by the number of digits
_OR_EPOCH = ", nor seconds, milli- or microseconds since 1970 (10, 13 or 16 digits)"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: `type` is the base type's name in pg_type, `declared` as in CREATE TABLE.

    `default` is its expression, None for an identity or no default.
    """

    table: str
    name: str
    type: str
    declared: str
    is_enum: bool
    not_null: bool
    has_default: bool
    default: str | None = None

    @property
    def is_text(self) -> bool:
        return self.type in ("text", "varchar", "bpchar") or self.is_enum

    def default_text(self) -> str | None:
        """Return the text of a default such as `'pending'::text`."""
        literal = re.match(r"'([^']*)'", self.default or "")
        return literal and literal.group(1)

    def modifiers(self) -> list[int]:
        """Return the numbers of e.g. `numeric(10,2)` or `character varying(50)`."""
        return [
            int(number) for number in re.findall(r"-?\d+", "".join(re.findall(r"\((.*?)\)", self.declared)))
        ]


def option(field: str) -> str:
    """Return the command line's option that names a field's column."""
    return f"--{field.replace('_', '-')}-column"


def find_columns(header: Sequence[str], named: Mapping[str, str]) -> dict[str, int]:
    """Return the index in `header` of each field that the file has; `named` columns come first.

    A field whose column is named "" is left out. Raises `InvalidParameter` for a name that the file lacks, a
    required field without a column, and a column that occurs twice.
    """
    if unknown := named.keys() - FIELDS.keys():
        raise InvalidParameter("columns", f"unknown field(s) {', '.join(sorted(unknown))}")
    found = {
        field: _place(header, field, [name], exact=True) if name else None for field, name in named.items()
    }
    taken = set(found.values())
    for field, names in FIELDS.items():
        if field not in found:
            place = _place(header, field, names)
            found[field] = None if place in taken else place
    for field in REQUIRED:
        if found[field] is None:
            raise InvalidParameter(
                f"{field}_column",
                f"no column is recognised as {field}: name it with {option(field)}. {_columns_of(header)}",
            )
    return {field: place for field, place in found.items() if place is not None}


def _place(header: Sequence[str], field: str, names: Sequence[str], *, exact: bool = False) -> int | None:
    for name in names:
        wanted = [place for place, column in enumerate(header) if column == name.strip()] if exact else []
        wanted = wanted or [place for place, column in enumerate(header) if _plain(column) == _plain(name)]
        if len(wanted) > 1:
            raise InvalidParameter(
                f"{field}_column",
                f"the file has {len(wanted)} columns {shown(name)}: name another one with {option(field)}",
            )
        if wanted:
            return wanted[0]
    if exact:
        raise InvalidParameter(
            f"{field}_column", f"{option(field)}: no column {shown(names[0])}. {_columns_of(header)}"
        )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def _columns_of(header: Sequence[str]) -> str:
    text = f"The file's first line has: {', '.join(name[:40] for name in header[:30])}"
    if len(header) == 1 and (other := re.search(r"[;\t|,]", header[0])):
        text += f" (one column; is the delimiter {shown(other.group())}? See --delimiter)"
    return text


def converter(field: str, name: str, column: Column) -> Converter:
    """Return the function that converts cells of the file's column `name` to values for the table's `column`.

    Raises `SchemaError` if the type of `column` cannot hold the field.
    """
    if field == "created_at" and column.type in ("timestamptz", "timestamp"):
        return _moments(name, aware=column.type == "timestamptz")
    if field in TOKENS and (column.type in _INTEGER_LIMITS or column.type == "numeric"):
        return _tokens(name, column)
    if field in ("processing_time_ms", "cost_usd"):
        if column.type in (*_INTEGER_LIMITS, "numeric", "float4", "float8"):
            return _amounts(name, column)
    elif field not in REQUIRED:
        if column.is_text:
            return _statuses(name, column) if field == "status" else _texts(name, column)
        if column.type == "uuid":
            return _uuids(name)
        if column.type in _INTEGER_LIMITS:
            return _integers(name, _INTEGER_LIMITS[column.type])
    raise SchemaError(
        f"{column.table}.{column.name} is of type {column.declared}: it cannot be imported into"
    )


def _moments(name: str, *, aware: bool) -> Converter:
    def convert(text: str) -> object:
        # Bare digits come first: fromisoformat reads some of them as a compact date.
        moment = _from_epoch(text) if text[4:5] != "-" else None
        if moment is None:
            try:
                moment = datetime.fromisoformat(text.removesuffix(" UTC"))  # as BigQuery writes it
                moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            except (ValueError, OverflowError):
                raise ValueError(
                    f"{name} {shown(text)} is not an ISO 8601 date and time{_OR_EPOCH}"
                ) from None
        if moment.year not in _YEARS:
            raise ValueError(f"{name} {shown(text)} is not in the years {_YEARS[0]} to {_YEARS[-1]}")
        return moment if aware else moment.replace(tzinfo=None)

    return convert


def _from_epoch(text: str) -> datetime | None:
    """Read seconds, milli- or microseconds since 1970: 10, 13 or 16 digits in the years 2001 to 2286."""
    whole, _, fraction = text.partition(".")
    unit = _EPOCH_UNITS.get(len(whole))
    if unit is None or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return None
    return _EPOCH + timedelta(
        microseconds=int(whole) * unit + int((fraction + "0" * 6)[:6]) * unit // 1_000_000
    )


def _tokens(name: str, column: Column) -> Converter:
    integers = _integers(name, _INTEGER_LIMITS.get(column.type, MAX_BIGINT))
    return integers if column.type in _INTEGER_LIMITS else lambda text: Decimal(str(integers(text)))


def _integers(name: str, limit: int) -> Converter:
    def convert(text: str) -> object:
        if not (text.isascii() and text.isdigit()):
            # Table tools write 12 as `12.0` if the column has empty cells; `1.2E+07` may have lost digits.
            if re.fullmatch(r"-[0-9]+(\.[0-9]*)?", text):
                raise ValueError(f"{name} {shown(text)} is negative")
            if not re.fullmatch(r"\+?[0-9]+(\.0*)?", text):
                raise ValueError(f"{name} {shown(text)} is not a whole number")
            text = text.partition(".")[0]
        value = int(text) if len(text) <= 100 else limit + 1
        if value > limit:
            raise ValueError(f"{name} {shown(text)} is greater than {limit:,}")
        return value

    return convert


def _amounts(name: str, column: Column) -> Converter:
    decimals: int | None = None
    limit = Decimal(10) ** _WHOLE_DIGITS
    if column.type in _INTEGER_LIMITS:
        decimals, limit = 0, Decimal(_INTEGER_LIMITS[column.type]) + 1
    elif column.type == "numeric" and (modifiers := column.modifiers()):
        precision, decimals = [*modifiers, 0][:2]
        limit = min(limit, Decimal(10) ** (precision - decimals))

    def convert(text: str) -> object:
        try:
            value = Decimal(
                text if "_" not in text and text.isascii() else ""
            )  # Decimal also accepts underscores and other digits
        except InvalidOperation:
            raise ValueError(f"{name} {shown(text)} is not a number such as 0.0125") from None
        if not value.is_finite():
            raise ValueError(f"{name} {shown(text)} is not a finite number")
        if value < 0:
            raise ValueError(f"{name} {shown(text)} is negative")
        if value >= limit or value.as_tuple().exponent < -_DECIMALS:  # type: ignore[operator]  # it is finite
            raise ValueError(f"{name} {shown(text)} is out of range for {column.declared}")
        if decimals is not None:
            value = value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP, _EXACT)
            if value >= limit:
                raise ValueError(f"{name} {shown(text)} is out of range for {column.declared}")
        if column.type in _INTEGER_LIMITS:
            return int(value)
        return value if column.type == "numeric" else float(value)

    return convert


def _texts(name: str, column: Column) -> Converter:
    longest = column.modifiers()[0] if column.modifiers() else None

    def convert(text: str) -> object:
        if longest is not None and len(text) > longest:
            raise ValueError(f"{name} {shown(text)} is longer than {longest} characters")
        return text

    return convert


def _statuses(name: str, column: Column) -> Converter:
    texts = _texts(name, column)
    # Table tools write the HTTP status 200 as `200.0` if the column has empty cells.
    return lambda text: texts(re.sub(r"^([0-9]{3})\.0+$", r"\1", text))


def _uuids(name: str) -> Converter:
    def convert(text: str) -> object:
        try:
            return UUID(text)
        except ValueError:
            raise ValueError(f"{name} {shown(text)} is not a UUID") from None

    return convert
