"""Reads the records of a file of JSON lines: one object a line, its keys the names of columns."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chat_stats.service.errors import InvalidParameter
from chat_stats.worker.importer.rows import (
    SURROGATE,
    BadLine,
    BadLines,
    CsvFile,
    LogFile,
    Record,
    shown,
    unreadable,
)

#: Most keys of all objects together, so that ids as keys do not fill the memory.
MAX_KEYS = 1_000
#: Longest line, in characters.
MAX_LINE = 10_000_000

#: First bytes of files that must be unpacked or converted first: what they are, and what to do.
_PIPED = "unpack it first, {} FILE | chat-stats import -"
_TO_TEXT = "save its table as CSV or JSON lines"
_BINARY = {
    b"\x1f\x8b": ("compressed with gzip", _PIPED.format("zcat")),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", _PIPED.format("zstdcat")),
    b"BZh": ("compressed with bzip2", _PIPED.format("bzcat")),
    b"\xfd7zXZ": ("compressed with xz", _PIPED.format("xzcat")),
    b"PK\x03\x04": ("a zip archive or an Excel workbook", f"unpack it, or {_TO_TEXT}"),
    b"PAR1": ("a Parquet file", _TO_TEXT),
}

_NOT_STORABLE = "holds a NUL character or half of a surrogate pair, which Postgres cannot store"
_TOO_DEEP = "is nested too deeply"


class _Number(str):
    """A number as it is written: a cost keeps all its digits."""

    __slots__ = ()


class JsonLinesFile(LogFile):
    """A file with an object in each line. Its header has the keys of all of them.

    `nested` names values inside of objects, with dots: `usage.prompt_tokens`.
    """

    def __init__(self, path: Path, *, encoding: str, nested: Sequence[str] = ()) -> None:
        super().__init__(path, encoding)
        self._nested = [name for name in nested if "." in name]
        self.header = self._read_header()

    def records(self) -> Iterator[Record | BadLine]:
        needed = range(len(self.header)) if self.needed is None else self.needed
        for line, found in self._objects():
            if isinstance(found, BadLine):
                yield found
                continue
            try:
                fields = [
                    _text(_value(found, name)) if place in needed else ""
                    for place, name in enumerate(self.header)
                ]
            except RecursionError:
                yield BadLine(line, _TOO_DEEP)
                continue
            yield (line, fields) if all(map(_storable, fields)) else BadLine(line, _NOT_STORABLE)

    def _read_header(self) -> list[str]:
        names: dict[str, None] = {}
        first_bad = None
        for _, found in self._objects():
            if isinstance(found, BadLine):
                first_bad = first_bad or found
                continue
            names.update(dict.fromkeys(found))
            names.update(dict.fromkeys(name for name in self._nested if _value(found, name) is not None))
            if len(names) > MAX_KEYS:
                raise InvalidParameter("file", f"{self.path} has more than {MAX_KEYS:,} different keys")
        if not names and first_bad is not None:
            raise BadLines([first_bad], 1)
        return list(names)

    def _objects(self) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
        line = 0
        try:
            with self.path.open("rb") as raw:
                file = self._open(raw)
                while text := file.readline(MAX_LINE):
                    line += 1
                    if len(text) == MAX_LINE:
                        raise BadLines([BadLine(line, f"is longer than {MAX_LINE:,} characters")], 1)
                    if text.strip():
                        self.cut = text[-1] not in "\r\n"
                        problem = self._problem([text])
                        yield line, _parsed(line, text) if problem is None else BadLine(line, problem)
        except UnicodeError as error:
            raise self._refusal(error, line + 1) from error
        except OSError as error:
            raise unreadable(self.path, error) from error


def open_log(path: Path, *, encoding: str, delimiter: str, columns: Mapping[str, str]) -> LogFile:
    """Return the file as JSON lines if it begins with `{`, else as CSV; `columns` are those named."""
    start = _start(path)
    for magic, (what, to_do) in _BINARY.items():
        if start.startswith(magic):
            raise InvalidParameter("file", f"{path} is {what}: {to_do}")
    try:
        text = start.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
    except (LookupError, ValueError):
        text = ""  # CsvFile says what is wrong
    if re.match(r"\[\s*[{\]]", text):
        raise InvalidParameter(
            "file",
            f"{path} is a JSON array: give each line one object, jq -c '.[]' FILE | chat-stats import -",
        )
    if text.startswith("{"):
        return JsonLinesFile(path, encoding=encoding, nested=list(columns.values()))
    return CsvFile(path, encoding=encoding, delimiter=delimiter)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1_000)
    except OSError:
        return b""  # CsvFile says what is wrong


def _parsed(line: int, text: str) -> dict[str, Any] | BadLine:
    try:
        found = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    except json.JSONDecodeError as error:
        whole = "" if error.pos < len(text.rstrip()) else "; a line holds a whole object, as jq -c writes it"
        return BadLine(line, f"is not JSON: {error.msg} at column {error.colno}{whole}")
    except RecursionError:
        return BadLine(line, _TOO_DEEP)
    if isinstance(found, dict):
        return found
    return BadLine(line, f"is not an object: {shown(text.strip())}")


def _value(found: Mapping[str, Any], name: str) -> Any:
    if name in found or "." not in name:
        return found.get(name)
    first, _, rest = name.partition(".")
    inner = found.get(first)
    return _value(inner, rest) if isinstance(inner, dict) else None


def _storable(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not SURROGATE.search(text)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return _json(value)


def _json(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_json(key)}: {_json(inner)}" for key, inner in value.items()) + "}"
        case list():
            return f"[{', '.join(map(_json, value))}]"
        case _Number():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
