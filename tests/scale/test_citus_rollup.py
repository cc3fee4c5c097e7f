"""On Citus, with the requests distributed by model: whatever writers, folds and purges do, and wherever
shards are, the rollup gives what a scan gives, for each model.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import pytest

from chat_stats.service.cache import watched
from chat_stats.service.errors import DatabaseBusy, SchemaError
from chat_stats.service.rollup import retention as purging
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup, open_rollup
from chat_stats.worker.local_servers import RedisServer
from tests.conftest import make_settings, run_migrations
from tests.integration.conftest import open_flow
from tests.processes import chat_stats, environment
from tests.rollup import workload
from tests.rollup.conftest import ignored
from tests.rollup.exactness import COMPARISON, DRIFT, MOMENTS, differences, some_questions
from tests.scale.citus import DISTRIBUTE, PARTITIONED, TABLES, Cluster, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: Steps of the state machine, and after how many of them the rollup is compared.
STEPS = int(os.environ.get("CHAT_STATS_TESTS_CITUS_STEPS", "150"))
COMPARED_AFTER = 10
#: How long a write waits for another one, on whatever node: lock_timeout is not known there.
WAIT_MS = 2000

PURGED_BEFORE = [
    datetime.fromisoformat(moment)
    for moment in ("0050-01-01T00:00:00+00:00", "2024-02-28T11:15:00+00:00", "2024-03-01T00:07:30+00:00")
]

#: What is known of each model of the requests that are there, and of those that were purged.
BY_MODEL = """
SELECT model_id, count(*) AS requests, sum(COALESCE(input_tokens, 0)) AS tokens,
       count(*) FILTER (WHERE abs(processing_time_ms) <= 1e15) AS timed
