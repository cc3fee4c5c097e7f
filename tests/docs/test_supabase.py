"""What docs/supabase.md says of roles, on a Postgres with those of a Supabase project and their rights."""

import asyncpg
import pytest

from tests.conftest import run_migrations
from tests.docs.documents import ROOT, blocks

ROLE, BYPASS, NO_CALLS, NO_TABLES = blocks(ROOT / "docs" / "supabase.md", "sql")

SUPABASE = """
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
GRANT USAGE ON SCHEMA public TO anon, authenticated;
GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO anon, authenticated;
ALTER TABLE chat_completion_requests ENABLE ROW LEVEL SECURITY;
"""
SUMMARY = "SELECT total_requests FROM get_chat_request_summary()"


async def test_the_roles_of_a_supabase_project_may_do_what_the_page_says(empty_database: str) -> None:
    await run_migrations(empty_database, create_tables=True)
    connection = await asyncpg.connect(empty_database)

    async def ask(role: str, statement: str = SUMMARY) -> int | None:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {role}")
            found: int | None = await connection.fetchval(statement)
            await connection.execute("RESET ROLE")
            return found

    # Roles are the whole server's: none of them outlives this transaction.
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("""
            INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
            INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha');
            INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, now());
        """)
        await connection.execute(SUPABASE)
        await connection.execute(ROLE)
        assert await ask("chat_stats") == 0, "row level security without a policy"
        await connection.execute(BYPASS)
        assert await ask("chat_stats") == 1
        assert await ask("anon") == 0

        await connection.execute(NO_CALLS)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="get_chat_request_summary"):
            await ask("anon")
        assert await ask("chat_stats") == 1

        of_rollup = "SELECT count(*) FROM chat_stats_rollup_slots"
        assert await ask("anon", of_rollup) == 0
        await connection.execute(NO_TABLES)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="chat_stats_rollup_slots"):
            await ask("anon", of_rollup)
    finally:
        await transaction.rollback()
        await connection.close()
