"""The forms in which requests leave: JSON, CSV, NDJSON, Parquet. Each writes a page batch by batch."""

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson

from chat_stats.service.errors import InvalidParameter, NotAcceptable
from chat_stats.service.explorer.parquet import ParquetEncoder
from chat_stats.service.explorer.requests import Row

_JSON_OPTIONS = orjson.OPT_UTC_Z

#: What a spreadsheet may take for a formula: a text that begins with = + - @, full-width or small ones too,
#: after characters that are not seen; or with a tab or line end, after which a new cell may begin.
_FORMULA = re.compile(
    r"[\s\x00-\x1f\u00ad\u200b-\u200f\u2060\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b]|[\t\r\n]"
)


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    media_type: str
    #: As the Content-Type header says it.
    content_type: str
    #: Whether rows may hold the nested object `models`.
    nested: bool


FORMATS = {
    format_.name: format_
    for format_ in (
        Format("json", "application/json", "application/json", nested=True),
        Format("csv", "text/csv", "text/csv; charset=utf-8; header=present", nested=False),
        Format("ndjson", "application/x-ndjson", "application/x-ndjson", nested=True),
        Format("parquet", "application/vnd.apache.parquet", "application/vnd.apache.parquet", nested=False),
    )
}
JSON = FORMATS["json"]

#: Other names of the same media types.
_ALIASES = {"application/ndjson": "ndjson", "application/jsonl": "ndjson", "application/x-parquet": "parquet"}
_BY_MEDIA_TYPE = {format_.media_type: format_ for format_ in FORMATS.values()} | {
    alias: FORMATS[name] for alias, name in _ALIASES.items()
}


def choose_format(name: str | None, accept: str | None) -> Format:
    """Return the format that the parameter `format` names, else the one that Accept prefers (RFC 9110).

    Raises `InvalidParameter` for an unknown name, `NotAcceptable` when Accept allows none of them.
    """
    if name is not None:
        if name not in FORMATS:
            raise InvalidParameter("format", f"unknown format {name[:40]!r}; known: {', '.join(FORMATS)}")
        return FORMATS[name]
    if accept is None or not accept.strip():
        return JSON
    ranges = _accepted(accept)
    # The order of FORMATS decides between equals, so JSON comes first.
    quality, _, best = max(
        (_quality(media_type, ranges), -place, format_)
        for place, (media_type, format_) in enumerate(
            sorted(_BY_MEDIA_TYPE.items(), key=lambda item: list(FORMATS).index(item[1].name))
        )
    )
    if quality <= 0:
        raise NotAcceptable(
            f"Accept allows none of: {', '.join(known.media_type for known in FORMATS.values())}"
        )
    return best


def _accepted(accept: str) -> dict[str, float]:
    """Return the quality of each media range of an Accept header; one that cannot be read is 0."""
    ranges: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        known = re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", quality)
        ranges[media_range] = max(ranges.get(media_range, 0.0), float(quality) if known else 0.0)
    return ranges


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """Return the quality by the most specific range that fits."""
    for candidate in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0


class Encoder(Protocol):
    """Writes rows; what it returns, in this order and one after the other, is the body. Always closed."""

    async def start(self) -> bytes: ...
    async def rows(self, rows: Sequence[Row]) -> tuple[bytes, int]:
        """Return the next piece of the body, which may lack the last rows, and the size of these rows."""
        ...

    async def end(self, metadata: dict[str, Any]) -> bytes: ...
    async def close(self) -> None: ...


class TextEncoder(ABC):
    """Writes text, at once; there is nothing to close."""

    async def start(self) -> bytes:
        return b""

    async def rows(self, rows: Sequence[Row]) -> tuple[bytes, int]:
        encoded = self.encode(rows)
        return encoded, len(encoded)

    async def end(self, metadata: dict[str, Any]) -> bytes:
        return b""

    async def close(self) -> None:
        return

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> bytes: ...


class JsonEncoder(TextEncoder):
    """`{"success": true, "data": [...], "metadata": {...}}`; what is known only at the end stands there."""

    def __init__(self, fields: Sequence[str], kinds: Mapping[str, str]) -> None:
        self._fields = fields
        self._kinds = kinds
        self._first = True

    async def start(self) -> bytes:
        return b'{"success":true,"data":['

    def encode(self, rows: Sequence[Row]) -> bytes:
        encoded = encode(objects(rows, self._fields, self._kinds))[1:-1]
        if self._first or not encoded:
            self._first = self._first and not encoded
            return encoded
        return b"," + encoded

    async def end(self, metadata: dict[str, Any]) -> bytes:
        return b'],"metadata":' + encode(metadata) + b"}"


class NdjsonEncoder(TextEncoder):
    """One object a line."""

    def __init__(self, fields: Sequence[str], kinds: Mapping[str, str]) -> None:
        self._fields = fields
        self._kinds = kinds

    def encode(self, rows: Sequence[Row]) -> bytes:
        return b"".join(encode(row) + b"\n" for row in objects(rows, self._fields, self._kinds))


class CsvEncoder(TextEncoder):
    """RFC 4180, with a header line. Null is an empty cell.

    Text that a spreadsheet would take for a formula gets an apostrophe in front: names and error messages
    come from strangers, and these files are made for spreadsheets. Numbers stay as they are.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer)

    async def start(self) -> bytes:
        self._writer.writerow([_cell(name) for name in self._fields])
        return self._drain()

    def encode(self, rows: Sequence[Row]) -> bytes:
        self._writer.writerows([_cell(value) for value in row] for row in rows)
        return self._drain()

    def _drain(self) -> bytes:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"  # as in JSON
    return iso(value) if isinstance(value, datetime) else value


def encoder(format_: Format, fields: Sequence[str], kinds: Mapping[str, str]) -> Encoder:
    """Return what writes `fields`, with values of these kinds, in that format."""
    match format_.name:
        case "csv":
            return CsvEncoder(fields)
        case "ndjson":
            return NdjsonEncoder(fields, kinds)
        case "parquet":
            return ParquetEncoder(fields, kinds)
        case _:
            return JsonEncoder(fields, kinds)


def objects(rows: Sequence[Row], fields: Sequence[str], kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return rows as objects for JSON, with the JSON that they contain as it is."""
    json_fields = [name for name in fields if kinds.get(name) == "json"]
    found = [dict(zip(fields, row, strict=True)) for row in rows]
    for each in found if json_fields else ():
        for name in json_fields:
            each[name] = _as_json(each[name])
    return found


def _as_json(text: str | None) -> Any:
    """Return what stands for JSON of the table: text where Postgres takes it for JSON and readers do not."""
    try:
        orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return text
    # Line ends stand between its tokens alone, and NDJSON has one object a line.
    return None if text is None else orjson.Fragment(text.replace("\n", " ").replace("\r", " "))


def encode(value: Any) -> bytes:
    """Return JSON; ids that are UUIDs become text."""
    return orjson.dumps(value, default=str, option=_JSON_OPTIONS)


def iso(moment: datetime) -> str:
    """Return a moment as it stands in JSON."""
    return orjson.dumps(moment, option=_JSON_OPTIONS).decode()[1:-1]
