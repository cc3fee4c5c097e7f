"""`migrate` names a dimension of the settings that the requests do not have."""

import asyncpg
import pytest

from chat_stats.service.database.migrations import migrate
from chat_stats.service.errors import SchemaError
from chat_stats.service.settings import Settings


async def run(url: str, dimensions: str) -> None:
    settings = Settings(database_url=url, dimensions=dimensions, _env_file=None)
    await migrate(settings, create_tables=False, started=lambda _file: None, warned=lambda _message: None)


async def test_a_missing_column_and_an_unusable_type_are_named_after_all_else_is_installed(
    empty_database: str,
) -> None:
    with pytest.raises(SchemaError, match="tenant: chat_completion_requests has no column tenant"):
        await run(empty_database, "user_id, tenant")
    with pytest.raises(SchemaError, match=r"took=processing_time_ms->>x: the column .* is numeric, not json"):
        await run(empty_database, "took=processing_time_ms->>x")
    with pytest.raises(SchemaError, match="the column created_at is timestamp with time zone, which cannot"):
        await run(empty_database, "at=created_at")
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM get_provider_request_stats()") == 0
    finally:
        await connection.close()
    await run(empty_database, "user_id, key_id, team=labels->>team")
