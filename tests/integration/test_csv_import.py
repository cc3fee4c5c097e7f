"""`chat-stats import`: the rows of a request log in the gateway's tables, or the errors that prevent them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

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
from chat_stats.worker.importer.load import BadLines, ImportOptions, ImportResult, import_csv
from tests.tools import TRACE, need

HEADER = "created_at,input_tokens,output_tokens\n"
GOOD = "2023-11-16 18:17:03,4808,10\n"

Connection = asyncpg.Connection
Load = Callable[..., Awaitable[ImportResult]]


@pytest.fixture
def load(settings: Settings, tmp_path: Path) -> Load:
    """Import a text as a file."""

    async def load(text: str | bytes, *, file: str = "log.csv", **options: Any) -> ImportResult:
        path = tmp_path / file
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return await import_csv(settings, path, ImportOptions(**options))

    return load


async def counts(connection: Connection) -> tuple[int, int, int]:
    """Return the number of providers, models and requests."""
    return tuple(
        [
            await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("providers", "models", "chat_completion_requests")
        ]
    )


async def recreate(connection: Connection, *statements: str) -> None:
    """Replace the tables by those of another gateway."""
    await connection.execute("DROP TABLE chat_completion_requests, models, providers CASCADE")
    for statement in statements:
        await connection.execute(statement)


# Good files


async def test_the_azure_trace_is_loaded_exactly(settings: Settings, connection: Connection) -> None:
    trace = need(TRACE)
    seen: list[tuple[int, int]] = []
    result = await import_csv(
        settings, trace, ImportOptions(), progress=lambda done, total: seen.append((done, total))
    )
    assert (result.loaded, result.skipped, result.bad_lines) == (8819, 0, [])
    assert (result.input_tokens, result.output_tokens) == (18_059_974, 245_896)
    assert result.columns == {
        "created_at": "TIMESTAMP",
        "input_tokens": "ContextTokens",
        "output_tokens": "GeneratedTokens",
    }
    assert seen == sorted(seen)
    assert seen[-1] == (2 * trace.stat().st_size, 2 * trace.stat().st_size)

    row = await connection.fetchrow(
        "SELECT count(*), sum(input_tokens), sum(output_tokens), min(created_at), "
        "count(*) FILTER (WHERE status = 'completed') FROM chat_completion_requests"
    )
    first = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert row is not None
    assert tuple(row) == (8819, 18_059_974, 245_896, first, 8819)
    provider = await connection.fetchrow("SELECT * FROM get_provider_request_stats()")
    assert provider is not None
    assert (provider["name"], provider["slug"], provider["total_requests"]) == ("imported", "imported", 8819)
    model = await connection.fetchrow("SELECT * FROM get_models_with_requests()")
    assert model is not None
    assert model["model_name"] == model["model_identifier"] == "azure-llm-trace-2023-code"


async def test_every_field_goes_into_its_column(load: Load, connection: Connection) -> None:
    result = await load(
        "Request ID;Time;Model Name;Provider;Prompt_Tokens;Completion_Tokens;latency_ms;Status;cost;user;"
        "error;region\n"
        'r-1;2023-11-16T20:17:03+02:00;gpt-4;OpenAI;1;2;12.5;failed;0.25;ann;"too ""long"";\nsorry";eu\n'
        "r-2;1700158623;gpt-4;OpenAI;3;4;;;;;;us\n",
        delimiter=";",
    )
    assert result.ignored_columns == ["region"]
    assert (result.new_providers, result.new_models) == (["OpenAI"], ["gpt-4"])
    rows = await connection.fetch(
        "SELECT request_id, created_at, input_tokens, output_tokens, processing_time_ms, status, cost_usd, "
        "user_id, error_message FROM chat_completion_requests ORDER BY id"
    )
    moment = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)
    assert [tuple(row) for row in rows] == [
        ("r-1", moment, 1, 2, Decimal("12.5"), "failed", Decimal("0.25"), "ann", 'too "long";\nsorry'),
        ("r-2", moment, 3, 4, None, None, None, None, None),
    ]


async def test_several_models_in_a_file(load: Load, connection: Connection) -> None:
    result = await load(
        "created_at,input_tokens,output_tokens,provider,model\n"
        "2023-11-16,1,1,OpenAI,gpt-4\n2023-11-16,2,1,openai,gpt-4\n"
        "2023-11-16,4,1,OpenAI,gpt-5\n2023-11-16,8,1,Together AI,gpt-4\n"
    )
    assert result.new_providers == ["OpenAI", "Together AI"]
    assert result.new_models == ["gpt-4", "gpt-5", "gpt-4"]
    rows = await connection.fetch(
        "SELECT p.slug, m.model_name, m.provider_model_id, m.model_id, sum(r.input_tokens)::int "
        "FROM chat_completion_requests AS r JOIN models AS m ON m.id = r.model_id "
        "JOIN providers AS p ON p.id = m.provider_id GROUP BY 1, 2, 3, 4 ORDER BY 5"
    )
    assert [tuple(row) for row in rows] == [
        ("openai", "gpt-4", "gpt-4", "gpt-4", 3),
        ("openai", "gpt-5", "gpt-5", "gpt-5", 4),
        ("together-ai", "gpt-4", "gpt-4", "gpt-4", 8),
    ]


async def test_names_for_all_requests_override_the_columns_of_the_file(
    load: Load, connection: Connection
) -> None:
    text = "created_at,input_tokens,output_tokens,provider,model\n2023-11-16,1,1,OpenAI,gpt-4\n"
    result = await load(text, provider="Mine", model="own-1")
    assert (result.new_providers, result.new_models) == (["Mine"], ["own-1"])
    assert result.ignored_columns == ["provider", "model"]


async def test_existing_providers_and_models_are_reused(load: Load, connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO providers (id, name, slug) VALUES (7, 'Open AI Inc.', 'openai'), (8, 'Other', 'other');"
        "INSERT INTO models (id, provider_id, model_name, provider_model_id) VALUES "
        "(70, 7, 'GPT 4', 'gpt-4'), (71, 7, 'gpt-4', NULL), (72, 7, 'gpt-5', NULL), (80, 8, 'gpt-4', 'gpt-4')"
    )
    result = await load(
        "created_at,input_tokens,output_tokens,provider,model\n"
        "2023-11-16,1,1,OpenAI,gpt-4\n2023-11-16,1,1,OpenAI,gpt-5\n"
    )
    assert (result.new_providers, result.new_models) == ([], [])
    assert await counts(connection) == (2, 4, 2)
    rows = await connection.fetch("SELECT model_id FROM chat_completion_requests ORDER BY 1")
    assert [row[0] for row in rows] == [70, 72]


async def test_a_second_import_loads_the_requests_again(load: Load, connection: Connection) -> None:
    await load(HEADER + GOOD)
    await load(HEADER + GOOD)
    assert await counts(connection) == (1, 1, 2)


async def test_a_file_with_only_a_header_loads_nothing(load: Load, connection: Connection) -> None:
    assert (await load(HEADER)).loaded == 0
    assert await counts(connection) == (0, 0, 0)


async def test_a_file_of_several_batches_is_loaded_whole(
    load: Load, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH", 10)
    for size in (9, 10, 11, 100):
        await connection.execute("TRUNCATE chat_completion_requests")
        assert (await load(HEADER + GOOD * size)).loaded == size
        assert (await counts(connection))[2] == size


# Bad files


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2023-11-16,1", "2 fields where the first line has 3"),
        ("2023-11-16,1,2,3", "4 fields where the first line has 3"),
        ("2023-11-16,-1,2", "input_tokens '-1' is negative"),
        ("2023-11-16,1,9223372036854775808", "output_tokens '9223372036854775808' is greater than"),
        ("2023-11-16,1.5,2", "input_tokens '1.5' is not a whole number"),
        ("2023-11-16,1,", "output_tokens is empty"),
        ("today,1,2", "created_at 'today' is not an ISO 8601 date and time"),
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


@pytest.mark.parametrize("cell", ["NaN", "inf", "-1", "slow"])
@pytest.mark.parametrize("name", ["cost_usd", "duration_ms"])
async def test_costs_and_times_must_be_numbers(
    load: Load, connection: Connection, name: str, cell: str
) -> None:
    with pytest.raises(BadLines, match=f"line 2: {name} '{cell}' is "):
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


async def test_a_missing_column_names_the_option(load: Load, connection: Connection) -> None:
    with pytest.raises(InvalidParameter, match="--output-tokens-column") as refusal:
        await load("created_at,input_tokens,answer\n2023-11-16,1,2\n")
    assert refusal.value.parameter == "output_tokens_column"
    result = await load(
        "created_at,input_tokens,answer\n2023-11-16,1,2\n", columns={"output_tokens": "Answer"}
    )
    assert result.loaded == 1


# Errors of the database


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

    task = asyncio.create_task(import_csv(settings, path, ImportOptions(), progress=progress))
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
        await import_csv(settings, path, ImportOptions(), progress=append)
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
        await import_csv(nowhere, path, ImportOptions())


async def test_missing_tables_are_named(empty_database: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + GOOD)
    with pytest.raises(SchemaError, match="lacks the table providers; run: chat-stats migrate"):
        await import_csv(Settings(database_url=empty_database, _env_file=None), path, ImportOptions())


# Tables of other gateways


async def recreate_with(connection: Connection, id_type: str, *, status: str = "text") -> None:
    """Replace the tables by ones without any optional column, and with ids of that type."""
    plain = id_type.split()[0]
    await recreate(
        connection,
        "CREATE TYPE state AS ENUM ('completed', 'failed')",
        f"CREATE TABLE providers (id {id_type} PRIMARY KEY, name varchar(50) NOT NULL, slug text UNIQUE)",
        f"CREATE TABLE models (id {id_type} PRIMARY KEY, provider_id {plain} REFERENCES providers, "
        "model_name text NOT NULL, provider_model_id text)",
        f"CREATE TABLE chat_completion_requests (id {id_type} PRIMARY KEY, "
        f"model_id {plain} REFERENCES models, input_tokens int, output_tokens int, processing_time_ms int, "
        f"status {status} NOT NULL, created_at timestamp)",
    )


@pytest.mark.parametrize(
    "id_type",
    [
        "uuid DEFAULT gen_random_uuid()",
        "uuid",
        "text",
        "int GENERATED ALWAYS AS IDENTITY",
        "bigint DEFAULT 1",
    ],
)
async def test_other_ids_and_missing_optional_columns(
    load: Load, connection: Connection, id_type: str
) -> None:
    await recreate_with(connection, id_type)
    result = await load(
        "created_at,input_tokens,output_tokens,latency_ms,cost,user\n2023-11-16T20:17:03+02:00,1,2,12.5,0.1,ann\n"
    )
    assert result.loaded == 1
    assert result.ignored_columns == ["cost", "user"]
    row = await connection.fetchrow(
        "SELECT r.input_tokens, r.processing_time_ms, r.status, r.created_at, p.slug, r.id "
        "FROM chat_completion_requests AS r JOIN models AS m ON m.id = r.model_id "
        "JOIN providers AS p ON p.id = provider_id"
    )
    assert row is not None
    assert tuple(row)[:5] == (1, 13, "completed", datetime(2023, 11, 16, 18, 17, 3), "imported")  # noqa: DTZ001
    if id_type in ("uuid", "text"):
        assert UUID(str(row["id"])).version == 4


async def test_an_option_for_a_column_that_the_table_lacks_is_an_error(
    load: Load, connection: Connection
) -> None:
    await recreate_with(connection, "uuid")
    with pytest.raises(InvalidParameter, match="chat_completion_requests has no column cost_usd") as refusal:
        await load(
            "created_at,input_tokens,output_tokens,price\n2023-11-16,1,2,3\n", columns={"cost_usd": "price"}
        )
    assert refusal.value.parameter == "cost_usd_column"


async def test_tokens_must_fit_into_the_table(load: Load, connection: Connection) -> None:
    await recreate_with(connection, "uuid")
    with pytest.raises(BadLines, match=r"line 2: input_tokens '3000000000' is greater than 2,147,483,647"):
        await load(HEADER + "2023-11-16,3000000000,2\n")


async def test_ids_without_a_source_are_an_error(load: Load, connection: Connection) -> None:
    await recreate_with(connection, "bigint")
    with pytest.raises(SchemaError, match=r"chat_completion_requests\.id \(bigint\) has no default"):
        await load(HEADER + GOOD)


@pytest.mark.parametrize("table", ["providers", "models", "chat_completion_requests"])
async def test_a_required_column_without_a_value_is_named(
    load: Load, connection: Connection, table: str
) -> None:
    await connection.execute(f"ALTER TABLE {table} ADD COLUMN region text NOT NULL")
    with pytest.raises(SchemaError, match=rf"{table}\.region must have a value"):
        await load(HEADER + GOOD)
    assert await counts(connection) == (0, 0, 0)


async def test_request_ids_are_generated_if_the_table_requires_them(
    load: Load, connection: Connection
) -> None:
    await connection.execute("ALTER TABLE chat_completion_requests ALTER request_id SET NOT NULL")
    await load(HEADER + GOOD * 2)
    rows = await connection.fetch("SELECT request_id FROM chat_completion_requests")
    assert len({UUID(row[0]) for row in rows}) == 2


async def test_a_missing_required_column_of_the_table_is_named(load: Load, connection: Connection) -> None:
    await recreate_with(connection, "uuid")
    await connection.execute("ALTER TABLE chat_completion_requests DROP COLUMN processing_time_ms")
    with pytest.raises(SchemaError, match=r"chat_completion_requests lacks the column.* processing_time_ms"):
        await load(HEADER + GOOD)


async def test_a_provider_that_the_table_refuses_is_an_error(load: Load, connection: Connection) -> None:
    await connection.execute("ALTER TABLE providers ADD CONSTRAINT known CHECK (slug = 'openai')")
    with pytest.raises(SchemaError, match=r'the database refuses the import: .*"known"'):
        await load(HEADER + GOOD)
    assert (await load(HEADER + GOOD, provider="OpenAI")).loaded == 1
