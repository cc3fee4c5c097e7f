"""The three indexes on the requests: built where they are missing, without holding up anybody who writes."""

import asyncio
import time

import asyncpg
import pytest

from tests.conftest import run_migrations
from tests.sql import sample
from tests.sql.calls import rows_of
from tests.sql.catalogue import our_indexes
from tests.sql.conftest import BuildGateway, Gateway, connect
from tests.sql.schemas import PLAIN, Variant

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection

CREATED_AT = "chat_stats_requests_created_at_idx"
MODEL_ID = "chat_stats_requests_model_id_created_at_idx"
STATUS = "chat_stats_requests_status_created_at_idx"
ALL = {CREATED_AT: "created_at", MODEL_ID: "model_id, created_at", STATUS: "status, created_at"}

PARTITIONED = Variant("partitioned", partitioned=True)


async def test_all_are_built_where_there_are_none(gateway: Gateway, owner: Connection) -> None:
    await run_migrations(gateway.url)
    assert await our_indexes(owner) == ALL


@pytest.mark.parametrize(
    "definition",
    [
        "(created_at)",
        "(created_at DESC)",
        "(created_at, status)",
        "(created_at) INCLUDE (model_id)",
        "(created_at, id)",
        "(created_at, lower(status))",
    ],
)
async def test_none_is_built_where_an_equivalent_one_exists(
    gateway: Gateway, owner: Connection, definition: str
) -> None:
    await owner.execute(f"CREATE INDEX by_time ON chat_completion_requests {definition}")
    await owner.execute("CREATE INDEX by_model ON chat_completion_requests (model_id, created_at, status)")
    await owner.execute("CREATE INDEX by_status ON chat_completion_requests (status, created_at DESC)")
    await run_migrations(gateway.url)
    assert await our_indexes(owner) == {}


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param("USING brin (created_at)", id="of another kind"),
        pytest.param("(created_at) WHERE status = 'completed'", id="of some of the rows"),
        pytest.param("(lower(status), created_at)", id="that begins with an expression"),
        pytest.param("(date_trunc('day', created_at AT TIME ZONE 'UTC'))", id="of an expression"),
        pytest.param("(created_at) WHERE created_at IS NOT NULL", id="of most of the rows"),
        pytest.param("(input_tokens, created_at)", id="that begins with another column"),
        pytest.param("(id) INCLUDE (created_at)", id="that only carries the column"),
    ],
)
async def test_an_index_does_not_take_the_place_of_ours_when_it_is_one(
    gateway: Gateway, owner: Connection, definition: str
) -> None:
    await owner.execute(f"CREATE INDEX other ON chat_completion_requests {definition}")
    await owner.execute(
        "CREATE INDEX only_carries ON chat_completion_requests (model_id) INCLUDE (created_at)"
    )
    await run_migrations(gateway.url)
    assert await our_indexes(owner) == ALL


async def test_what_an_interrupted_build_left_behind_is_built_again(
    gateway: Gateway, owner: Connection
) -> None:
    async with connect(gateway.url) as writer:
        writing = writer.transaction()
        await writing.start()
        await writer.execute("UPDATE chat_completion_requests SET status = 'failed'")
        await owner.execute("SET statement_timeout = 100")
        with pytest.raises(asyncpg.QueryCanceledError):
            await owner.execute(
                f"CREATE INDEX CONCURRENTLY {CREATED_AT} ON chat_completion_requests (created_at)"
            )
        await owner.execute("SET statement_timeout = 0")
        await writing.rollback()
    assert await our_indexes(owner) == {}
    await run_migrations(gateway.url)
    assert await our_indexes(owner) == ALL


async def test_writers_that_start_during_the_build_do_not_wait(gateway: Gateway, owner: Connection) -> None:
    insert = "INSERT INTO chat_completion_requests (id, model_id, created_at) VALUES ($1, 5000000001, now())"
    async with connect(gateway.url) as old_writer:
        writing = old_writer.transaction()
        await writing.start()
        await old_writer.execute(insert, 101)

        migration = asyncio.create_task(run_migrations(gateway.url))
        await wait_until_it_waits(gateway)

        await owner.execute("SET lock_timeout = '1s'")
        await owner.execute(insert, 102)
        await owner.execute("UPDATE chat_completion_requests SET input_tokens = 1 WHERE id = 102")
        await owner.execute("DELETE FROM chat_completion_requests WHERE id = 102")
        assert not migration.done()

        await writing.commit()
        assert await asyncio.wait_for(migration, 20) == []
    assert set(await our_indexes(owner)) == set(ALL)
    assert await owner.fetchval("SELECT total_requests FROM get_model_request_stats(5000000001)") == 5


