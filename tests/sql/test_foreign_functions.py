"""A gateway may have functions of our names already: ours take the names, theirs are kept under others."""

import asyncpg
import pytest

from chat_stats.service.errors import SchemaError
from tests.cases import sampled
from tests.conftest import run_migrations
from tests.sql import sample
from tests.sql.calls import FUNCTIONS, rows_of
from tests.sql.conftest import Gateway, Role, connect
from tests.sql.schemas import PLAIN

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection

FOREIGN = {
    "no arguments, other columns": (
        "get_provider_request_stats",
        "CREATE FUNCTION get_provider_request_stats() RETURNS TABLE (provider text, n int) "
        "LANGUAGE sql AS $$ SELECT 'theirs', 1 $$",
    ),
    "our signature, other columns": (
        "get_provider_request_stats",
        "CREATE FUNCTION get_provider_request_stats(p_start timestamptz DEFAULT NULL, "
        "p_end timestamptz DEFAULT NULL) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    "an id of another type": (
        "get_model_request_stats",
        "CREATE FUNCTION get_model_request_stats(p_model_id integer) RETURNS TABLE (total_requests bigint) "
        "LANGUAGE sql AS 'SELECT 1::bigint'",
    ),
    "defaults that make calls ambiguous": (
        "get_model_request_counts",
        "CREATE FUNCTION get_model_request_counts(days int DEFAULT 7) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    "a procedure": (
        "get_models_with_requests",
        "CREATE PROCEDURE get_models_with_requests() LANGUAGE sql AS 'SELECT 1'",
    ),
    "an aggregate": (
        "get_models_with_requests",
        "CREATE AGGREGATE get_models_with_requests(int) (SFUNC = int4pl, STYPE = int)",
    ),
}


async def functions_named(connection: Connection, name: str) -> list[int]:
    """Return the oids of the functions of that name in the gateway's schema."""
    records = await connection.fetch(
        "SELECT oid FROM pg_proc WHERE proname = $1 AND pronamespace = current_schema()::text::regnamespace",
        name,
    )
    return [record["oid"] for record in records]


@pytest.mark.parametrize(("name", "definition"), FOREIGN.values(), ids=FOREIGN)
async def test_a_foreign_function_is_kept_under_another_name(
    gateway: Gateway, owner: Connection, name: str, definition: str
) -> None:
    await owner.execute(definition)
    [oid] = await functions_named(owner, name)
    signature = await owner.fetchval("SELECT oid::regprocedure::text FROM pg_proc WHERE oid = $1", oid)
    source = await owner.fetchval("SELECT prosrc FROM pg_proc WHERE oid = $1", oid)

    [warning] = await run_migrations(gateway.url)

    kept_as = await owner.fetchval("SELECT proname::text FROM pg_proc WHERE oid = $1", oid)
    assert kept_as != name
    assert f"{signature} existed" in warning
    assert f"kept as {kept_as}" in warning
    assert await owner.fetchval("SELECT prosrc FROM pg_proc WHERE oid = $1", oid) == source
    assert await run_migrations(gateway.url) == []
    assert await owner.fetchval("SELECT proname::text FROM pg_proc WHERE oid = $1", oid) == kept_as


async def test_each_call_is_ours_and_unambiguous_afterwards(gateway: Gateway, owner: Connection) -> None:
    for number, (_, definition) in enumerate(FOREIGN.values()):
        # Two have the same name and arguments.
        if number != 1:
            await owner.execute(definition)
    assert len(await run_migrations(gateway.url)) == len(FOREIGN) - 1

    assert await rows_of(owner, "get_provider_request_stats()") == sample.provider_rows(
        PLAIN, sample.PROVIDERS_OF_ALL
    )
    assert await rows_of(owner, "get_models_with_requests()") == sample.model_rows(PLAIN, sample.STATS_OF_ALL)
    assert await rows_of(owner, "get_model_request_counts()") == sample.count_rows(PLAIN, sample.STATS_OF_ALL)
    model_id = PLAIN.id("models", 1)
    assert await rows_of(owner, f"get_model_request_stats({model_id})") == [sample.STATS_OF_ALL[1]]
    for name in FUNCTIONS:
        assert len(await functions_named(owner, name)) == 1


