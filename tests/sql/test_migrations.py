"""`chat-stats migrate`: on an empty schema, on a gateway's, again, and when something is missing."""

import asyncio
from typing import Any

import asyncpg
import pytest

from chat_stats.service.database.migrations import migrate
from chat_stats.service.database.rendering import declared
from chat_stats.service.errors import DatabaseUnavailable, SchemaError
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import free_port
from tests.conftest import run_migrations
from tests.sql import sample
from tests.sql.calls import FUNCTIONS, rows_of
from tests.sql.catalogue import foreign_objects, our_indexes
from tests.sql.conftest import BuildGateway, Gateway, Role, connect
from tests.sql.schemas import PLAIN, Variant

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection

TABLES = ("providers", "models", "chat_completion_requests")

REQUIRED_COLUMNS = {
    "providers": ("id", "name", "slug"),
    "models": ("id", "provider_id", "model_name", "provider_model_id"),
    "chat_completion_requests": (
        "id",
        "model_id",
        "input_tokens",
        "output_tokens",
        "processing_time_ms",
        "status",
        "created_at",
    ),
}


async def our_objects(connection: Connection) -> list[Any]:
    """Return identity and definition of each of our functions and indexes."""
    functions = await connection.fetch(
        "SELECT oid, pg_get_functiondef(oid), obj_description(oid, 'pg_proc') FROM pg_proc "
        "WHERE pronamespace = quote_ident(current_schema())::regnamespace ORDER BY oid"
    )
    indexes = await connection.fetch(
        r"SELECT oid, relname, relfilenode FROM pg_class WHERE relname LIKE 'chat\_stats\_%' "
        "AND relnamespace = quote_ident(current_schema())::regnamespace ORDER BY oid"
    )
    return [*functions, *indexes]


async def tables_of(connection: Connection) -> set[str]:
    """Return the tables of a gateway, those of the rollup aside."""
    return {
        record[0]
        for record in await connection.fetch(
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' "
            r"AND relname NOT LIKE 'chat\_stats\_%' "
            "AND relnamespace = quote_ident(current_schema())::regnamespace"
        )
    }


async def test_an_empty_database_gets_tables_indexes_and_functions(empty_database: str) -> None:
    await run_migrations(empty_database)
    async with connect(empty_database) as connection:
        assert await tables_of(connection) == set(TABLES)
        assert set(await our_indexes(connection)) == {
            "chat_stats_requests_created_at_idx",
            "chat_stats_requests_model_id_created_at_idx",
            "chat_stats_requests_status_created_at_idx",
        }
        for name in FUNCTIONS:
            argument = "NULL" if name.endswith(("_by_provider", "get_model_request_stats")) else ""
            assert await rows_of(connection, f"{name}({argument})") == []
        assert await rows_of(connection, "get_chat_request_summary()") == [sample.SUMMARY_OF_NOTHING]


async def test_the_created_tables_take_a_gateways_rows(build_gateway: BuildGateway) -> None:
    gateway = await build_gateway(PLAIN, empty=True)
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection:
        await connection.execute(
            "INSERT INTO providers (name, slug) VALUES ('Acme', 'acme');"
            "INSERT INTO models (provider_id, model_name, model_id) VALUES (1, 'Alpha', 'acme/alpha');"
            "INSERT INTO chat_completion_requests "
            "(request_id, model_id, input_tokens, output_tokens, processing_time_ms, user_id, cost_usd) "
            "VALUES ('r-1', 1, 10, 5, 12.5, 'u-1', 0.25)"
        )
        assert await rows_of(connection, "get_models_with_requests(now() - interval '1 hour')") == [
            {
                "model_id": 1,
                "model_identifier": "acme/alpha",
                "model_name": "Alpha",
                "provider_model_id": None,
                "provider": {"id": 1, "name": "Acme", "slug": "acme"},
                "stats": sample.stats(1, 10, 5, 15, 12.5),
            }
        ]


async def test_migrating_again_leaves_functions_and_indexes_as_they_are(
    gateway: Gateway, owner: Connection
) -> None:
    await run_migrations(gateway.url)
    before = await our_objects(owner)
    assert len(before) > 10
    await run_migrations(gateway.url)
    assert await our_objects(owner) == before


async def test_every_file_is_reported_in_its_order(gateway: Gateway) -> None:
    started: list[str] = []
    settings = Settings(database_url=gateway.url, _env_file=None)
    await migrate(settings, create_tables=False, started=started.append, warned=started.append)
    assert started == declared().sql()
    folders = ["migrations", "functions", "clean_up"]
    assert started == sorted(started, key=lambda name: (folders.index(name.split("/")[0]), name))


async def test_two_runs_at_the_same_time_both_succeed(build_gateway: BuildGateway) -> None:
    for empty in (False, True):
        gateway = await build_gateway(PLAIN, empty=empty)
        warnings = await asyncio.gather(*(run_migrations(gateway.url) for _ in range(3)))
        assert warnings == [[], [], []]
        async with connect(gateway.url) as connection:
            assert len(await rows_of(connection, "get_models_with_requests()")) == (0 if empty else 4)


async def test_a_statement_timeout_of_the_role_does_not_stop_it(gateway: Gateway, owner: Connection) -> None:
    await owner.execute("ALTER ROLE CURRENT_USER SET statement_timeout = '1ms'")
    await run_migrations(gateway.url)


