"""What the database is set to, and its publications, keep neither writers nor folds from their work."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup.upkeep import Rollup, open_rollup
from chat_stats.service.settings import Settings
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import assert_exact
from tests.rollup.own import add, own_rollups

pytestmark = pytest.mark.every_postgres

WRITE_AND_DELETE = (
    "INSERT INTO chat_completion_requests (id, model_id, created_at) VALUES (-1, 1, now())",
    "DELETE FROM chat_completion_requests WHERE id = -1",
)
FOLD = "SELECT chat_stats_fold()"


@pytest.fixture
async def serializable(rolled_up: Connection, database_url: str) -> AsyncIterator[Connection]:
    """A session of the gateway, whose database makes all transactions serializable."""
    await rolled_up.execute(
        "DO $$ BEGIN EXECUTE format("
        "'ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$"
    )
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_folds_do_not_conflict_with_serializable_writes(
    rolled_up: Connection, serializable: Connection, database_url: str
) -> None:
    async with open_rollup(Settings(database_url=database_url, _env_file=None)) as rollup:
        for _ in range(5):
            transaction = serializable.transaction()
            await transaction.start()
            await serializable.execute(WRITE_AND_DELETE[0])
            await rollup.fold()
            await serializable.execute(WRITE_AND_DELETE[1])
            await transaction.commit()
            assert await rollup.fold() == 2
    await assert_exact(rolled_up)


@pytest.mark.parametrize(
    "which", ["FOR ALL TABLES", "FOR TABLE chat_stats_deltas, chat_stats_rollup_total_slots"]
)
async def test_tables_of_ours_may_be_published(requests: Connection, database_url: str, which: str) -> None:
    await requests.execute(f"CREATE PUBLICATION everything {which}")
    await run_migrations(database_url)
    rollup = Rollup(requests)
    await rollup.enable(ignored)
    await add(requests, "users", "user_id", dimensions="user_id")
    for write in WRITE_AND_DELETE:
        await requests.execute(write)
    assert await rollup.fold() == 2
    assert await rollup.verify(ignored) == 0
    await own_rollups(requests).remove("users")
    await rollup.disable()


async def test_a_fold_says_what_to_run_when_they_were_published_later(
    rolled_up: Connection, database_url: str
) -> None:
    await rolled_up.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    await rolled_up.execute(WRITE_AND_DELETE[0])
    with pytest.raises(SchemaError, match=r"publication .* run: chat-stats migrate"):
        await Rollup(rolled_up).fold()
    await assert_exact(rolled_up)
    await run_migrations(database_url)
    assert await Rollup(rolled_up).fold() == 1
    await assert_exact(rolled_up)


async def test_a_rollup_that_is_removed_while_all_are_off_leaves_no_trigger(rolled_up: Connection) -> None:
    await add(rolled_up, "users", "user_id", dimensions="user_id")
    await Rollup(rolled_up).disable()
    await own_rollups(rolled_up).remove("users")
    assert (await Rollup(rolled_up).state()).state == "off"
    assert await rolled_up.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'chat\\_stats%'") == 0
