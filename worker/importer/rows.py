"""Reads the records of a log, each with its line number, and describes the bad ones; here, those of CSV.

Python's `csv` module does the parsing (RFC 4180, strict). This module knows nothing about requests.
"""

import codecs
import csv
import os
import re
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from pathlib import Path

from chat_stats.service.errors import ChatStatsError, InvalidParameter

#: Bad lines that are described; further ones are only counted.
DESCRIBED_BAD_LINES = 20

#: Its first line, and its fields in the order of the header.
Record = tuple[int, list[str]]

SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A record that cannot be loaded; `line` is its first physical line, the file's first being 1."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class BadLines(ChatStatsError):
    """The file has bad lines, so nothing was loaded. The message has one line for each, up to 20."""

    status = 422
    title = "Bad lines"
    exit_code = 2

    def __init__(self, bad_lines: Sequence[BadLine], total: int) -> None:
        head = f"{total:,} bad line{'' if total == 1 else 's'}, nothing was loaded:"
        more = [f"and {total - len(bad_lines):,} more"] if total > len(bad_lines) else []
        super().__init__("\n  ".join([head, *map(str, bad_lines), *more]))
        self.bad_lines = tuple(bad_lines)
        self.total = total


class LogFile:
    """A file of requests. Each pass reads it again; it is never held in memory.

    Raises `InvalidParameter` for a file, an encoding or a delimiter that cannot be used, and `BadLines` when
    the names of its columns cannot be read.
    """

    header: list[str]
    #: Places in the header of the fields that are read, None: of all; others may be left empty.
    needed: Collection[int] | None = None

    def __init__(self, path: Path, encoding: str) -> None:
        self.path = path
        self._encoding = _known_encoding(encoding)
        self._raw: BufferedReader | None = None
        #: Lines of the last record; whether it ends the file without a line end.
        self.lines = 1
        self.cut = False
        try:
            if not path.is_file():
                exists = "is not a regular file" if path.exists() else "does not exist"
                raise InvalidParameter("file", f"{path} {exists}")
            self._state = self._stat()
        except OSError as error:
            raise unreadable(path, error) from error
        self.size = self._state[0]

    def records(self) -> Iterator[Record | BadLine]:
        """Yield the line and the fields of each record, as `header` names them, or why it is bad."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """Return the bytes read so far in the pass under way."""
        return self.size if self._raw is None or self._raw.closed else self._raw.tell()

    def has_changed(self) -> bool:
        """Return whether the file was written to since it was opened: its passes may then differ."""
        try:
            return self._stat() != self._state
        except OSError:
            return True

    def _stat(self) -> tuple[int, int, int]:
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def _open(self, raw: BufferedReader) -> TextIOWrapper:
        self._raw = raw
        # An invalid byte becomes a lone surrogate, so that only its own line is bad.
        return TextIOWrapper(raw, self._encoding, errors="surrogateescape", newline="")

    def _refusal(self, error: UnicodeError, before: int) -> BadLines:
        """Say where a multi-byte encoding has an error that no surrogate can represent."""
        if isinstance(error, UnicodeDecodeError):
            before += error.object[: error.start].decode(error.encoding, "replace").count("\n")
        return BadLines([BadLine(before, self._not_decodable(str(error)))], 1)

    def _problem(self, lines: list[str]) -> str | None:
        for text in lines:
            if not text.isascii() and (wrong := SURROGATE.search(text)):
                byte = ord(wrong.group()) & 0xFF
                return self._not_decodable(f"byte 0x{byte:02x} at column {wrong.start() + 1}")
            if "\0" in text:
                return "holds a NUL character, which Postgres cannot store"
        return None

    def _not_decodable(self, what: str) -> str:
        name = self._encoding.removesuffix("-sig")
        return (
            f"is not {name} ({what}); name the file's encoding with --encoding, for instance cp1252 or utf-16"
        )


class CsvFile(LogFile):
    """A CSV file whose first record names the columns."""

    def __init__(self, path: Path, *, encoding: str, delimiter: str) -> None:
        self._delimiter = _one_character(delimiter)
        super().__init__(path, encoding)
        self.header = self._read_header()

    def records(self) -> Iterator[Record | BadLine]:
        """Yield each record after the header, and a `BadLine` for each malformed one."""
        records = self._all_records()
        next(records, None)
        return records

    def _read_header(self) -> list[str]:
        with closing(self._all_records()) as records:
            match next(records, None):
                case None:
                    raise InvalidParameter("file", f"{self.path} is empty: not even a line with column names")
                case BadLine() as bad:
                    raise BadLines([bad], 1)
                case _, fields:
                    return [name.strip() for name in fields]

    def _all_records(self) -> Generator[Record | BadLine]:
        line = 1
        read: list[str] = []  # lines of the current record
        try:
            with self.path.open("rb") as raw:
                file = self._open(raw)
                replay: deque[str] = deque()
                reader = self._reader(file, replay, read)
                while True:
                    line += len(read)
                    read.clear()
                    try:
                        fields = next(reader, None)
                    except csv.Error as error:
                        # An open quote swallows lines that are likely good: only the first one is bad.
                        replay.extendleft(reversed(read[1:]))
                        del read[1:]
                        reader = self._reader(file, replay, read)
                        yield BadLine(line, _quoting_problem(error))
                        continue
                    if fields is None:
                        return
                    if fields:  # a blank line is not a record
                        self.lines = len(read)
                        self.cut = read[-1][-1] not in "\r\n"
                        problem = self._problem(read)
                        yield (line, fields) if problem is None else BadLine(line, problem)
        except UnicodeError as error:
            raise self._refusal(error, line + len(read)) from error
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _reader(self, file: TextIOWrapper, replay: deque[str], read: list[str]) -> Iterator[list[str]]:
        def lines() -> Iterator[str]:
            while text := replay.popleft() if replay else file.readline():
                read.append(text)
                yield text

        return csv.reader(lines(), delimiter=self._delimiter, strict=True, skipinitialspace=True)


def shown(text: str) -> str:
    """Return a cell as a message shows it: quoted, unprintable characters escaped, not too long."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def unreadable(path: Path, error: OSError) -> InvalidParameter:
    # In a container the user is another one than outside, and has no name there.
    who = f" by user {os.geteuid()}" if isinstance(error, PermissionError) else ""
    return InvalidParameter("file", f"{path} cannot be read{who}: {error.strerror}")


def _quoting_problem(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quote is opened here and never closed"
    if "field limit" in str(error):
        return f"a field is longer than {csv.field_size_limit():,} characters: is a quote not closed?"
    return f"wrong quoting: {error}"


def _known_encoding(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)  # raises for codecs that are not for text
    except (LookupError, ValueError) as error:
        raise InvalidParameter("encoding", f"unknown encoding {shown(encoding)}") from error
    return "utf-8-sig" if name == "utf-8" else name


def _one_character(delimiter: str) -> str:
    character = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(character) != 1 or character in '\r\n\0" ':
        raise InvalidParameter(
            "delimiter", f"a delimiter is one character such as , ; | or tab, not {shown(delimiter)}"
        )
    return character
