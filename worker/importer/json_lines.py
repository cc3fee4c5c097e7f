"""Reads the records of a file of JSON lines: one object a line, its keys the names of columns."""

import json
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

_NOT_STORABLE = "holds a NUL character or half of a surrogate pair, which Postgres cannot store"


class JsonLinesFile(LogFile):
    """A file with an object in each line. Its header has the keys of all of them.

    `nested` names values inside of objects, with dots: `usage.prompt_tokens`.
    """

    def __init__(self, path: Path, *, encoding: str, nested: Sequence[str] = ()) -> None:
        super().__init__(path, encoding)
        self._nested = [name for name in nested if "." in name]
        self.header = self._read_header()

    def records(self) -> Iterator[Record | BadLine]:
        for line, found in self._objects():
            if isinstance(found, BadLine):
                yield found
                continue
            fields = [_text(_value(found, name)) for name in self.header]
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
    if _begins_with_an_object(path, encoding):
        return JsonLinesFile(path, encoding=encoding, nested=list(columns.values()))
    return CsvFile(path, encoding=encoding, delimiter=delimiter)


def _begins_with_an_object(path: Path, encoding: str) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1_000).decode(encoding, "ignore").lstrip("\ufeff \t\r\n").startswith("{")
    except (OSError, LookupError, ValueError):
        return False  # CsvFile says what is wrong


def _parsed(line: int, text: str) -> dict[str, Any] | BadLine:
    try:
        # Numbers stay as they are written: a cost keeps all its digits.
        found = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        return BadLine(line, f"is not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return BadLine(line, "is nested too deeply")
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
            return json.dumps(value)
