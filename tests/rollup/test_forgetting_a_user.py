"""What is left of a user whose requests are deleted, as docs/how-to.md says."""

import pytest

from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.docs.documents import ROOT, blocks
from tests.rollup.conftest import ignored
from tests.rollup.own import COLUMNS, add, own_rollups

pytestmark = pytest.mark.slow

#: A value that occurs nowhere else.
USER = "user-to-forget"
VALUES = f"UPDATE chat_completion_requests SET user_id = CASE id % 7 WHEN 0 THEN '{USER}' ELSE 'another' END"


@pytest.fixture
async def users(requests: Connection) -> Connection:
    """Requests with users, and a rollup by user."""
    await requests.execute(COLUMNS)
    await requests.execute(VALUES)
    await Rollup(requests).enable(ignored)
    await add(requests, "users", "user_id")
    return requests


async def tables_with_the_user(connection: Connection) -> set[str]:
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE tablename LIKE 'chat\\_stats\\_%'")
    return {
        table
        for (table,) in tables
        if await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {table} AS t WHERE t::text LIKE '%{USER}%')"
        )
    }


async def forget(connection: Connection) -> None:
    await connection.execute("DELETE FROM chat_completion_requests WHERE user_id = $1", USER)
    await connection.execute("SELECT chat_stats_fold()")
    (statements,) = [text for text in blocks(ROOT / "docs" / "how-to.md", "sql") if "by_user_id" in text]
    await connection.execute(statements.replace("'42'", f"'{USER}'"))


async def test_nothing_is_left_after_the_documented_statements(users: Connection) -> None:
    await forget(users)
    assert await tables_with_the_user(users) == set()
    assert await Rollup(users).verify(ignored) == 0


async def test_sums_of_purged_requests_stay_by_user_until_the_rollup_is_removed(users: Connection) -> None:
    middle = await users.fetchval("SELECT now() - interval '40 days'")
    assert (await Retention(users).purge(middle, ignored)).requests > 0
    total = "SELECT total_requests FROM get_chat_request_summary()"
    deleted = await users.fetchval("SELECT count(*) FROM chat_completion_requests WHERE user_id = $1", USER)
    before = await users.fetchval(total)
    await forget(users)
    assert await tables_with_the_user(users)
    assert await Rollup(users).verify(ignored) == 0
    await own_rollups(users).remove("users")
    assert await tables_with_the_user(users) == set()
    assert await users.fetchval(total) == before - deleted, "the totals keep what was purged, of no user"
