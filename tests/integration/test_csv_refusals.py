"""`chat-stats import`: bad lines and outages, after which nothing is loaded."""

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chat_stats.service.errors import (
    ChatStatsError,
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidParameter,
    SchemaError,
)
from chat_stats.service.settings import Settings
from chat_stats.worker.importer import load as loading
from chat_stats.worker.importer.load import BadLines, ImportOptions, import_log
from tests.integration.csv_loading import GOOD, HEADER, Connection, Load, counts, recreate_with


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2023-11-16,1", "2 fields where the first line has 3"),
        ("2023-11-16,1,2,3", "4 fields where the first line has 3"),
        ("2023-11-16,-1,2", "input_tokens '-1' is negative"),
        ("2023-11-16,1,9223372036854775808", "output_tokens '9223372036854775808' is greater than"),
        ("2023-11-16,1.5,2", "input_tokens '1.5' is not a whole number"),
        ("2023-11-16,1,", "output_tokens is empty"),
        ("today,1,2", "created_at 'today' is not an ISO 8601 date and time, nor seconds, milli-"),
        ("2023-11-16,1,\0", "holds a NUL character"),
        (b"2023-11-16,1,\xe9", "is not utf-8 (byte 0xe9 at column 14); name the file's encoding"),
        ('2023-11-16,"1,2', "a quote is opened here and never closed"),
        ('2023-11-16,"1"2,3', "wrong quoting"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_is_loaded_without_skip_bad(
    load: Load, connection: Connection, line: str | bytes, reason: str
) -> None:
    bad = line if isinstance(line, bytes) else line.encode()
    text = b"".join([HEADER.encode(), GOOD.encode(), bad, b"\n", GOOD.encode() * 2])
    with pytest.raises(BadLines) as refusal:
        await load(text)
    assert (refusal.value.total, refusal.value.exit_code) == (1, 2)
    assert f"1 bad line, nothing was loaded:\n  line 3: {reason}" in str(refusal.value)
    assert await counts(connection) == (0, 0, 0)

    result = await load(text, skip_bad=True)
    assert (result.loaded, result.skipped) == (3, 1)
    assert str(result.bad_lines[0]).startswith(f"line 3: {reason}")
    assert await counts(connection) == (1, 1, 3)


@pytest.mark.parametrize(
    "end", ["2023-11-16 18:17:0", "2023-11-16 18:17:03,48", "2023-11-16,48,", '2023-11-16,"4']
)
async def test_a_broken_last_line_is_named(load: Load, connection: Connection, end: str) -> None:
    with pytest.raises(BadLines, match=r"\n  line 4: "):
        await load(HEADER + GOOD * 2 + end)
    assert await counts(connection) == (0, 0, 0)
    assert (await load(HEADER + GOOD * 2 + end, skip_bad=True)).loaded == 2


@pytest.mark.parametrize("cell", ["NaN", "inf", "-1", "slow", "$0.01"])
@pytest.mark.parametrize("name", ["cost_usd", "duration_ms"])
async def test_costs_and_times_must_be_numbers(
    load: Load, connection: Connection, name: str, cell: str
) -> None:
    with pytest.raises(BadLines, match=f"line 2: {name} '{re.escape(cell)}' is "):
        await load(f"created_at,input_tokens,output_tokens,{name}\n2023-11-16,1,2,{cell}\n")
    assert await counts(connection) == (0, 0, 0)


async def test_the_first_twenty_bad_lines_are_named_and_all_are_counted(
    load: Load, connection: Connection
) -> None:
    text = HEADER + "bad,1,2\n" * 25 + GOOD
    with pytest.raises(BadLines, match=r"(?s)^25 bad lines.*\n  line 21: [^\n]*\n  and 5 more$") as refusal:
        await load(text)
    assert [bad.line for bad in refusal.value.bad_lines] == list(range(2, 22))
    result = await load(text, skip_bad=True)
    assert (result.loaded, result.skipped, len(result.bad_lines)) == (1, 25, 20)


async def test_a_file_with_only_bad_lines_creates_no_model(load: Load, connection: Connection) -> None:
    assert (await load(HEADER + "bad,1,2\n", skip_bad=True)).loaded == 0
    assert await counts(connection) == (0, 0, 0)


async def test_a_request_without_a_model_names_the_options(load: Load, connection: Connection) -> None:
    text = "created_at,input_tokens,output_tokens,model\n2023-11-16,1,2,\n2023-11-16,1,2,gpt-4\n"
    with pytest.raises(
        BadLines, match=r"line 2: model is empty \(--model names one for all requests, --skip-bad"
    ):
        await load(text)
    assert (await load(text, skip_bad=True)).loaded == 1


async def test_a_missing_column_names_the_option(load: Load, connection: Connection) -> None:
    with pytest.raises(InvalidParameter, match="--output-tokens-column") as refusal:
        await load("created_at,input_tokens,answer\n2023-11-16,1,2\n")
    assert refusal.value.parameter == "output_tokens_column"
    result = await load(
        "created_at,input_tokens,answer\n2023-11-16,1,2\n", columns={"output_tokens": "Answer"}
    )
    assert result.loaded == 1


async def test_a_line_that_the_database_refuses_is_named(
    load: Load, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH", 10)
    await connection.execute(
        "ALTER TABLE chat_completion_requests ADD CONSTRAINT small CHECK (input_tokens < 9000)"
    )
    text = HEADER + GOOD * 15 + "bad,1,2\n\n" + GOOD * 3 + "2023-11-16,9999,1\n" + GOOD * 30
    with pytest.raises(BadLines, match=r'\n  line 22: the database refuses it: .*"small"'):
        await load(text, skip_bad=True)
    assert await counts(connection) == (0, 0, 0)


async def test_a_value_that_an_enum_lacks_is_named(load: Load, connection: Connection) -> None:
    await recreate_with(connection, "bigint GENERATED ALWAYS AS IDENTITY", status="state")
    text = "created_at,input_tokens,output_tokens,status\n2023-11-16,1,2,completed\n2023-11-16,1,2,{}\n"
    with pytest.raises(BadLines, match=r"line 3: the database refuses it: .*enum public\.state: .lost."):
        await load(text.format("lost"))
    assert (await load(text.format("failed"))).loaded == 2


async def test_a_lost_connection_leaves_nothing_behind(
    load: Load, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH", 10)
    batches = 0
    copy = asyncpg.Connection.copy_records_to_table

    async def copy_then_die(self: Connection, *args: Any, **named: Any) -> str:
        nonlocal batches
        batches += 1
        if batches == 3:
            await connection.execute(f"SELECT pg_terminate_backend({self.get_server_pid()})")
            await asyncio.sleep(0.1)
        return await copy(self, *args, **named)

    monkeypatch.setattr(asyncpg.Connection, "copy_records_to_table", copy_then_die)
    with pytest.raises(DatabaseUnavailable):
        await load(HEADER + GOOD * 50)
    assert await counts(connection) == (0, 0, 0)


async def test_a_cancelled_import_leaves_nothing_behind(
    settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + GOOD * 50_000)
    half = asyncio.Event()

    def progress(done: int, total: int) -> None:
        if 2 * done > total:
            half.set()

    task = asyncio.create_task(import_log(settings, path, ImportOptions(), progress=progress))
    await half.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await counts(connection) == (0, 0, 0)


async def test_a_file_that_changes_during_the_import_is_not_loaded(
    settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + GOOD)

    def append(done: int, total: int) -> None:
        with path.open("a") as log:
            log.write(GOOD)

    with pytest.raises(ChatStatsError, match="changed while it was imported; nothing was loaded"):
        await import_log(settings, path, ImportOptions(), progress=append)
    assert await counts(connection) == (0, 0, 0)


async def test_two_imports_at_once_do_not_create_a_model_twice(load: Load, connection: Connection) -> None:
    async with connection.transaction():
        await connection.fetchval("SELECT pg_advisory_xact_lock($1, $2)", *loading.LOCK)
        with pytest.raises(DatabaseBusy, match="another import"):
            await load(HEADER + GOOD)
    assert (await load(HEADER + GOOD)).loaded == 1


async def test_an_unreachable_database_is_an_outage(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + GOOD)
    nowhere = Settings(database_url="postgresql://user@127.0.0.1:1/x", _env_file=None)
    with pytest.raises(DatabaseUnavailable):
        await import_log(nowhere, path, ImportOptions())


async def test_missing_tables_are_named(empty_database: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + GOOD)
    with pytest.raises(SchemaError, match="lacks the table providers; run: chat-stats migrate"):
        await import_log(Settings(database_url=empty_database, _env_file=None), path, ImportOptions())
