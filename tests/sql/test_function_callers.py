"""The functions do not depend on the session that calls them, and read no more than they need."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.pool import Database
from tests.conftest import run_migrations
from tests.sql import methods, sample
from tests.sql.calls import rows_of
from tests.sql.conftest import BuildGateway, Gateway, Role, connect
from tests.sql.sample import END, START
from tests.sql.schemas import PLAIN, Variant

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection


async def test_the_callers_search_path_and_temporary_tables_do_not_matter(
    owner: Connection, live: Gateway
) -> None:
    schema = await owner.fetchval("SELECT current_schema()")
    async with connect(live.admin_url) as admin:
        await admin.execute(f"CREATE SCHEMA {schema}_decoy AUTHORIZATION {schema}")
        await admin.execute(
            f"GRANT TEMPORARY ON DATABASE {await admin.fetchval('SELECT current_database()')} TO {schema}"
        )
    await owner.execute(
        f"SET search_path = {schema}_decoy, pg_temp;"
        f"CREATE TABLE {schema}_decoy.models (id int, provider_id int, model_name text);"
        f"CREATE FUNCTION {schema}_decoy.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'completed' $$;"
        f"CREATE FUNCTION {schema}_decoy.chat_stats_has_cost() RETURNS bool LANGUAGE sql AS 'SELECT false';"
        "CREATE TEMPORARY TABLE providers (id int);"
        "CREATE TEMPORARY TABLE chat_completion_requests (id int)"
    )
    for path in (f"{schema}_decoy, pg_temp", "pg_temp, pg_catalog", "''", f"{schema}_decoy, pg_catalog"):
        await owner.execute(f"SET search_path = {path}")
        assert await rows_of(owner, f"{schema}.get_models_with_requests()") == sample.model_rows(
            PLAIN, sample.STATS_OF_ALL
        )
        assert await rows_of(owner, f"{schema}.get_chat_request_summary()") == [sample.SUMMARY_OF_ALL]


async def test_the_callers_time_zone_does_not_move_a_timestamp_without_one(
    build_gateway: BuildGateway,
) -> None:
    variant = Variant("timestamp", created_at="timestamp")
    gateway = await build_gateway(variant)
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection:
        for zone in ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"):
            await connection.execute(f"SET timezone = '{zone}'")
            assert await rows_of(
                connection, "get_model_request_counts($1, $2)", START, END
            ) == sample.count_rows(variant, sample.STATS_OF_RANGE)


async def test_a_role_without_rights_on_the_tables_gets_nothing_through_the_functions(
    reading_role: Role, owner: Connection
) -> None:
    await owner.execute(f"SELECT chat_stats_grant_read('{reading_role.name}')")
    async with connect(reading_role.url) as reader:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await rows_of(reader, "get_models_with_requests()")
        await owner.execute(
            f"GRANT SELECT ON providers, models, chat_completion_requests TO {reading_role.name}"
        )
        assert len(await rows_of(reader, "get_models_with_requests()")) == 4


async def test_a_range_or_a_model_reads_an_index_and_not_the_table(
    owner: Connection, live: Gateway, database_of: Callable[[str], Awaitable[Database]]
) -> None:
    # 50,000 requests, one a second, of four models in turn.
    await owner.execute("TRUNCATE chat_completion_requests")
    await owner.execute(
        "INSERT INTO chat_completion_requests (id, model_id, input_tokens, created_at) "
        "SELECT i, 5000000001 + i % 4, 1, '2026-03-01 00:00+00'::timestamptz + i * interval '1 second' "
        "FROM generate_series(0, 49999) AS i"
    )
    await owner.execute("ANALYZE chat_completion_requests")
    await owner.execute("SET plan_cache_mode = force_generic_plan")  # a caller may have it so
    for minute in range(3):
        start = START + timedelta(hours=1, minutes=minute)
        end = start + timedelta(seconds=20)
        assert await rows_read(owner, "get_model_request_counts($1, $2)", start, end) == 20
        assert await rows_read(owner, "get_model_request_stats(5000000001, $1, $2)", start, end) <= 20

    database = await database_of(live.url)
    range_ = TimeRange(None, START + timedelta(hours=1), START + timedelta(hours=1, seconds=20))
    async with database.snapshot(wait_seconds=5) as snapshot:
        data, _ = await methods.run(Method.OPTIMIZED, snapshot, Query("counts", range_))
        assert sum(row["request_count"] for row in data) == 20
        [read] = await snapshot.fetch(ROWS_READ.replace("'chat", "'gateway_schema.chat"), timeout=5)
        assert read["count"] == 20


#: Rows of the requests that the current transaction read, from the table and through indexes.
ROWS_READ = (
    "SELECT seq_tup_read + idx_tup_fetch AS count FROM pg_stat_xact_user_tables "
    "WHERE relid = 'chat_completion_requests'::regclass"
)


async def rows_read(connection: Connection, call: str, *args: Any) -> int:
    async with connection.transaction():  # in between, the server moves the counts elsewhere once a second
        before = await connection.fetchval(ROWS_READ)
        await rows_of(connection, call, *args)
        return await connection.fetchval(ROWS_READ) - before