async def test_writers_of_partitions_do_not_wait_while_the_whole_adopts_their_indexes(
    build_gateway: BuildGateway,
) -> None:
    gateway = await build_gateway(PARTITIONED)
    insert = "INSERT INTO chat_completion_requests (id, model_id, created_at) VALUES ($1, 1, '2026-02-05')"
    async with connect(gateway.url) as old_writer, connect(gateway.url) as writer:
        for partition in ("requests_2026_02", "requests_2026_03", "requests_others"):
            for columns in ALL.values():
                await writer.execute(f"CREATE INDEX ON {partition} ({columns})")
        writing = old_writer.transaction()
        await writing.start()
        await old_writer.execute(insert, 201)

        migration = asyncio.create_task(run_migrations(gateway.url))
        await wait_until_it_waits(gateway)
        await writer.execute("SET lock_timeout = '5s'")
        slowest = 0.0
        for number in range(202, 222):
            started = time.monotonic()
            await writer.execute(insert, number)
            slowest = max(slowest, time.monotonic() - started)
            await asyncio.sleep(0.1)
        assert slowest < 1  # 0.1 s, and what else runs on this machine
        assert not migration.done()

        await writing.commit()
        assert await asyncio.wait_for(migration, 20) == []
        assert set(await our_indexes(writer)) == set(ALL)


async def wait_until_it_waits(gateway: Gateway) -> None:
    """Wait until the index build of a migration waits for the transactions before it."""
    async with connect(gateway.admin_url) as admin:
        while not await admin.fetchval(  # noqa: ASYNC110
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'chat-stats migrate' "
            "AND datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%CREATE INDEX%')"
        ):
            await asyncio.sleep(0.02)


async def test_each_partition_gets_them_and_so_does_the_whole(build_gateway: BuildGateway) -> None:
    gateway = await build_gateway(PARTITIONED)
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection:
        assert set(await our_indexes(connection)) == set(ALL)
        for partition in ("requests_2026_02", "requests_2026_03", "requests_others"):
            indexes = await our_indexes(connection, partition)
            assert sorted(indexes.values()) == sorted(ALL.values())
        await connection.execute(
            "CREATE TABLE requests_2026_04 PARTITION OF chat_completion_requests "
            "FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')"
        )
        assert await columns_of_indexes(connection, "requests_2026_04") >= set(ALL.values())
        # A partition that is there already keeps its own index, and the whole adopts it.
        await run_migrations(gateway.url)
        assert await our_indexes(connection, "requests_2026_04") == {}


async def test_a_partition_that_has_its_own_index_gets_no_second_one(build_gateway: BuildGateway) -> None:
    gateway = await build_gateway(PARTITIONED)
    async with connect(gateway.url) as connection:
        await connection.execute("CREATE INDEX march_by_time ON requests_2026_03 (created_at)")
        await run_migrations(gateway.url)
        assert set((await our_indexes(connection, "requests_2026_03")).values()) == {
            "model_id, created_at",
            "status, created_at",
        }
        assert CREATED_AT in await our_indexes(connection)
        assert (
            await connection.fetchval(
                "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = 'march_by_time'::regclass"
            )
            == CREATED_AT
        )


async def test_partitions_of_partitions_get_them_too(build_gateway: BuildGateway) -> None:
    gateway = await build_gateway(PARTITIONED)
    async with connect(gateway.url) as connection:
        await connection.execute(
            "CREATE TABLE requests_2026_05 PARTITION OF chat_completion_requests "
            "FOR VALUES FROM ('2026-05-01') TO ('2026-06-01') PARTITION BY LIST (status);"
            "CREATE TABLE requests_2026_05_failed PARTITION OF requests_2026_05 FOR VALUES IN ('failed');"
            "CREATE TABLE requests_2026_05_others PARTITION OF requests_2026_05 DEFAULT"
        )
        await run_migrations(gateway.url)
        await run_migrations(gateway.url)
        for table in ("requests_2026_05", "requests_2026_05_failed", "requests_2026_05_others"):
            columns = await columns_of_indexes(connection, table)
            assert columns >= set(ALL.values())
        for partition in ("requests_2026_05_failed", "requests_2026_05_others"):
            assert len(await our_indexes(connection, partition)) == 3


async def columns_of_indexes(connection: Connection, table: str) -> set[str]:
    records = await connection.fetch(
        r"SELECT substring(pg_get_indexdef(indexrelid) FROM '\((.*)\)') FROM pg_index "
        "WHERE indrelid = to_regclass($1) AND indisvalid",
        table,
    )
    return {record[0] for record in records}


async def test_requests_that_are_a_view_are_served_without_an_index(
    gateway: Gateway, owner: Connection
) -> None:
    await owner.execute(
        "ALTER TABLE chat_completion_requests RENAME TO requests;"
        "CREATE VIEW chat_completion_requests AS SELECT * FROM requests"
    )
    await run_migrations(gateway.url)
    assert await rows_of(owner, "get_models_with_requests()") == sample.model_rows(PLAIN, sample.STATS_OF_ALL)
