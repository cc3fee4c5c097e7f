"""What `chat-stats status` finds about rights, row level security and functions of our names."""

import asyncpg
import pytest

from chat_stats.service.settings import Settings
from chat_stats.worker.cli import status
from chat_stats.worker.cli.status import Status
from tests.conftest import run_migrations

pytestmark = pytest.mark.every_postgres


async def look(settings: Settings) -> Status:
    return await status.collect(settings)


def has_trouble(found: Status) -> bool:
    """Return whether the database or anything in it has a problem."""
    return {found.database, found.rights, found.row_security, *found.functions.values()} != {"ok"}


async def test_a_role_that_may_read_has_no_problem(as_reader: Settings) -> None:
    assert not has_trouble(await look(as_reader))


@pytest.mark.parametrize("privilege", ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"])
async def test_a_role_that_may_write_our_tables_is_named_with_the_statement_that_revokes_it(
    as_reader: Settings, gateway: asyncpg.Connection, privilege: str
) -> None:
    await gateway.execute(f"GRANT {privilege} ON chat_stats_deltas, chat_stats_purged_model TO pg_monitor")
    found = await look(as_reader)
    said, statement = found.rights.split("; run: ")
    assert said == f"pg_monitor has {privilege} on public.chat_stats_deltas, public.chat_stats_purged_model"
    assert not found.healthy
    await gateway.execute(statement)
    assert (await look(as_reader)).rights == "ok"


async def test_a_grant_on_columns_or_to_public_is_named_too(
    as_reader: Settings, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(
        "GRANT SELECT ON chat_stats_rollup_model_days TO PUBLIC;"
        "GRANT UPDATE (ready) ON chat_stats_rollup_state TO pg_monitor"
    )
    assert (await look(as_reader)).rights == (
        "PUBLIC has SELECT on public.chat_stats_rollup_model_days; "
        "run: REVOKE ALL ON public.chat_stats_rollup_model_days FROM PUBLIC; "
        "pg_monitor has UPDATE on public.chat_stats_rollup_state; "
        "run: REVOKE ALL ON public.chat_stats_rollup_state FROM pg_monitor"
    )


async def test_it_says_when_the_gateways_tables_hide_rows(
    as_reader: Settings, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("ALTER TABLE providers ENABLE ROW LEVEL SECURITY")
    found = await look(as_reader)
    assert found.database.startswith("row level security hides rows of providers from the role reader_of_")
    assert not found.healthy


async def test_it_says_when_our_own_tables_hide_rows(
    as_reader: Settings, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("ALTER TABLE chat_stats_rollup_model_days ENABLE ROW LEVEL SECURITY")
    found = await look(as_reader)
    assert found.row_security.startswith(
        "row level security hides rows of public.chat_stats_rollup_model_days from the role reader_of_"
    )
    assert not found.healthy
    assert (found.database, set(found.functions.values())) == ("ok", {"ok"})


async def test_it_names_the_grant_for_a_function_that_is_not_permitted(
    as_reader: Settings, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(
        "DO $$ BEGIN EXECUTE format("
        "'SELECT chat_stats_revoke_read(%L)', 'reader_of_' || current_database()); END $$"
    )
    found = await look(as_reader)
    state = found.functions["get_model_request_counts"]
    assert state.startswith("permission denied for function get_model_request_counts; its owner can run: ")
    assert not found.healthy
    await gateway.execute(state.split("can run: ")[1])
    assert not has_trouble(await look(as_reader))


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("get_model_request_stats", "get_model_request_stats(integer)"),
        ("get_models_with_requests", "get_models_with_requests()"),
        ("chat_stats_bucket", "chat_stats_bucket(date)"),
    ],
)
async def test_it_finds_overloads_and_migrate_removes_them(
    settings: Settings, gateway: asyncpg.Connection, name: str, signature: str
) -> None:
    await gateway.execute(f"CREATE FUNCTION {signature} RETURNS int LANGUAGE sql AS 'SELECT 1'")
    found = await look(settings)
    assert found.functions[name] == f"there is also public.{signature}; run: chat-stats migrate"
    assert not found.healthy
    await run_migrations(settings.database_url.get_secret_value())
    assert not has_trouble(await look(settings))


async def test_an_overload_in_another_schema_of_the_search_path_is_found_too(
    settings: Settings, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(
        "CREATE SCHEMA other; CREATE FUNCTION other.get_model_request_counts(int) RETURNS int "
        "LANGUAGE sql AS 'SELECT 1'"
    )
    assert not has_trouble(await look(settings))
    await gateway.execute(
        "DO $$ BEGIN EXECUTE format("
        "'ALTER DATABASE %I SET search_path = other, public', current_database()); END $$"
    )
    found = await look(settings)
    assert found.functions["get_model_request_counts"] == (
        "there is also other.get_model_request_counts(integer); "
        "drop it, or take its schema off the search_path"
    )
