"""Row level security that hides rows from our role is an error; that which hides none is not."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import ChatStatsError, RowsHidden
from chat_stats.service.rollup.upkeep import Rollup, open_rollup
from chat_stats.service.settings import Settings
from tests.cases import sampled
from tests.sql import sample
from tests.sql.conftest import Ask, Gateway, Role, connect
from tests.sql.schemas import PLAIN

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection
OpenDatabase = Callable[[str], Awaitable[Database]]

TABLES = ("providers", "models", "chat_completion_requests")
SECURED = "ALTER TABLE chat_completion_requests ENABLE ROW LEVEL SECURITY;"
POLICY = "CREATE POLICY p ON chat_completion_requests"

HIDING = {
    "no policy": "",
    "a policy for some rows": f"{POLICY} USING (model_id IS NOT NULL)",
    "a policy for another role": f"{POLICY} TO CURRENT_USER USING (true)",
    "a policy for writing": f"{POLICY} FOR UPDATE USING (true)",
    "a restrictive policy": f"{POLICY} USING (true);"
    "CREATE POLICY q ON chat_completion_requests AS RESTRICTIVE USING (model_id IS NOT NULL)",
    "sums of purged requests": f"{POLICY} USING (true);"
    "INSERT INTO chat_stats_kept (model_id, bucket, requests) VALUES (1, '2020-01-01', 1)",
}
SHOWING = {
    "a policy for all roles": f"{POLICY} USING (true)",
    "a policy for the role": f"{POLICY} FOR SELECT TO {{role}} USING (true)",
    "one that lets all through beside one for some": f"{POLICY} USING (model_id IS NULL);"
    "CREATE POLICY q ON chat_completion_requests USING (true)",
    "a restrictive policy for another role": f"{POLICY} USING (true);"
    "CREATE POLICY q ON chat_completion_requests AS RESTRICTIVE TO CURRENT_USER USING (false)",
}


@pytest.fixture
async def reader(reading_role: Role, owner: Connection) -> Role:
    await owner.execute(
        f"GRANT SELECT ON providers, models, chat_completion_requests TO {reading_role.name};"
        f"SELECT chat_stats_grant_read('{reading_role.name}')"
    )
    return reading_role


async def refusal(ask: Ask, role: Role) -> ChatStatsError:
    """Return the error that each aggregation is answered with."""
    for name in AGGREGATIONS:
        model_id = str(PLAIN.id("models", 1)) if name == "model" else None
        with pytest.raises(RowsHidden) as refused:
            await ask(Query(name, model_id=model_id), url=role.url)
    return refused.value


@pytest.mark.parametrize("policies", sampled(HIDING))
async def test_statistics_of_some_requests_are_refused(
    reader: Role, owner: Connection, ask: Ask, policies: str
) -> None:
    await owner.execute(SECURED + policies)
    message = str(await refusal(ask, reader))
    assert f"hides rows of chat_completion_requests from the role {reader.name}" in message
    assert "BYPASSRLS" in message
    assert "policy USING (true)" in message


@pytest.mark.parametrize("policies", sampled(SHOWING))
async def test_where_nothing_is_hidden_statistics_are_those_of_all_requests(
    reader: Role, owner: Connection, ask: Ask, policies: str
) -> None:
    await owner.execute(SECURED + policies.format(role=reader.name))
    computed = await ask(Query("counts"), url=reader.url)
    assert computed.method is Method.RPC
    assert computed.data == sample.count_rows(PLAIN, sample.STATS_OF_ALL)


async def test_a_role_that_bypasses_row_level_security_is_not_refused(
    reader: Role, live: Gateway, owner: Connection, ask: Ask
) -> None:
    await owner.execute(SECURED)
    async with connect(live.admin_url) as admin:
        await admin.execute(f"ALTER ROLE {reader.name} BYPASSRLS")
    assert (await ask(Query("counts"), url=reader.url)).data == sample.count_rows(PLAIN, sample.STATS_OF_ALL)


async def test_all_tables_that_hide_rows_are_named(reader: Role, owner: Connection, ask: Ask) -> None:
    for table in TABLES:
        await owner.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    assert f"rows of {', '.join(TABLES)} from" in str(await refusal(ask, reader))


async def test_the_health_check_refuses_too_and_the_probe_does_not(
    reader: Role, owner: Connection, database_of: OpenDatabase
) -> None:
    await owner.execute(SECURED)
    database = await database_of(reader.url)
    with pytest.raises(RowsHidden):
        await database.check()
    await database.probe()


async def test_rows_that_are_hidden_beneath_a_view_are_an_error(
    reader: Role, owner: Connection, ask: Ask
) -> None:
    await owner.execute(
        "ALTER TABLE chat_completion_requests RENAME TO stored;"
        "CREATE VIEW chat_completion_requests AS SELECT * FROM stored;"
        f"GRANT SELECT ON chat_completion_requests TO {reader.name};"
        "ALTER TABLE stored ENABLE ROW LEVEL SECURITY; ALTER TABLE stored FORCE ROW LEVEL SECURITY"
    )
    assert 'security policy for table "stored"' in str(await refusal(ask, reader))


async def test_row_level_security_of_our_own_tables_makes_answers_scan(
    reader: Role, live: Gateway, owner: Connection, ask: Ask
) -> None:
    await Rollup(owner).enable(lambda _done: None)
    ready = "SELECT chat_stats_rollup_ready()"
    async with connect(reader.url) as connection:
        assert await connection.fetchval(ready)
        for table in ("state", "model_lifetime", "total_lifetime"):
            await owner.execute(f"ALTER TABLE chat_stats_rollup_{table} ENABLE ROW LEVEL SECURITY")
            assert not await connection.fetchval(ready)
            computed = await ask(Query("counts"), url=reader.url)
            assert computed.data == sample.count_rows(PLAIN, sample.STATS_OF_ALL)
            await owner.execute(f"ALTER TABLE chat_stats_rollup_{table} DISABLE ROW LEVEL SECURITY")
        assert await connection.fetchval(ready)


async def test_hidden_sums_of_purged_requests_are_an_error(reader: Role, owner: Connection, ask: Ask) -> None:
    await owner.execute(
        f"{HIDING['sums of purged requests'].split(';')[1]};"
        "ALTER TABLE chat_stats_purged_model ENABLE ROW LEVEL SECURITY"
    )
    assert "chat_stats_purged_model" in str(await refusal(ask, reader))
    async with connect(reader.url) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="hides the sums"):
            await connection.fetch("SELECT * FROM get_model_request_counts()")


async def test_upkeep_refuses_to_work_on_some_of_the_requests(live: Gateway, owner: Connection) -> None:
    settings = Settings(database_url=live.url, _env_file=None)
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _done: None)
        await owner.execute(SECURED + "ALTER TABLE chat_completion_requests FORCE ROW LEVEL SECURITY")
        for command in (rollup.audit, lambda: rollup.verify(lambda _done: None)):
            with pytest.raises(RowsHidden, match="chat_completion_requests"):
                await command()
        assert (await rollup.status()).drift == 0
