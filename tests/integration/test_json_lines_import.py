"""`chat-stats import` of JSON lines, from a file and from standard input."""

import gzip
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from chat_stats.service.errors import InvalidParameter
from chat_stats.service.settings import Settings
from chat_stats.worker.importer.rows import BadLines
from tests.integration.csv_loading import Connection, Load, counts
from tests.processes import chat_stats, environment

LINES = [
    {"ts": "2023-11-16T18:17:03Z", "usage": {"in": 7, "out": 5}, "model": "gpt-4", "cost": 0.123456789012},
    {
        "ts": 1700158624,
        "usage": {"in": 8, "out": 0},
        "model": "gpt-5",
        "status": "failed",
        "error": "too\tlong",
    },
]
LOG = "".join(f"{json.dumps(line)}\n" for line in LINES)
COLUMNS = {"created_at": "ts", "input_tokens": "usage.in", "output_tokens": "usage.out"}


async def test_keys_are_recognised_as_columns_are_and_nested_ones_can_be_named(
    load: Load, connection: Connection
) -> None:
    result = await load(LOG, file="log.txt", columns=COLUMNS)
    assert (result.loaded, result.input_tokens, result.output_tokens) == (2, 15, 5)
    assert result.columns["input_tokens"] == "usage.in"
    assert (result.columns["model"], result.columns["error_message"]) == ("model", "error")
    rows = await connection.fetch(
        "SELECT created_at, input_tokens, status, cost_usd, error_message FROM chat_completion_requests "
        "ORDER BY created_at"
    )
    assert [tuple(row) for row in rows] == [
        (datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC), 7, None, Decimal("0.123456789012"), None),
        (datetime(2023, 11, 16, 18, 17, 4, tzinfo=UTC), 8, "failed", None, "too\tlong"),
    ]


async def test_a_bad_line_is_named_and_nothing_is_loaded(load: Load, connection: Connection) -> None:
    with pytest.raises(BadLines, match="line 3: is not JSON"):
        await load(LOG + '{"ts": \n', columns=COLUMNS)
    assert await counts(connection) == (0, 0, 0)


async def test_nested_values_are_kept_as_they_are_written(load: Load, connection: Connection) -> None:
    error = '{"code": 429, "cost": 0.10, "retry": [true, null], "message": "zu viele \u00e4"}'
    await load(f'{{"time": 1700158624, "input_tokens": 1, "output_tokens": 2, "error": {error}}}\n')
    assert await connection.fetchval("SELECT error_message FROM chat_completion_requests") == error


async def test_only_fields_that_are_loaded_must_be_storable(load: Load, connection: Connection) -> None:
    line = (
        '{"time": 1700158624, "input_tokens": 1, "output_tokens": 2, "prompt": "\\u0000", "x": ["\\ud800"]}\n'
    )
    assert (await load(line)).loaded == 1
    with pytest.raises(BadLines, match="line 1: holds a NUL character"):
        await load(line, columns={"error_message": "prompt"})
    with pytest.raises(BadLines, match="line 1: holds a NUL character or half of a surrogate pair"):
        await load(line, columns={"error_message": "x"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"time": 1}, {"time": 2}]', r"is a JSON array: give each line one object, jq -c '\.\[\]' FILE"),
        ("\ufeff[\n  {\n", "is a JSON array"),
        ('{\n  "time": 1\n}\n', "line 1: is not JSON.*a line holds a whole object"),
        (gzip.compress(LOG.encode()), r"is compressed with gzip: unpack it first, zcat FILE \|"),
        (b"PK\x03\x04\xff", "is a zip archive or an Excel workbook"),
        (b"PAR1\xff", "is a Parquet file: save its table as CSV or JSON lines"),
    ],
)
async def test_a_file_of_another_format_is_named(load: Load, text: str | bytes, reason: str) -> None:
    with pytest.raises((BadLines, InvalidParameter), match=f"(?s){reason}"):
        await load(text, encoding="latin-1" if isinstance(text, bytes) else "utf-8")


async def test_standard_input_is_loaded_as_a_file_is(
    settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    env = environment(settings.database_url.get_secret_value(), settings.redis_url.get_secret_value())
    env |= {"TMPDIR": str(tmp_path)}
    named = [f"--{field.replace('_', '-')}-column={name}" for field, name in COLUMNS.items()]
    ran = chat_stats("import", "-", "--json", *named, env=env, stdin=LOG)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["loaded"] == 2
    assert await counts(connection) == (1, 2, 2)
    assert os.listdir(tmp_path) == [], "the copy is removed"  # noqa: PTH208
    empty = chat_stats("import", "-", env=env)
    assert empty.returncode == 2
    assert "is empty" in empty.stderr
