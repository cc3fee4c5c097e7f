"""A gateway with random requests, and questions about them without HTTP."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import orjson
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.question_parameters import parse_question, parse_values
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.ladder import compute, compute_together
from chat_stats.service.database.pool import Database
from chat_stats.service.settings import Settings
from tests.questions import recount
from tests.questions.recount import Request

DIMENSIONS = "user_id, key=number, key_id=number, team=tags->>team"

START = datetime(2026, 3, 25, tzinfo=UTC)
DAYS = 10

SCHEMA = "ALTER TABLE chat_completion_requests ADD COLUMN number bigint, ADD COLUMN tags jsonb"

COLUMNS = (
    "model_id", "input_tokens", "output_tokens", "processing_time_ms", "status", "error_message", "user_id",
    "number", "tags", "cost_usd", "created_at",
)  # fmt: skip


async def insert(connection: asyncpg.Connection, requests: list[Request]) -> None:
    await connection.copy_records_to_table(
        "chat_completion_requests",
        columns=COLUMNS,
        records=[
            tuple(
                {"number": request.key_id, "tags": tags(request)}.get(name) or getattr(request, name, None)
                for name in COLUMNS
            )
            for request in requests
        ],
    )


def tags(request: Request) -> str | None:
    return None if request.team is None else orjson.dumps({"team": request.team}).decode()


async def add_models(connection: asyncpg.Connection) -> None:
    await connection.executemany(
        "INSERT INTO providers (id, name, slug) VALUES ($1, $2, $3)",
        [(id_, name, name.lower()) for id_, name in recount.PROVIDERS.items()],
    )
    await connection.execute("ALTER TABLE models DROP CONSTRAINT models_provider_id_fkey")
    await connection.executemany(
        "INSERT INTO models (id, model_name, provider_id) VALUES ($1, $2, $3)",
        [(id_, name, provider) for id_, (name, provider) in recount.MODELS.items()],
    )


@pytest.fixture
async def requests(connection: asyncpg.Connection) -> list[Request]:
    """2,000 random requests that are in the database."""
    made = recount.random_requests(random.Random(7), 2000, START, DAYS)  # noqa: S311
    await connection.execute(SCHEMA)
    await add_models(connection)
    await insert(connection, made)
    return made


@dataclass(frozen=True)
class Found:
    """An answer, with its metadata."""

    data: list[dict[str, Any]]
    totals: dict[str, Any]
    method: str
    unavailable: tuple[str, ...]


Ask = Callable[..., Awaitable[Found]]


@pytest.fixture
async def ask(database_url: str, requests: list[Request]) -> Ask:
    """Computes the answer to the query string of a question."""
    return asking(database_url)


Compute = Callable[[list[Query]], Awaitable[dict[Query, Computed]]]


@pytest.fixture
async def compute_all(database_url: str, requests: list[Request]) -> Compute:
    """Computes queries over one range in one snapshot."""

    async def compute(queries: list[Query]) -> dict[Query, Computed]:
        settings = Settings(database_url=database_url, dimensions=DIMENSIONS, _env_file=None)
        database = Database(settings, application_name="tests")
        await database.open()
        try:
            async with database.snapshot(wait_seconds=5) as snapshot:
                results = await compute_together(snapshot, queries, timeout=30)
        finally:
            await database.close()
        computed = {query: found for query, found in results.items() if isinstance(found, Computed)}
        assert len(computed) == len(queries), results
        return computed

    return compute


def asking(database_url: str, dimensions: str = DIMENSIONS) -> Ask:
    async def ask_one(text: str, *, values: bool = False, timeout: float = 30) -> Found:
        settings = Settings(database_url=database_url, dimensions=dimensions, _env_file=None)
        items = parse_qsl(text, keep_blank_values=True, errors="surrogatepass")
        query = (parse_values if values else parse_question)(items, settings.known_dimensions)
        database = Database(settings, application_name="tests")
        await database.open()
        try:
            async with database.snapshot(wait_seconds=5) as snapshot:
                computed = await compute(snapshot, query, timeout=timeout)
        finally:
            await database.close()
        assert isinstance(computed.data, list)
        return Found(computed.data, computed.totals, computed.method, computed.unavailable)

    return ask_one