FROM chat_completion_requests {where}
GROUP BY model_id
"""
OF_FUNCTIONS = """
SELECT model_id, total_requests AS requests, total_input_tokens AS tokens, timed_requests AS timed
FROM chat_stats_totals(NULL, NULL, NULL, NULL, NULL)
"""


async def counted(connection: asyncpg.Connection, query: str) -> dict[int, Counter[str]]:
    return {
        row["model_id"]: Counter({name: row[name] for name in ("requests", "tokens", "timed")})
        for row in await connection.fetch(query)
    }


@dataclass
class Machine:
    """Takes random steps over several connections, and compares."""

    rng: Random
    writers: list[asyncpg.Connection]
    upkeep: asyncpg.Connection
    reader: asyncpg.Connection
    #: By model, what was purged.
    purged: dict[int, Counter[str]] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)

    async def step(self) -> None:
        steps = {
            self.insert: 8,
            self.update: 3,
            self.delete: 2,
            self.begin_or_end: 5,
            self.savepoint: 2,
            self.fold: 5,
            self.audit: 1,
            self.repair: 1,
            self.purge: 1,
            self.truncate: 0.5,
        }
        chosen = self.rng.choices(list(steps), list(steps.values()))[0]
        self.taken[chosen.__name__] += 1
        await chosen()

    async def write(self, statement: str, *args: object) -> None:
        """Write over one of the connections. Only another writer may be in the way."""
        writer = self.rng.choice(self.writers)
        try:
            await writer.execute(f"SET statement_timeout = {WAIT_MS}")
            await writer.execute(statement, *args)
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
            if writer.is_in_transaction():
                await writer.execute("ROLLBACK")

    async def insert(self) -> None:
        rng = self.rng
        rows = [
            (
                str(rng.randrange(1, 8)),
                *(rng.choice(workload.TOKENS) for _ in range(2)),
                rng.choice(workload.TIMES),
                rng.choice(workload.STATUSES),
                rng.choice(workload.COSTS),
                rng.choice(
                    [None, *MOMENTS, f"2024-0{rng.randrange(1, 5)}-{rng.randrange(1, 29):02d} 10:07:00+00"]
                ),
            )
            for _ in range(rng.randrange(1, 7))
        ]
        await self.write(workload.INSERT, *workload.insert_arguments(rows, rng.choice([1, 1, 20])))

    async def update(self) -> None:
        of_one = f" AND model_id = {self.rng.randrange(1, 8)}" if self.rng.random() < 0.3 else ""
        await self.write(
            "UPDATE chat_completion_requests SET created_at = $2::text::timestamptz, "
            f"processing_time_ms = output_tokens, status = 'ok' WHERE id % 7 = $1{of_one}",
            self.rng.randrange(7),
            self.rng.choice([None, *MOMENTS]),
        )

    async def delete(self) -> None:
        await self.write("DELETE FROM chat_completion_requests WHERE id % 5 = $1", self.rng.randrange(5))

    async def truncate(self) -> None:
        await self.end_all()  # readers would wait for it
        await self.write("TRUNCATE chat_completion_requests")

    async def begin_or_end(self) -> None:
        writer = self.rng.choice(self.writers)
        if writer.is_in_transaction():
            await writer.execute(self.rng.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
        else:
            await writer.execute("BEGIN")

    async def savepoint(self) -> None:
        for writer in self.writers:
            if writer.is_in_transaction():
                await writer.execute("SAVEPOINT s")
                await writer.execute("INSERT INTO chat_completion_requests (model_id) VALUES (3), (4)")
                await writer.execute(self.rng.choice(["ROLLBACK TO s", "RELEASE s"]))
                return

    async def fold(self) -> None:
        await Rollup(self.upkeep).fold()

    async def audit(self) -> None:
        assert await Rollup(self.upkeep).audit() == 0

    async def repair(self) -> None:
        try:
            assert await Rollup(self.upkeep).repair(ignored) == 0
        except DatabaseBusy:
            await self.end_all()

    async def purge(self) -> None:
        before = self.rng.choice(PURGED_BEFORE)
        await self.end_all()
        bucket = f"WHERE created_at < date_bin('15 minutes', '{before.isoformat()}', '2000-01-01T00:00:00Z')"
        gone = await counted(self.upkeep, BY_MODEL.format(where=bucket))
        purge = await Retention(self.upkeep).purge(before, ignored)
        assert purge.differing == 0
        assert purge.requests == sum(model["requests"] for model in gone.values())
        for model, numbers in gone.items():
            self.purged.setdefault(model, Counter()).update(numbers)

    async def end_all(self) -> None:
        for writer in self.writers:
            if writer.is_in_transaction():
                await writer.execute("COMMIT")

    async def compare(self) -> None:
        """Compare what is committed: by the functions, and for each model by hand."""
        expected = await counted(self.reader, BY_MODEL.format(where=""))
        for model, numbers in self.purged.items():
            expected.setdefault(model, Counter()).update(numbers)
        assert await self.reader.fetchval("SELECT chat_stats_rollup_ready()")
        assert await counted(self.reader, OF_FUNCTIONS) == {
            model: numbers for model, numbers in expected.items() if numbers["requests"]
        }
        status = await Rollup(self.reader).status()
        assert status.purged_requests == sum(numbers["requests"] for numbers in self.purged.values())
        assert await differences(self.reader, some_questions(self.rng, 2)) == []
        assert await self.reader.fetchval(DRIFT) == 0


@asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[asyncpg.Connection]]:
    opened = [await asyncpg.connect(url) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.terminate()


@pytest.fixture
async def rolled_up(distributed: str) -> str:
    """The URL of a database with the catalogue and the rollup on."""
    await run(distributed, COMPARISON, workload.CATALOGUE)
    async with open_rollup(make_settings(distributed, "redis://127.0.0.1:1/0")) as rollup:
        await rollup.enable(ignored)
    return distributed


async def test_the_rollup_equals_a_scan_after_any_steps(
    rolled_up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "PAUSE", 0)
    monkeypatch.setattr(purging, "BATCH_DAYS", 40)
    seed = int(os.environ.get("CHAT_STATS_TESTS_CITUS_SEED", "14"))
    async with connections(rolled_up, 5) as (*writers, upkeep, reader):
        for connection in (*writers, upkeep):
            await connection.execute("SET lock_timeout = '1s'")
        machine = Machine(random.Random(seed), writers, upkeep, reader)  # noqa: S311
        for step in range(1, STEPS + 1):
            await machine.step()
            if step % COMPARED_AFTER == 0:
                await machine.compare()
        await machine.end_all()
        await machine.compare()
        assert await Rollup(upkeep).verify(ignored) == 0
    assert machine.taken["purge"]
    assert machine.purged
    assert machine.taken["audit"]


async def test_reads_are_exact_for_each_model_beside_writers_and_folds(rolled_up: str) -> None:
    """Each model's requests come in pairs: half a statement or half a fold would leave an odd number."""
    since = datetime.fromisoformat("2024-01-01T00:00:07+00:00")
    stopped = False

    async def write(number: int) -> None:
        rng = random.Random(number)  # noqa: S311
        async with connections(rolled_up, 1) as (connection,):
            while not stopped:
                await connection.execute(
                    "INSERT INTO chat_completion_requests (model_id, created_at, processing_time_ms) "
                    "SELECT m, now() - n * interval '10 minutes', 10 FROM generate_series(1, 7) AS m, "
                    "generate_series(0, 1) AS n WHERE m % 7 <> $1",
                    rng.randrange(7),
                )
                if rng.random() < 0.2:  # moves requests between buckets, and changes no number
                    await connection.execute(
                        "UPDATE chat_completion_requests SET created_at = $2 WHERE model_id = $1",
                        rng.randrange(1, 8),
                        datetime.now(UTC) - timedelta(minutes=rng.randrange(90)),
                    )

    async def fold() -> None:
        async with connections(rolled_up, 1) as (connection,):
            while not stopped:
                await Rollup(connection).fold()

    async with connections(rolled_up, 1) as (reader,), asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(write(number))
        tasks.create_task(fold())
        try:
            for reading in range(60):
                async with reader.transaction(
                    isolation="repeatable_read" if reading % 2 else "read_committed"
                ):
                    assert await reader.fetchval("SELECT chat_stats_rollup_ready()")
                    rows = await reader.fetch(
                        "SELECT model_id, total_requests FROM chat_stats_totals($1, NULL, NULL, NULL, NULL)",
                        random.choice([None, since]),  # noqa: S311
                    )
                assert [row for row in rows if row["total_requests"] % 2] == []
        finally:
            stopped = True
    async with open_rollup(make_settings(rolled_up, "redis://127.0.0.1:1/0")) as rollup:
        assert await rollup.verify(ignored) == 0