async def test_a_view_on_a_foreign_function_goes_on_working(gateway: Gateway, owner: Connection) -> None:
    await owner.execute(FOREIGN["no arguments, other columns"][1])
    await owner.execute("CREATE VIEW board AS SELECT * FROM get_provider_request_stats()")
    await run_migrations(gateway.url)
    assert await owner.fetchval("SELECT provider FROM board") == "theirs"


async def test_functions_of_our_names_in_other_schemas_are_left_alone(
    gateway: Gateway, owner: Connection
) -> None:
    role = await owner.fetchval("SELECT current_user")
    async with connect(gateway.admin_url) as admin:
        await admin.execute(f"CREATE SCHEMA {role}_other AUTHORIZATION {role}")
    definition = FOREIGN["no arguments, other columns"][1]
    await owner.execute(definition.replace("FUNCTION ", f"FUNCTION {role}_other."))
    assert await run_migrations(gateway.url) == []
    assert await owner.fetchval(f"SELECT provider FROM {role}_other.get_provider_request_stats()") == "theirs"


RERUN = {
    name: FOREIGN[name]
    for name in FOREIGN
    if name != "our signature, other columns"  # which CREATE FUNCTION refuses once ours is there
}


@pytest.mark.parametrize(("name", "definition"), sampled(RERUN))
async def test_a_gateways_migration_that_runs_ten_times_leaves_one_copy(
    live: Gateway, owner: Connection, name: str, definition: str
) -> None:
    for _ in range(10):
        await owner.execute(definition)
        [warning] = await run_migrations(live.url)
        assert len(await functions_named(owner, name)) == 1
    assert "it is dropped, as get_" in warning
    assert await kept(owner) == 1
    await owner.fetch("SELECT * FROM get_model_request_counts()")


async def test_another_definition_is_kept_beside_the_first(live: Gateway, owner: Connection) -> None:
    name, definition = FOREIGN["an id of another type"]
    for number in (1, 2, 1, 2):
        await owner.execute(definition.replace("1::bigint", f"{number}::bigint"))
        await run_migrations(live.url)
    assert await kept(owner) == 2
    assert len(await functions_named(owner, name)) == 1


async def test_a_second_copy_that_a_view_uses_is_kept(live: Gateway, owner: Connection) -> None:
    _, definition = FOREIGN["an id of another type"]
    await owner.execute(definition)
    await run_migrations(live.url)
    await owner.execute(definition)
    await owner.execute("CREATE VIEW board AS SELECT * FROM get_model_request_stats(7)")
    await run_migrations(live.url)
    assert await kept(owner) == 2
    assert await owner.fetchval("SELECT total_requests FROM board") == 1


@pytest.mark.parametrize(
    ("name", "parameters"), [("chat_stats_bucket", "timestamp"), ("chat_stats_fold", "int")]
)
async def test_overloads_of_inner_functions_are_set_aside(
    live: Gateway, owner: Connection, name: str, parameters: str
) -> None:
    await owner.execute(f"CREATE FUNCTION {name}({parameters}) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    [warning] = await run_migrations(live.url)
    assert f"kept as {name}_replaced_" in warning
    assert len(await functions_named(owner, name)) == 1


async def test_one_of_another_role_is_named_with_the_statement_that_its_owner_can_run(
    live: Gateway, owner: Connection, reading_role: Role
) -> None:
    schema = await owner.fetchval("SELECT current_schema()")
    await owner.execute(f"GRANT CREATE ON SCHEMA {schema} TO {reading_role.name}")
    async with connect(reading_role.url) as other:
        await other.execute(FOREIGN["an id of another type"][1])
        with pytest.raises(SchemaError, match=r"DROP ROUTINE \w+\.get_model_request_stats"):
            await run_migrations(live.url)
        await other.execute("DROP ROUTINE get_model_request_stats(integer)")
    assert await run_migrations(live.url) == []


async def kept(connection: Connection) -> int:
    """Return how many functions are kept under another name."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_proc WHERE proname LIKE '%\\_replaced\\_%' "
        "AND pronamespace = current_schema()::text::regnamespace"
    )
    return count
