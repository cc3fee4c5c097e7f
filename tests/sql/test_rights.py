"""What chat-stats creates is for its owner and for roles that are granted it by name."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.compute.methods import Method
from tests.conftest import run_migrations
from tests.sql import sample
from tests.sql.calls import rows_of
from tests.sql.conftest import Ask, BuildGateway, Gateway, Role, connect
from tests.sql.schemas import PLAIN, Variant
from tests.sql.test_psql import run_file

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection

#: Rights on our tables, sequences and functions, of others than their owner.
RIGHTS = r"""
WITH ours AS (
    SELECT c.relname::text AS name, c.relowner AS owner, a.*
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT t.* FROM aclexplode(c.relacl) AS t
        UNION ALL
        SELECT t.* FROM pg_attribute AS b CROSS JOIN LATERAL aclexplode(b.attacl) AS t
        WHERE b.attrelid = c.oid
    ) AS a
    WHERE c.relnamespace = current_schema()::text::regnamespace AND c.relname LIKE 'chat\_stats\_%'
      AND c.relkind <> 'i'
    UNION ALL
    SELECT p.proname::text, p.proowner, t.*
    FROM pg_proc AS p
    CROSS JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) AS t
    WHERE p.pronamespace = current_schema()::text::regnamespace
)
SELECT CASE o.grantee WHEN 0 THEN 'PUBLIC' ELSE o.grantee::regrole::text END AS role, o.name, o.privilege_type
FROM ours AS o
WHERE o.grantee <> o.owner
ORDER BY 1, 2, 3
"""


async def rights_of(connection: Connection, role: str) -> set[str]:
    return {row["name"] for row in await connection.fetch(RIGHTS) if row["role"] == role}


async def roles_with_rights(connection: Connection) -> set[str]:
    return {row["role"] for row in await connection.fetch(RIGHTS)}


@dataclass(frozen=True)
class Supabase(Gateway):
    """A gateway whose owner gives `anon` all rights on what it creates in the schema, `global_` in any."""

    anon: str
    global_: str


@pytest.fixture
async def supabase(gateway: Gateway, owner: Connection) -> AsyncIterator[Supabase]:
    name = await owner.fetchval("SELECT current_user")
    anon, global_ = f"{name}_anon", f"{name}_global"
    async with connect(gateway.admin_url) as admin:
        await admin.execute(
            f"CREATE ROLE {anon}; CREATE ROLE {global_}; GRANT USAGE ON SCHEMA {name} TO {anon}"
        )
    for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
        await owner.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT ALL ON {kind} TO {anon}")
        await owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {global_}")
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {anon}, {global_}, PUBLIC")
    yield Supabase(gateway.variant, gateway.url, gateway.admin_url, anon, global_)
    async with connect(gateway.admin_url) as admin:
        await admin.execute(f"DROP OWNED BY {anon}, {global_}; DROP ROLE {anon}, {global_}")


@pytest.mark.parametrize("by", ["migrate", "psql"])
async def test_default_privileges_and_public_give_no_right_on_what_is_created(
    supabase: Supabase, owner: Connection, by: str
) -> None:
    if by == "migrate":
        assert await run_migrations(supabase.url) == []
    else:
        await run_file(supabase.url)
    assert [tuple(r) for r in await owner.fetch(RIGHTS)] == []
    for statement in (
        "SELECT * FROM chat_stats_rollup_model_days",
        "TRUNCATE chat_stats_deltas",
        "SELECT * FROM get_model_request_counts()",
        "SELECT chat_stats_bucket(now())",
    ):
        async with connect(supabase.admin_url) as admin:
            await admin.execute(f"SET ROLE {supabase.anon}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await admin.execute(statement)


async def test_what_an_older_version_or_a_statement_left_open_is_closed_by_the_next_migrate(
    supabase: Supabase, owner: Connection
) -> None:
    await run_migrations(supabase.url)
    schema = await owner.fetchval("SELECT current_schema()")
    everyone = f"{supabase.anon}, {supabase.global_}, PUBLIC"
    await owner.execute(
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {everyone};"
        f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA {schema} TO {everyone};"
        f"GRANT UPDATE (model_id) ON chat_stats_deltas TO {supabase.anon}"
    )
    assert await roles_with_rights(owner) == {supabase.anon, supabase.global_, "PUBLIC"}
    assert await run_migrations(supabase.url) == []
    assert [tuple(r) for r in await owner.fetch(RIGHTS)] == []


async def test_the_gateways_own_tables_and_functions_keep_their_rights(
    supabase: Supabase, owner: Connection
) -> None:
    await owner.execute("CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    await run_migrations(supabase.url)
    async with connect(supabase.admin_url) as admin:
        await admin.execute(f"SET ROLE {supabase.anon}")
        assert await admin.fetchval("SELECT theirs()") == 1
        assert await admin.fetchval("SELECT count(*) FROM models") > 0


async def test_a_grant_to_a_role_by_name_survives_also_when_a_function_is_replaced(
    build_gateway: BuildGateway,
) -> None:
    gateway = await build_gateway(Variant("small", provider_ids="int", model_ids="int", request_ids="int"))
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection, connect(gateway.admin_url) as admin:
        reader = f"{await connection.fetchval('SELECT current_user')}_reader"
        await admin.execute(f"CREATE ROLE {reader}")
        await connection.execute(
            f"GRANT SELECT ON chat_stats_rollup_state TO {reader};"
            f"GRANT EXECUTE ON FUNCTION chat_stats_bucket, chat_stats_rolled_up_histograms TO {reader};"
            f"GRANT EXECUTE ON FUNCTION get_model_request_counts TO {reader} WITH GRANT OPTION"
        )
        before = await connection.fetch(RIGHTS)
        await run_migrations(gateway.url)
        assert await connection.fetch(RIGHTS) == before
        await connection.execute(
            "ALTER TABLE models ALTER id TYPE bigint; "
            "ALTER TABLE chat_completion_requests ALTER model_id TYPE bigint"
        )
        assert await run_migrations(gateway.url) == []
        assert await connection.fetch(RIGHTS) == before
        assert len(await rows_of(connection, "get_model_request_counts()")) == 4
        grantable = "SELECT proacl::text FROM pg_proc WHERE oid = 'get_model_request_counts'::regproc"
        assert f"{reader}=X*/" in await connection.fetchval(grantable)
        left = (
            "SELECT count(*) FROM pg_proc WHERE proname LIKE '%\\_former\\_%' "
            "AND pronamespace = current_schema()::text::regnamespace"
        )
        assert await connection.fetchval(left) == 0


async def test_a_reader_may_call_every_function_that_answers_and_use_the_rollup(
    reading_role: Role, owner: Connection, ask: Ask
) -> None:
    await owner.execute(f"GRANT SELECT ON providers, models, chat_completion_requests TO {reading_role.name}")
    for range_ in (TimeRange("all"), TimeRange(None, sample.START, sample.END)):
        computed = await ask(Query("counts", range_), url=reading_role.url)
        assert (computed.method, computed.precision) == (Method.OPTIMIZED, None)
    await owner.execute(f"SELECT chat_stats_grant_read('{reading_role.name}')")
    for name in ("providers", "models", "counts", "summary", "timeseries"):
        assert (await ask(Query(name), url=reading_role.url)).method is Method.RPC
    async with connect(reading_role.url) as reader:
        assert await rows_of(reader, "get_models_with_requests()") == sample.model_rows(
            PLAIN, sample.STATS_OF_ALL
        )
        await reader.fetch("SELECT * FROM chat_stats_rollup_model_lifetime")
        for statement in ("TRUNCATE chat_stats_deltas", "SELECT chat_stats_fold()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(statement)


async def test_a_reader_is_granted_what_a_later_version_adds(
    reading_role: Role, live: Gateway, owner: Connection
) -> None:
    await owner.execute(
        f"GRANT SELECT ON chat_completion_requests TO {reading_role.name};"
        f"SELECT chat_stats_grant_read('{reading_role.name}')"
    )
    granted = await rights_of(owner, reading_role.name)
    assert {"chat_stats_bucket", "get_chat_request_summary", "chat_stats_purged_model"} < granted
    await owner.execute(
        "DROP FUNCTION get_chat_request_summary, chat_stats_bucket CASCADE; "
        "DROP TABLE chat_stats_purged_model"
    )
    await run_migrations(live.url)
    assert await rights_of(owner, reading_role.name) == granted

    await owner.execute(f"SELECT chat_stats_revoke_read('{reading_role.name}')")
    assert await rights_of(owner, reading_role.name) == set()
    await owner.execute(f"REVOKE SELECT ON chat_completion_requests FROM {reading_role.name}")
    await run_migrations(live.url)
    assert await rights_of(owner, reading_role.name) == set()


async def test_a_reader_that_may_not_see_all_requests_gets_no_sums_of_them(
    reading_role: Role, owner: Connection
) -> None:
    await owner.execute(
        f"GRANT SELECT ON providers, models, chat_completion_requests TO {reading_role.name};"
        "ALTER TABLE chat_completion_requests ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON chat_completion_requests USING (user_id IS NULL);"
        f"SELECT chat_stats_grant_read('{reading_role.name}')"
    )
    tables = (
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'chat\\_stats\\_%' AND relkind = 'r' "
        "AND relnamespace = current_schema()::text::regnamespace AND has_table_privilege($1, oid, 'SELECT')"
    )
    assert await owner.fetchval(tables, reading_role.name) == 0
    async with connect(reading_role.url) as reader:
        await rows_of(reader, "get_model_request_counts()")


async def test_a_role_with_default_privileges_can_be_a_reader_and_no_more(
    supabase: Supabase, owner: Connection
) -> None:
    await run_migrations(supabase.url)
    await owner.execute(f"SELECT chat_stats_grant_read('{supabase.anon}')")
    granted = await owner.fetch(RIGHTS)
    assert {(row["role"], row["privilege_type"]) for row in granted} == {
        (supabase.anon, "EXECUTE"),
        (supabase.anon, "SELECT"),
    }
    assert not {"chat_stats_fold", "chat_stats_grant_read"} & {row["name"] for row in granted}
    schema = await owner.fetchval("SELECT current_schema()")
    await owner.execute(
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {supabase.anon};"
        f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA {schema} TO {supabase.anon}, {supabase.global_}"
    )
    await run_migrations(supabase.url)
    assert await owner.fetch(RIGHTS) == granted
    async with connect(supabase.admin_url) as admin:
        await admin.execute(f"SET ROLE {supabase.anon}")
        assert len(await rows_of(admin, "get_model_request_counts()")) == 4