async def test_a_writer_never_fails_and_what_is_not_counted_is_not_read(rolled_up: str) -> None:
    async with connections(rolled_up, 1) as (connection,):
        await connection.execute(
            "ALTER TABLE chat_completion_requests ALTER COLUMN processing_time_ms TYPE text"
        )
        await connection.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1), (2), (3)")
        await connection.execute(
            "ALTER TABLE chat_completion_requests ALTER COLUMN processing_time_ms TYPE numeric "
            "USING processing_time_ms::numeric"
        )
        rollup = Rollup(connection)
        for _ in range(2):
            await rollup.fold()
        assert (await rollup.state()).trouble == "uncounted"
        assert await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()") == 3
        await rollup.repair(ignored)
        assert (await rollup.state()).state == "on"
        assert await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()") == 3


async def test_nothing_is_counted_twice_while_a_node_has_not_committed_a_batch(rolled_up: str) -> None:
    async with connections(rolled_up, 1) as (connection,):
        await connection.execute(
            "INSERT INTO chat_completion_requests (model_id) SELECT m FROM generate_series(1, 7) AS m"
        )
        await Rollup(connection).fold()
        await connection.execute("UPDATE chat_stats_batches SET summed = summed + 1")  # as if one came later
        with pytest.raises(DatabaseBusy):
            await Rollup(connection).fold()
        assert await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()") == 7
        await connection.execute("UPDATE chat_stats_batches SET summed = summed - 1")
        await Rollup(connection).fold()
        assert await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()") == 7


async def test_what_the_nodes_have_counted_is_published_before_it_is_folded(
    rolled_up: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "TELL_SECONDS", 0.05)
    settings = make_settings(rolled_up, redis.url, windows="all")
    async with connections(rolled_up, 1) as (connection,), open_flow(settings) as flow:
        watching = asyncio.create_task(flow.stats.watched.keep_telling(lambda: True))
        flow.stats.watched.note("all")
        async with asyncio.timeout(30):
            while "all" not in await flow.stats.watched.windows():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await flow.stats.publish_totals() is None
        await connection.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1), (2), (3)")
        report = await flow.stats.publish_totals()
        assert report is not None
        assert report.published
        assert await flow.stats.publish_totals() is None  # it waits to be folded, and is published
        await Rollup(connection).fold()
        assert await flow.stats.publish_totals() is None
        watching.cancel()


async def test_batches_that_no_reader_needs_are_deleted(rolled_up: str) -> None:
    async with connections(rolled_up, 2) as (connection, late):
        await connection.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
        for _ in range(2):
            await Rollup(connection).fold()
        async with late.transaction(isolation="repeatable_read"):
            assert await late.fetchval("SELECT chat_stats_rollup_ready()")
            for _ in range(2):
                await Rollup(connection).fold()
            assert await connection.fetchval("SELECT count(*) FROM chat_stats_shard_deltas") == 1
        await connection.execute("UPDATE chat_stats_batches SET settled_at = settled_at - interval '1 hour'")
        await Rollup(connection).fold()
        assert await connection.fetchval("SELECT count(*) FROM chat_stats_shard_deltas") == 0
        assert await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()") == 1


