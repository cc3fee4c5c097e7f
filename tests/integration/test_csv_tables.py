"""`chat-stats import` into tables of other gateways: other types, missing and required columns."""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chat_stats.service.errors import (
    InvalidParameter,
    SchemaError,
)
from chat_stats.service.settings import Settings
from chat_stats.worker.importer.load import BadLines, ImportOptions, import_log
from tests.integration.csv_loading import GOOD, HEADER, Connection, Load, counts, recreate_with


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


@pytest.mark.parametrize(
    ("default", "given", "stored"),
    [
        ("'pending'", {}, "completed"),
        ("'Queued'", {"pending_statuses": "queued", "success_statuses": "done,fine"}, "done"),
        ("'success'", {}, "success"),
    ],
)
async def test_requests_of_a_log_without_statuses_are_not_pending(
    settings: Settings,
    connection: Connection,
    tmp_path: Path,
    default: str,
    given: dict[str, Any],
    stored: str,
) -> None:
    await connection.execute(f"ALTER TABLE chat_completion_requests ALTER status SET DEFAULT {default}")
    path = tmp_path / "log.csv"
    path.write_text(HEADER + GOOD)
    chosen = Settings(database_url=settings.database_url, _env_file=None, **given)
    await import_log(chosen, path, ImportOptions())
    assert await connection.fetchval("SELECT status FROM chat_completion_requests") == stored


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
