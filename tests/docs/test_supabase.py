"""The roles of docs/supabase.md, on a Postgres with the roles and rights of a Supabase project."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from chat_stats.worker.local_servers import PostgresServer
from tests.conftest import run_migrations
from tests.docs.documents import ROOT, blocks

pytestmark = pytest.mark.every_postgres

ROLE, BYPASS, POLICY, REST_API = blocks(ROOT / "docs" / "supabase.md", "sql")

ROLES = ("anon", "authenticated", "service_role")
SUPABASE = """
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
"""
ROWS = """
INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');
INSERT INTO chat_completion_requests (model_id, user_id) VALUES (1, 'me'), (1, 'you');
ALTER TABLE chat_completion_requests ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON chat_completion_requests FOR SELECT TO authenticated USING (user_id = 'me');
"""
#: The document's name of the role, and this test's: roles belong to the whole server.
OURS = "chat_stats"

SUMMARY = "SELECT total_requests FROM get_chat_request_summary()"
OF_ROLLUP = "SELECT count(*) FROM chat_stats_rollup_model_slots"
WRITES = (
    "TRUNCATE chat_stats_deltas",
    "UPDATE chat_stats_rollup_state SET ready = true",
    "SELECT chat_stats_fold()",
)

Ask = Callable[..., Awaitable[int]]


@pytest.fixture
async def owner(empty_database: str, postgres: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the owner of a project's tables, after `migrate`."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(SUPABASE)
    await run_migrations(empty_database)
    await connection.execute(ROWS)
    yield connection
    roles = ", ".join([*ROLES, OURS] if await connection.fetchval(f"SELECT to_regrole('{OURS}')") else ROLES)
    await connection.execute(f"DROP OWNED BY {roles}; DROP ROLE {roles}")
    await connection.close()


@pytest.fixture
def ask(owner: asyncpg.Connection) -> Ask:
    async def ask_as(role: str, statement: str = SUMMARY) -> int:
        await owner.execute(f"SET ROLE {role}")
        try:
            return await owner.fetchval(statement)
        finally:
            await owner.execute("RESET ROLE")

    return ask_as


async def refuse(ask: Ask, role: str, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(role, statement)


async def test_the_service_and_the_worker_can_read_with_the_role_of_the_page(
    owner: asyncpg.Connection, ask: Ask
) -> None:
    await owner.execute(ROLE)
    assert await ask(OURS) == 0, "row level security without a policy, which the service refuses"
    await owner.execute(POLICY)
    assert await ask(OURS) == 2
    await owner.execute(f"DROP POLICY chat_stats ON chat_completion_requests; {BYPASS}")
    assert await ask(OURS) == 2
    await refuse(ask, OURS, *WRITES)


async def test_the_roles_of_the_api_have_no_rights_until_they_are_granted(
    owner: asyncpg.Connection, ask: Ask, empty_database: str
) -> None:
    for role in ROLES:
        await refuse(ask, role, SUMMARY, OF_ROLLUP, *WRITES)
    await owner.execute(REST_API)
    assert await ask("authenticated") == 1, "of the rows that its policy lets it see"
    await run_migrations(empty_database)
    assert await ask("authenticated") == 1
    await refuse(ask, "authenticated", OF_ROLLUP, *WRITES)
    await refuse(ask, "anon", SUMMARY, OF_ROLLUP, *WRITES)
    await owner.execute("SELECT chat_stats_revoke_read('authenticated')")
    await refuse(ask, "authenticated", SUMMARY)


async def test_the_gateways_own_tables_stay_as_they_are(owner: asyncpg.Connection, ask: Ask) -> None:
    assert await ask("authenticated", "SELECT count(*) FROM chat_completion_requests") == 1
    assert await ask("anon", "SELECT count(*) FROM models") == 1