async def test_a_rollup_whose_table_is_not_distributed_any_more_is_not_read(rolled_up: str) -> None:
    insert = "INSERT INTO chat_completion_requests (model_id) VALUES (1), (2)"
    table = "chat_completion_requests"
    await run(
        rolled_up,
        insert,
        f"ALTER TABLE {table} RENAME TO former",  # Citus undistributes no table with an identity column
        f"CREATE TABLE {table} (LIKE former INCLUDING ALL)",
        f"ALTER TABLE {table} ALTER COLUMN id RESTART WITH 100",
        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM former",
        insert,
    )
    async with open_rollup(make_settings(rolled_up, "redis://127.0.0.1:1/0")) as rollup:
        assert (await rollup.state()).trouble == "triggers"
        assert await total(rolled_up) == 4
        await run_migrations(rolled_up)
        await rollup.enable(ignored)
        await run(rolled_up, insert)
        assert (await rollup.state()).state == "on"
        assert await total(rolled_up) == 6


async def total(url: str) -> int:
    async with connections(url, 1) as (connection,):
        return int(await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()"))


async def test_rollups_of_the_operators_own_and_retain_are_refused(
    rolled_up: str, redis: RedisServer
) -> None:
    env = environment(rolled_up, redis.url)
    for command in (("add", "statuses", "--by", "status"), ("retain", "--older-than", "90d")):
        done = await asyncio.to_thread(chat_stats, "rollup", *command, env=env)
        assert done.returncode == SchemaError.exit_code
        assert "on Citus" in done.stderr


async def test_rollups_of_ones_own_from_before_the_requests_were_distributed_are_to_be_removed_first(
    citus: Cluster,
) -> None:
    url = await citus.create_database("own_from_before")
    await run(url, TABLES, *DISTRIBUTE, workload.CATALOGUE)
    await run_migrations(url)
    await run(  # as `rollup add` left it, before there was Citus
        url,
        "INSERT INTO chat_stats_rollups (name, by, sources) "
        """VALUES ('statuses', '[["status", "column", "status", null, []]]', '{status}')""",
    )
    await run_migrations(url)
    async with open_rollup(make_settings(url, "redis://127.0.0.1:1/0")) as rollup:
        with pytest.raises(SchemaError, match="rollup remove statuses"):
            await rollup.enable(ignored)


async def test_shards_on_the_coordinator_are_refused(citus: Cluster) -> None:
    url = await citus.create_database("beside_the_coordinator")
    port = citus.coordinator.port
    admin = url.replace("//gateway:", "//postgres:")
    await run(admin, f"SELECT citus_set_node_property('127.0.0.1', {port}, 'shouldhaveshards', true)")
    await run(url, TABLES, *DISTRIBUTE, workload.CATALOGUE)
    await run_migrations(url)
    async with open_rollup(make_settings(url, "redis://127.0.0.1:1/0")) as rollup:
        with pytest.raises(SchemaError, match="with shards on the coordinator"):
            await rollup.enable(ignored)
    await run(url, "INSERT INTO chat_completion_requests (model_id) SELECT m FROM generate_series(1, 9) AS m")
    assert await total(url) == 9


async def test_shards_that_come_to_the_coordinator_lose_no_write(citus: Cluster, rolled_up: str) -> None:
    insert = "INSERT INTO chat_completion_requests (model_id) SELECT m FROM generate_series(1, 9) AS m"
    admin = rolled_up.replace("//gateway:", "//postgres:")
    port = citus.coordinator.port
    await run(rolled_up, insert)
    await run(
        admin,
        f"SELECT citus_set_node_property('127.0.0.1', {port}, 'shouldhaveshards', true)",
        "SELECT rebalance_table_shards(shard_transfer_mode => 'force_logical')",
    )
    await run(rolled_up, insert)
    assert await total(rolled_up) == 18
    await run(
        admin,
        f"SELECT citus_set_node_property('127.0.0.1', {port}, 'shouldhaveshards', false)",
        "SELECT rebalance_table_shards(shard_transfer_mode => 'force_logical', drain_only => true)",
    )
    async with open_rollup(make_settings(rolled_up, "redis://127.0.0.1:1/0")) as rollup:
        await rollup.repair(ignored)
        assert (await rollup.state()).state == "on"
    await run(rolled_up, insert)
    assert await total(rolled_up) == 27


async def test_writes_to_shards_that_were_split_are_counted(citus: Cluster, rolled_up: str) -> None:
    """Before `migrate` knows of them, and after."""
    writes = (
        "INSERT INTO chat_completion_requests (model_id) SELECT 1 + i % 40 FROM generate_series(1, 90) AS i",
        *(f"INSERT INTO chat_completion_requests (model_id) VALUES ({model})" for model in range(1, 41)),
        "UPDATE chat_completion_requests SET processing_time_ms = 7 WHERE id % 5 = 0",
        "DELETE FROM chat_completion_requests WHERE id % 7 = 0",
    )
    await run(rolled_up, *writes)
    await run(
        rolled_up.replace("//gateway:", "//postgres:"),
        """
        SELECT citus_split_shard_by_split_points(
            s.shardid, ARRAY[((s.shardminvalue::bigint + s.shardmaxvalue::bigint) / 2)::text],
            ARRAY(SELECT n.nodeid FROM pg_dist_node AS n WHERE n.shouldhaveshards ORDER BY n.nodeid LIMIT 2),
            'block_writes'
        )
        FROM pg_dist_shard AS s WHERE s.logicalrelid = 'chat_completion_requests'::regclass
        ORDER BY s.shardid LIMIT 1
        """,
    )
    async with open_rollup(make_settings(rolled_up, "redis://127.0.0.1:1/0")) as rollup:
        for _ in range(2):
            await run(rolled_up, *writes)
            assert (await rollup.state()).state == "on"
            assert await rollup.verify(ignored) == 0
            await run_migrations(rolled_up)


async def test_partitioned_requests_are_counted_whichever_table_is_written(citus: Cluster) -> None:
    url = await citus.create_database("partitioned")
    await run(url, PARTITIONED, *DISTRIBUTE)
    await run_migrations(url)
    await run(url, COMPARISON, workload.CATALOGUE)
    many = (
        "INSERT INTO {} (model_id, created_at, processing_time_ms) SELECT 1 + i % 7, "
        "'2024-02-28T23:07:00Z'::timestamptz + i * interval '{}', i FROM generate_series(0, 60) AS i"
    )
    some = "INSERT INTO {} (model_id, created_at) VALUES (1, '2025-02-02'), (2, '2025-02-03T10:07:00Z')"
    writes = (
        many.format("chat_completion_requests", "90 minutes"),  # across the border of two partitions
        many.format("requests_before", "10 seconds"),
        "UPDATE chat_completion_requests SET created_at = '2023-11-03T10:07:00Z' WHERE model_id = 3",
        "UPDATE requests_before SET processing_time_ms = 3 WHERE id % 3 = 0",
        "DELETE FROM requests_before WHERE id % 7 = 1",
        "DELETE FROM chat_completion_requests WHERE id % 11 = 0",
        # A partition that comes later: until upkeep has seen it, the functions scan.
        "CREATE TABLE requests_2025 PARTITION OF chat_completion_requests "
        "FOR VALUES FROM ('2025-01-01T00:00:00Z') TO ('2026-01-01T00:00:00Z')",
        some.format("requests_2025"),
        "TRUNCATE requests_2025",
        some.format("requests_2025"),
        some.format("chat_completion_requests"),
    )
    async with (
        connections(url, 1) as (connection,),
        open_rollup(make_settings(url, "redis://127.0.0.1:1/0")) as rollup,
    ):
        await rollup.enable(ignored)
        for write in writes:
            await connection.execute(write)
            await rollup.fold()
            assert await total(url) == await connection.fetchval(
                "SELECT count(*) FROM chat_completion_requests"
            )
        assert await rollup.verify(ignored) == 0
        assert (await rollup.state()).state == "on"
        await connection.execute(some.format("requests_2025"))
        assert await differences(connection, some_questions(random.Random(3), 2)) == []  # noqa: S311
        before = await total(url)
        await connection.execute("ALTER TABLE chat_completion_requests DETACH PARTITION requests_2025")
        assert await rollup.verify(ignored) == 0
        assert await total(url) == before  # what goes with a partition is kept
        await connection.execute("TRUNCATE chat_completion_requests")
        assert await rollup.verify(ignored) == 0
        assert await total(url) == 6
