"""A program that writes one Parquet file: pickled rows come in on stdin, the file goes out on stdout.

`service.explorer.parquet` runs it for each download, and it ends with that: pyarrow and what it holds would
add some 70 MB to the service for good, and its work would hold up all other answers.

First come the columns, each a name with one of `KINDS`, then messages with a list of rows each. The end of
stdin ends the file.
"""

import pickle
import sys
from typing import Any

import pyarrow
import pyarrow.parquet

KINDS = {
    "int": pyarrow.int64(),
    "float": pyarrow.float64(),
    "bool": pyarrow.bool_(),
    "text": pyarrow.string(),
    "json": pyarrow.string(),
    "date": pyarrow.date32(),
    "moment": pyarrow.timestamp("us", tz="UTC"),
}

#: A row group has so many rows, enough to compress well, or messages of so many bytes, few enough to hold.
ROW_GROUP_ROWS = 10_000
ROW_GROUP_BYTES = 16_000_000


def main() -> None:
    messages, out = sys.stdin.buffer, sys.stdout.buffer
    columns: list[tuple[str, str]] = pickle.load(messages)  # noqa: S301  from the service that started this
    schema = pyarrow.schema([(name, KINDS[kind]) for name, kind in columns])
    with pyarrow.parquet.ParquetWriter(
        pyarrow.PythonFile(out, mode="w"), schema, compression="zstd"
    ) as writer:
        out.flush()
        waiting: list[tuple[Any, ...]] = []
        waiting_bytes = 0
        while message := _next(messages):
            waiting += pickle.loads(message)  # noqa: S301
            waiting_bytes += len(message)
            if len(waiting) >= ROW_GROUP_ROWS or waiting_bytes >= ROW_GROUP_BYTES:
                _write(writer, schema, waiting)
                out.flush()
                waiting, waiting_bytes = [], 0
        if waiting:
            _write(writer, schema, waiting)
    out.flush()


def _next(messages: Any) -> bytes:
    """Return the next message, which its length in eight bytes precedes; empty at the end."""
    size = int.from_bytes(messages.read(8), "big")
    return bytes(messages.read(size))


def _write(writer: Any, schema: Any, rows: list[tuple[Any, ...]]) -> None:
    arrays = [
        pyarrow.array(_texts(column) if field.type == KINDS["text"] else column, field.type)
        for column, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _texts(column: tuple[Any, ...]) -> list[str | None]:
    return [None if value is None else str(value) for value in column]


if __name__ == "__main__":
    main()
