"""Filters on columns of the requests use the columns' indexes."""

from datetime import timedelta

import asyncpg
import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.compute.statement import statement
from chat_stats.service.database.dimension_columns import column_types
from chat_stats.service.database.names import begin
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import DAYS, DIMENSIONS, START
from tests.questions.recount import Request

pytestmark = pytest.mark.every_postgres


@pytest.mark.parametrize(
    ("name", "value", "index"),
    [
        ("user_id", "u1", "requests_by_user"),
        ("key_id", "11", "requests_by_number"),
        ("model_id", "10", "chat_stats_requests_model_id_created_at_idx"),
        ("provider_id", "2", "chat_stats_requests_model_id_created_at_idx"),
    ],
)
async def test_the_index_of_the_column_finds_the_requests(
    connection: asyncpg.Connection, requests: list[Request], name: str, value: str, index: str
) -> None:
    await connection.execute(
        "CREATE INDEX requests_by_user ON chat_completion_requests (user_id, created_at);"
        "CREATE INDEX requests_by_number ON chat_completion_requests (number, created_at);"
        "ANALYZE chat_completion_requests"
    )
    known = known_dimensions(DIMENSIONS)
    question = parse_question([("group_by", "user_id"), (name, value)], known).question
    assert question is not None
    async with connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")  # it would pay for so few requests
        names = (await begin(connection)).names

        async def fetch(sql: str, *arguments: object) -> list[asyncpg.Record]:
            return await connection.fetch(names.fill(sql), *arguments)

        types = await column_types(fetch, question.dimensions)
        made = statement(question, (START, START + timedelta(days=DAYS)), types)
        plan = "\n".join(record[0] for record in await fetch(f"EXPLAIN {made.text}", *made.arguments))
    condition = next(line for line in plan.splitlines() if "Index Cond" in line and "created_at" in line)
    assert index in plan
    assert "= ANY" in condition or "= '" in condition, plan


async def test_the_index_of_a_rollup_has_the_time_behind_the_first_dimension(
    connection: asyncpg.Connection, requests: list[Request]
) -> None:
    """So a range of one value of it is one piece of the index."""
    await Rollup(connection).enable(lambda _done: None)
    rollups = OwnRollups(Rollup(connection), known_dimensions(DIMENSIONS))
    by = ["key_id", "provider_id", "user_id", "model_id"]
    await rollups.add(await rollups.declare("keys", by, percentiles=False), lambda _done: None)
    index = await connection.fetchval(
        "SELECT pg_get_constraintdef(c.oid) FROM pg_constraint AS c "
        "WHERE c.conrelid = 'chat_stats_rollup_keys_slots'::regclass AND c.contype = 'u'"
    )
    assert index == "UNIQUE NULLS NOT DISTINCT (by_key_id, day, model_id, by_user_id)"
