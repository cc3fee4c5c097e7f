"""What chat-stats leaves in the gateway's database, what it holds there, and whom it keeps waiting."""

import asyncpg
import pytest

from chat_stats.service.database.pool import Database
from chat_stats.service.rollup.triggers import TRIGGERS
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import Connect, ignored
from tests.rollup.workload import ORDINARY
from tests.sql.catalogue import foreign_objects

pytestmark = pytest.mark.every_postgres

TABLE = "chat_completion_requests"
INSERT = f"INSERT INTO {TABLE} (model_id, created_at) VALUES (1, '2024-01-05 12:00Z')"
DELTAS = "SELECT count(*) FROM chat_stats_deltas"

#: What belongs to the whole database or server.
ABROAD = """
SELECT 'extension' AS kind, extname::text AS name FROM pg_extension
UNION ALL SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg!_%' ESCAPE '!'
UNION ALL SELECT 'role', rolname::text FROM pg_roles
UNION ALL SELECT 'event trigger', evtname::text FROM pg_event_trigger
UNION ALL SELECT 'setting', setconfig::text FROM pg_db_role_setting
UNION ALL SELECT 'publication', pubname::text FROM pg_publication
UNION ALL SELECT 'cast', castfunc::text FROM pg_cast WHERE oid >= 16384
UNION ALL SELECT 'operator', oprname::text FROM pg_operator WHERE oid >= 16384
ORDER BY 1, 2
"""


async def of_the_gateway(connection: Connection) -> set[str]:
    """All objects and rows that are not ours. (Our role owns the catalogue too.)"""
    return {line for line in await foreign_objects(connection) if not line.startswith("rows pg_")}


async def test_nothing_is_created_outside_of_the_schema_of_the_tables(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        before = await connection.fetch(ABROAD)
        await run_migrations(empty_database, create_tables=True)
        await Rollup(connection).enable(ignored)
        assert await connection.fetch(ABROAD) == before
    finally:
        await connection.close()


async def test_all_that_the_rollup_changes_of_the_gateways_are_triggers_which_disable_drops(
    requests: Connection,
) -> None:
    rollup, before = Rollup(requests), await of_the_gateway(requests)
    await rollup.enable(ignored)
    await rollup.fold()
    await rollup.audit()
    await rollup.verify(ignored)
    await rollup.repair(ignored)
    changed = await of_the_gateway(requests) ^ before
    assert len(changed) == len(TRIGGERS)
    for name in TRIGGERS:
        assert any(line.startswith(f"trigger {TABLE}.{name} ") for line in changed)
    await rollup.disable()
    assert await of_the_gateway(requests) == before


async def test_the_triggers_functions_alone_run_with_their_owners_rights_and_set_what_they_search(
    requests: Connection,
) -> None:
    definers = await requests.fetch("SELECT proname::text, proconfig FROM pg_proc WHERE prosecdef")
    assert {row["proname"] for row in definers} == {
        "chat_stats_record_changes",
        "chat_stats_record_shard_changes",
    }
    for row in definers:
        assert any(setting.startswith("search_path=pg_catalog") for setting in row["proconfig"])


async def test_a_statement_appends_a_row_for_each_request_that_it_changed(rolled_up: Connection) -> None:
    await Rollup(rolled_up).fold()
    for statement, appended in (
        (f"INSERT INTO {TABLE} (model_id, input_tokens) SELECT 1, -5 FROM generate_series(1, 7)", 7),
        (f"INSERT INTO {TABLE} (input_tokens) SELECT -5 FROM generate_series(1, 7)", 7),
        (f"UPDATE {TABLE} SET input_tokens = -6 WHERE input_tokens = -5 AND model_id = 1", 14),
        (f"DELETE FROM {TABLE} WHERE input_tokens < 0", 14),
    ):
        before = await rolled_up.fetchval(DELTAS)
        await rolled_up.execute(statement)
        assert await rolled_up.fetchval(DELTAS) - before == appended, statement


WRITES = (
    INSERT,
    f"UPDATE {TABLE} SET input_tokens = 7 WHERE id = (SELECT max(id) FROM {TABLE})",
    f"DELETE FROM {TABLE} WHERE id = (SELECT max(id) FROM {TABLE})",
)
#: Work that is under way in a transaction which does not end.
UNDER_WAY = {
    "another write of the same model and time": INSERT,
    "a fold": "SELECT chat_stats_fold()",
    "a repair": "SELECT chat_stats_rollup_repair('-infinity', 'infinity', false)",
    "a comparison": "SELECT * FROM chat_stats_rollup_differences('-infinity', 'infinity')",
    "an answer": "SELECT * FROM get_models_with_requests()",
    "marks of writes that were not counted": "DELETE FROM chat_stats_uncounted",
}


@pytest.mark.parametrize("work", UNDER_WAY.values(), ids=UNDER_WAY)
async def test_no_write_waits_for(rolled_up: Connection, connect: Connect, work: str) -> None:
    await rolled_up.execute(ORDINARY, 50)
    other = await connect()
    async with other.transaction():
        await other.execute(work)
        await rolled_up.execute("SET lock_timeout = '2s'")
        for write in WRITES:
            await rolled_up.execute(write)
        locks = await rolled_up.fetch(
            "SELECT DISTINCT mode FROM pg_locks WHERE relation = $1::regclass AND pid = $2",
            TABLE,
            other.get_server_pid(),
        )
        weak = {"AccessShareLock"} if work != INSERT else {"AccessShareLock", "RowExclusiveLock"}
        assert {row["mode"] for row in locks} <= weak


async def test_what_reads_is_read_only_has_time_limits_and_a_name(
    requests: Connection, database_url: str
) -> None:
    settings = Settings(database_url=database_url, redis_url="redis://x", _env_file=None)
    database = Database(settings, application_name="chat-stats service")
    await database.open()
    try:
        async with database.transaction() as snapshot:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await snapshot.fetch(f"DELETE FROM gateway_schema.{TABLE}", timeout=3)
            with pytest.raises(asyncpg.QueryCanceledError):
                await snapshot.fetch("SELECT pg_sleep(10)", timeout=0.1)
            [found] = await snapshot.fetch(
                "SELECT current_setting('statement_timeout') AS statement, "
                "current_setting('idle_in_transaction_session_timeout') AS idle, "
                "current_setting('lock_timeout') AS lock, "
                "current_setting('client_connection_check_interval') AS client, "
                "current_setting('application_name') AS name",
                timeout=5,
            )
        assert dict(found) == {
            "statement": "5s",
            "idle": "1min",
            "lock": f"{settings.connect_timeout_seconds:g}s",
            "client": "1s",
            "name": "chat-stats service",
        }
        assert database._primary._pool is not None
        assert database._primary._pool.get_max_size() == 10
    finally:
        await database.close()
