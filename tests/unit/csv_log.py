"""A request log as tests write it, and the columns that it is read for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chat_stats.worker.importer.fields import Column
from chat_stats.worker.importer.records import ImportOptions, Requests
from chat_stats.worker.importer.rows import BadLine, CsvFile

HEADER = "created_at,input_tokens,output_tokens,error_message\n"
MOMENT = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)


def column(name: str, kind: str = "text", **changes: Any) -> Column:
    fields = {"declared": kind, "is_enum": False, "not_null": False, "has_default": True, **changes}
    return Column("chat_completion_requests", name, kind, **fields)


TABLE = {
    column.name: column
    for column in (
        column("id", "int8"),
        column("input_tokens", "int8"),
        column("output_tokens", "int8"),
        column("processing_time_ms", "numeric"),
        column("status"),
        column("error_message"),
        column("created_at", "timestamptz"),
    )
}


def read(path: Path, text: str | bytes, *, delimiter: str = ",", encoding: str = "utf-8") -> list[object]:
    """Return the file's records and bad lines."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(CsvFile(path, encoding=encoding, delimiter=delimiter).records())


def requests(path: Path, text: str, **options: Any) -> list[Any]:
    """Return the values of the file's requests, or the bad lines."""
    path.write_text(text, newline="")
    file = CsvFile(path, encoding="utf-8", delimiter=",")
    return [
        entry if isinstance(entry, BadLine) else tuple(entry[2])
        for entry in Requests(file, ImportOptions(**options), TABLE)
    ]
