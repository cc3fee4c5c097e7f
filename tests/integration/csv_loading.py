"""Imports of a request log as tests make them, and what is in the tables then."""

from collections.abc import Awaitable, Callable

import asyncpg

from chat_stats.worker.importer.load import ImportResult

HEADER = "created_at,input_tokens,output_tokens\n"
GOOD = "2023-11-16 18:17:03,4808,10\n"

Connection = asyncpg.Connection
Load = Callable[..., Awaitable[ImportResult]]


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