async def test_a_schema_with_other_tables_alone_is_taken_for_the_wrong_one(
    build_gateway: BuildGateway,
) -> None:
    gateway = await build_gateway(PLAIN, empty=True)
    async with connect(gateway.url) as connection:
        await connection.execute("CREATE TABLE invoices (id int)")
        before = await foreign_objects(connection)
        with pytest.raises(
            SchemaError,
            match=r"0001_gateway_tables.*providers, models, chat_completion_requests.*--create-tables",
        ):
            await run_migrations(gateway.url)
        assert await foreign_objects(connection) == before
        assert await our_objects(connection) == []

        await run_migrations(gateway.url, create_tables=True)
        assert await tables_of(connection) == {*TABLES, "invoices"}
        await run_migrations(gateway.url)


async def test_a_missing_table_beside_the_others_is_named_and_never_created(
    gateway: Gateway, owner: Connection
) -> None:
    for table in TABLES:
        await owner.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
        before = await foreign_objects(owner)
        for create_tables in (False, True):
            with pytest.raises(SchemaError, match=rf'missing table.*": {table} \('):
                await run_migrations(gateway.url, create_tables=create_tables)
        assert await foreign_objects(owner) == before
        await owner.execute(f"ALTER TABLE elsewhere RENAME TO {table}")


async def test_a_missing_required_column_is_named(gateway: Gateway, owner: Connection) -> None:
    for table, columns in REQUIRED_COLUMNS.items():
        for column in columns:
            await owner.execute(f"ALTER TABLE {table} RENAME {column} TO elsewhere")
            with pytest.raises(SchemaError, match=rf"missing column\(s\): {table}\.{column} \("):
                await run_migrations(gateway.url)
            await owner.execute(f"ALTER TABLE {table} RENAME elsewhere TO {column}")


async def test_a_role_that_does_not_own_the_tables_is_told_so(owner: Connection, reading_role: Role) -> None:
    schema = await owner.fetchval("SELECT current_schema()")
    await owner.execute(f"GRANT ALL ON SCHEMA {schema} TO {reading_role.name}")
    await owner.execute(
        "DROP INDEX chat_stats_requests_created_at_idx; DROP FUNCTION chat_stats_index_statements"
    )
    with pytest.raises(SchemaError, match="must be owner of table chat_completion_requests"):
        await run_migrations(reading_role.url)


async def test_a_server_that_is_not_there_is_an_outage() -> None:
    with pytest.raises(DatabaseUnavailable):
        await run_migrations(f"postgresql://user@127.0.0.1:{free_port()}/nothing")


async def test_an_optional_column_that_is_dropped_later_does_no_harm(
    gateway: Gateway, owner: Connection
) -> None:
    await run_migrations(gateway.url)
    without_identifier = Variant("without", has_model_id=False)
    # The functions have run in this session, and have plans to forget.
    assert await rows_of(owner, "get_models_with_requests()") == sample.model_rows(PLAIN, sample.STATS_OF_ALL)

    await owner.execute("ALTER TABLE models DROP COLUMN model_id")
    expected = sample.model_rows(without_identifier, sample.STATS_OF_ALL)
    assert await rows_of(owner, "get_models_with_requests()") == expected
    counts = sample.count_rows(without_identifier, sample.STATS_OF_ALL)
    assert await rows_of(owner, "get_model_request_counts()") == counts

    await owner.execute("ALTER TABLE chat_completion_requests DROP COLUMN cost_usd")
    assert await rows_of(owner, "get_models_with_requests()") == expected
    summary = sample.SUMMARY_OF_ALL | {"total_cost_usd": None}
    assert await rows_of(owner, "get_chat_request_summary()") == [summary]

    await run_migrations(gateway.url)
    assert await rows_of(owner, "get_models_with_requests()") == expected


async def test_ids_may_become_bigint_after_the_first_migration(build_gateway: BuildGateway) -> None:
    small = Variant("small", provider_ids="int", model_ids="int", request_ids="int")
    gateway = await build_gateway(small)
    assert await run_migrations(gateway.url) == []
    async with connect(gateway.url) as connection:
        await connection.execute(
            "ALTER TABLE providers ALTER id TYPE bigint; ALTER TABLE models ALTER id TYPE bigint;"
            "ALTER TABLE models ALTER provider_id TYPE bigint;"
            "ALTER TABLE chat_completion_requests ALTER model_id TYPE bigint, ALTER id TYPE bigint"
        )
        assert await run_migrations(gateway.url) == []
        await connection.execute("UPDATE models SET id = 5000000001 WHERE id = 1")
        await connection.execute(
            "UPDATE chat_completion_requests SET model_id = 5000000001 WHERE model_id = 1"
        )
        rows = await rows_of(connection, "get_models_with_requests()")
        assert [row["model_id"] for row in rows] == [5000000001, 2, 4, 3]
        assert await rows_of(connection, "get_model_request_stats(5000000001)") == [sample.STATS_OF_ALL[1]]


async def test_a_view_on_a_function_of_ours_is_kept(gateway: Gateway, owner: Connection) -> None:
    await run_migrations(gateway.url)
    await owner.execute("CREATE VIEW board AS SELECT * FROM get_provider_request_stats()")
    assert await run_migrations(gateway.url) == []
    assert await owner.fetchval("SELECT sum(total_requests) FROM board") == 12


async def test_a_view_that_holds_a_function_of_the_old_types_stops_the_migration_and_is_named(
    live: Gateway, owner: Connection
) -> None:
    await owner.execute(
        "CREATE VIEW board AS SELECT * FROM get_provider_request_stats();"
        "ALTER TABLE providers ALTER id TYPE numeric"
    )
    with pytest.raises(
        SchemaError, match=r"view \S+\.board depends on function \S+\.get_provider_request_stats"
    ):
        await run_migrations(live.url)
    assert await owner.fetchval("SELECT to_regclass('board')::text") == "board"
