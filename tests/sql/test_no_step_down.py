"""What is no reason to step down to another method: outages, missing tables, missing models, no requests."""

import asyncio

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.compute.methods import Method
from chat_stats.service.errors import ComputationTimedOut, DatabaseUnavailable, NotFound, SchemaError
from tests.sql.conftest import Ask, Gateway, Role, connect
from tests.sql.schemas import PLAIN
from tests.sql.slow_requests import slow_requests

Connection = asyncpg.Connection

MODELS = Query("models")


async def test_when_no_method_answers_in_time_the_computation_timed_out(owner: Connection, ask: Ask) -> None:
    await owner.execute(slow_requests("."))
    with pytest.raises(ComputationTimedOut):
        await ask(MODELS, timeout=0.4)


async def test_a_missing_table_is_named(owner: Connection, ask: Ask) -> None:
    for table in ("chat_completion_requests", "models", "providers"):
        await owner.execute(f"ALTER TABLE {table} RENAME TO gone")
        with pytest.raises(SchemaError, match=f'"{table}" does not exist.*chat-stats migrate'):
            await ask(MODELS)
        await owner.execute(f"ALTER TABLE gone RENAME TO {table}")


async def test_a_missing_column_is_named(owner: Connection, ask: Ask) -> None:
    await owner.execute("ALTER TABLE chat_completion_requests DROP COLUMN output_tokens")
    with pytest.raises(SchemaError, match='"output_tokens" does not exist'):
        await ask(MODELS)


async def test_a_role_that_may_not_read_the_tables_is_told_what_to_grant(
    reading_role: Role, ask: Ask
) -> None:
    with pytest.raises(SchemaError, match=r"permission denied for table .* grant .* SELECT"):
        await ask(MODELS, url=reading_role.url)


async def test_a_model_that_does_not_exist_is_not_found_whatever_the_method(
    owner: Connection, ask: Ask
) -> None:
    query = Query("model", model_id="404")
    with pytest.raises(NotFound):
        await ask(query)
    await owner.execute("DROP FUNCTION get_model_request_stats")
    with pytest.raises(NotFound):
        await ask(query)


async def test_a_lost_connection_is_an_outage_and_no_reason_for_a_costlier_statement(
    owner: Connection, live: Gateway, ask: Ask
) -> None:
    await owner.execute(slow_requests("chat_stats_usage"))
    computation = asyncio.ensure_future(ask(MODELS))
    async with connect(live.admin_url) as admin:
        while not await admin.fetchval(  # noqa: ASYNC110
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE wait_event = 'PgSleep' AND usename = $1 AND query LIKE '%chat_stats_usage%'",
            await owner.fetchval("SELECT current_user::text"),
        ):
            await asyncio.sleep(0.02)
    with pytest.raises(DatabaseUnavailable):
        await computation


@pytest.mark.parametrize("name", AGGREGATIONS)
async def test_an_empty_result_is_no_reason_to_step_down(owner: Connection, ask: Ask, name: str) -> None:
    await owner.execute("TRUNCATE chat_completion_requests")
    model_id = str(PLAIN.id("models", 1)) if name == "model" else None
    assert (await ask(Query(name, model_id=model_id))).method is Method.RPC
