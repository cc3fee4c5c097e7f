"""Partitions that are foreign tables: beside triggers of the rollup, Postgres refuses writes to them."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.test_schemas import INSERT, Gateway, tables

pytestmark = pytest.mark.every_postgres

TO_2019 = "INSERT INTO chat_completion_requests (id, model_id, created_at) VALUES (-1, 1, '2019-07-01')"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'chat\\_stats\\_%'"


@pytest.fixture
async def partitioned(empty_database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database)
    await connection.execute(tables(Gateway(partitions="PARTITION BY RANGE (created_at)")))
    await run_migrations(empty_database)
    await connection.execute(INSERT, 100)
    yield connection
    await connection.close()


async def attach_foreign(connection: asyncpg.Connection, url: str) -> None:
    server = urlsplit(url)
    await connection.execute(f"""
        CREATE EXTENSION postgres_fdw;
        CREATE TABLE kept_elsewhere (LIKE chat_completion_requests);
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw
            OPTIONS (host '{server.hostname}', port '{server.port}', dbname '{server.path[1:]}');
        CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere
            OPTIONS (user '{server.username}', password '{server.password}');
        ALTER TABLE chat_completion_requests DETACH PARTITION requests_early;
        DROP TABLE requests_early;
        CREATE FOREIGN TABLE requests_elsewhere PARTITION OF chat_completion_requests
            FOR VALUES FROM (MINVALUE) TO ('2020-01-01')
            SERVER elsewhere OPTIONS (table_name 'kept_elsewhere');
    """)


async def test_enable_refuses_them_before_the_first_trigger(
    partitioned: asyncpg.Connection, empty_database: str
) -> None:
    await attach_foreign(partitioned, empty_database)
    with pytest.raises(SchemaError, match=r"requests_elsewhere; .*Detach them"):
        await Rollup(partitioned).enable(ignored)
    assert await partitioned.fetchval(TRIGGERS) == 0
    await partitioned.execute(TO_2019)
    assert "requests_elsewhere" in (await Rollup(partitioned).state()).reason


async def test_the_worker_drops_its_triggers_when_one_is_attached(
    partitioned: asyncpg.Connection, empty_database: str
) -> None:
    rollup = Rollup(partitioned)
    await rollup.enable(ignored)
    await attach_foreign(partitioned, empty_database)
    assert not await partitioned.fetchval("SELECT chat_stats_rollup_ready()")
    await rollup.cover_partitions()
    assert await partitioned.fetchval(TRIGGERS) == 0
    await partitioned.execute(TO_2019)
    await partitioned.execute("UPDATE chat_completion_requests SET input_tokens = 7")
    [summary] = await partitioned.fetch("SELECT * FROM get_chat_request_summary()")
    count = await partitioned.fetchval("SELECT count(*) FROM chat_completion_requests")
    assert (summary["total_requests"], summary["total_input_tokens"]) == (count, 7 * count)
    state = await rollup.state()
    assert (state.state, state.trouble) == ("damaged", "partitions")
    assert "requests_elsewhere" in state.reason

    await partitioned.execute("ALTER TABLE chat_completion_requests DETACH PARTITION requests_elsewhere")
    await rollup.enable(ignored)
    assert (await rollup.state()).state == "on"
    assert await rollup.verify(ignored) == 0
