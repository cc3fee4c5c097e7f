"""Whatever writers do, in any order and over several connections, the rollup gives what a scan gives."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from chat_stats.service.database import locks
from chat_stats.service.errors import DatabaseBusy
from chat_stats.service.rollup import own_installation
from chat_stats.service.rollup import retention as purging
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.state import PURGED_TABLES, ROLLUP_TABLES
from chat_stats.service.rollup.upkeep import Rollup
from tests.rollup import workload
from tests.rollup.conftest import ignored
from tests.rollup.exactness import (
    COMPARISON_WITH_MODEL,
    MODEL,
    MOMENTS,
    Asked,
    differences,
    some_questions,
)
from tests.rollup.own import add, own_rollups

STEPS = int(os.environ.get("CHAT_STATS_STATE_MACHINE_STEPS", "0"))
STEPS_A_RUN = 50

pytestmark = [
    pytest.mark.every_postgres,
    pytest.mark.timeout(400 + STEPS / 10),  # shrinking a failure takes up to 300 s
]

#: The kind of error of all requests that failed.
KIND = (
    "CASE WHEN lower(status) NOT IN ('completed', 'ok', 'pending', 'partial') OR status IS NULL "
    "THEN 'other' END"
)

RESET = """
SET session_replication_role = replica;
UPDATE chat_stats_rollups SET whole_from = NULL;
TRUNCATE chat_completion_requests, models, providers, purged_requests, {tables} RESTART IDENTITY;
UPDATE chat_stats_rollup_state SET purged_before = NULL, retain_older_than = NULL;
SET session_replication_role = origin;
"""

#: Rollups of the operator's own: one is there from the beginning, the other comes and goes amid the steps.
DIMENSIONS = "tokens=input_tokens, output=output_tokens"
OWN = {
    "kinds": (("error_kind", "tokens"), {"by_error_kind": KIND, "by_tokens": "input_tokens::text"}),
    "amid": (("output", "status", "model_id"), {
        "by_output": "output_tokens::text", "by_status": "rtrim(status)", "model_id": "model_id"
    }),
}  # fmt: skip
#: How often one comes or goes, in all.
OWN_CHANGES = 6

OWN_TABLES = """
SELECT c.relname AS name FROM pg_class AS c
WHERE c.relkind = 'r' AND c.relname ~ '^chat_stats_(rollup_(kinds|amid)_|purged_(kinds|amid)$)'
"""


def of_own(name: str) -> str:
    """Return a statement that finds where a rollup differs from all requests, if it is whole and is read."""
    keys = OWN[name][1]
    columns = ", ".join(keys)
    counted = ", ".join(f"{expression} AS {column}" for column, expression in keys.items())
    sums = "count(*), sum(COALESCE(input_tokens, 0)), count(*) FILTER (WHERE abs(processing_time_ms) <= 1e15)"
    return f"""
        WITH counted AS (
            SELECT {counted}, {sums} FROM all_requests
            GROUP BY {", ".join(str(n + 1) for n in range(len(keys)))}
        ), kept AS (
            SELECT {columns}, sum(requests)::bigint, sum(input_tokens), sum(timed)::bigint
            FROM (
                SELECT {columns}, requests, input_tokens, timed FROM chat_stats_rollup_{name}_lifetime
                UNION ALL
                SELECT {columns}, requests, input_tokens, timed FROM chat_stats_deltas
            ) AS u
            GROUP BY {columns}
            HAVING sum(requests) <> 0
        ), differing AS (
            (SELECT 'counted', * FROM counted EXCEPT SELECT 'counted', * FROM kept)
            UNION ALL
            (SELECT 'kept', * FROM kept EXCEPT SELECT 'kept', * FROM counted)
        )
        SELECT d::text FROM differing AS d
        WHERE EXISTS (
            SELECT FROM chat_stats_rollups AS r
            WHERE r.name = '{name}' AND r.ready AND r.whole_from IS NULL
        )
    """


#: Places of rollups of the operator's own that are read and differ from the requests, in all that they hold.
OWN_DRIFT = """
SELECT d.rollup || d.places FROM chat_stats_rollup_tier_drifts() AS d
WHERE d.places > 0 AND d.rollup NOT IN (SELECT name FROM chat_stats_rollups WHERE NOT ready)
UNION ALL
SELECT d::text
FROM (
    SELECT * FROM chat_stats_rollup_differences('-infinity', 'infinity')
    UNION ALL
    SELECT * FROM chat_stats_rollup_differences(NULL, NULL)
) AS d
WHERE d.rollup NOT IN (SELECT name FROM chat_stats_rollups WHERE NOT ready)
"""

#: Until when requests are purged: edges of buckets, and moments within.
PURGED_BEFORE = [
    datetime.fromisoformat(moment)
    for moment in (
        "0001-01-01T00:00:00+00:00",
        "2024-01-01T00:00:00+00:00",
        "2024-02-28T11:15:00+00:00",
        "2024-02-29T23:50:00+00:00",
        "2024-03-01T00:07:30+00:00",
        "2024-04-02T03:04:05.678901+00:00",
    )
]

writers = st.integers(0, 2)
model_ids = st.sampled_from([*range(1, 8), None])
moments = st.one_of(
    st.none(),
    st.sampled_from(MOMENTS),
    st.builds(
        "2024-0{}-{:02d} {:02d}:{:02d}:00.000001+00".format, *map(st.integers, (1, 1, 0, 0), (4, 29, 23, 59))
    ),
)
rows = st.lists(
    st.tuples(
        st.sampled_from(workload.MODEL_IDS),
        *[st.sampled_from(workload.TOKENS)] * 2,
        st.sampled_from(workload.TIMES),
        st.sampled_from(workload.STATUSES),
        st.sampled_from(workload.COSTS),
        moments,
    ),
    min_size=1,
    max_size=6,
)


@dataclass
class Writer:
    """A connection, and what is open on it."""

    connection: asyncpg.Connection
    isolation: str = ""
    savepoints: int = 0
    truncated: bool = False
    #: Another transaction truncated after its snapshot was taken: TRUNCATE is not MVCC-safe, a scan is wrong.
    outdated: bool = False

    @property
    def is_open(self) -> bool:
        return self.isolation != ""

    def end(self) -> None:
        self.isolation, self.savepoints, self.truncated, self.outdated = "", 0, False, False


class Database:
    """Three writers, a reader and a repairer; each run of the machine begins with the catalogue alone."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        connections = [self.wait(asyncpg.connect(url)) for _ in range(5)]
        self.writers = [Writer(connection) for connection in connections[:3]]
        self.reader, self.repairer = connections[3:]
        self.wait(self.reader.execute(MODEL + COMPARISON_WITH_MODEL))
        self.wait(Rollup(self.repairer).enable(ignored))
        self.wait(add(self.repairer, "kinds", *OWN["kinds"][0], dimensions=DIMENSIONS))
        self.own_changes = 0
        for connection in connections[:3]:
            self.wait(connection.execute("SET lock_timeout = '5ms'"))
        self.wait(self.repairer.execute("SET lock_timeout = '5ms'"))
        self.steps = 0

    def wait(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(awaited)

    def reset(self) -> None:
        for writer in self.writers:
            if writer.is_open:
                self.wait(writer.connection.execute("ROLLBACK"))
                writer.end()
        own = self.wait(self.reader.fetch(OWN_TABLES))
        tables = ", ".join((*ROLLUP_TABLES, *PURGED_TABLES, *(table["name"] for table in own)))
        self.wait(self.reader.execute(RESET.format(tables=tables) + workload.CATALOGUE))

    def close(self) -> None:
        for connection in (*(writer.connection for writer in self.writers), self.reader, self.repairer):
            self.wait(connection.close())
        self.loop.close()


class RollupMachine(RuleBasedStateMachine):
    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.steps = 0
        database.reset()

    def run(self, number: int, statement: str, *args: object) -> bool:
        """Run a statement. It may fail because another writer is in its way, and for no other reason."""
        writer = self.database.writers[number]
        try:
            self.database.wait(writer.connection.execute(statement, *args))
        except asyncpg.LockNotAvailableError:
            self.roll_back(writer)
            return False
        except asyncpg.SerializationError:
            self.roll_back(writer, entirely=True)
            return False
        return True

    def roll_back(self, writer: Writer, *, entirely: bool = False) -> None:
        if writer.savepoints and not entirely:
            self.database.wait(writer.connection.execute(f"ROLLBACK TO s{writer.savepoints}"))
        elif writer.is_open:
            self.database.wait(writer.connection.execute("ROLLBACK"))
            writer.end()

    @rule(number=writers, isolation=st.sampled_from(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]))
    def begin_or_set_savepoint(self, number: int, isolation: str) -> None:
        writer = self.database.writers[number]
        if not writer.is_open:
            self.run(number, f"BEGIN ISOLATION LEVEL {isolation}; SELECT 1")
            writer.isolation = isolation
        elif writer.savepoints < 3:
            self.run(number, f"SAVEPOINT s{writer.savepoints + 1}")
            writer.savepoints += 1

    @rule(number=writers)
    def commit(self, number: int) -> None:
        writer = self.database.writers[number]
        if writer.is_open:
            truncated = writer.truncated
            if self.run(number, "COMMIT"):
                writer.end()
                if truncated:
                    self.outdate_others(writer)

    @rule(number=writers)
    def roll_back_or_release(self, number: int) -> None:
        writer = self.database.writers[number]
        if writer.savepoints > 1:
            self.run(number, f"RELEASE s{writer.savepoints}")
            writer.savepoints -= 1
        elif writer.is_open:
            self.roll_back(writer)

    @rule(number=writers, rows=rows, copies=st.sampled_from([1, 1, 1, 40]))
    def insert(self, number: int, rows: list[workload.Row], copies: int) -> None:
        self.run(number, workload.INSERT, *workload.insert_arguments(rows, copies))

    @rule(number=writers, rows=rows)
    def upsert(self, number: int, rows: list[workload.Row]) -> None:
        self.run(number, workload.UPSERT, *workload.insert_arguments(rows))

    @rule(number=writers, part=st.integers(0, 6), model_id=model_ids, moment=moments)
    def update(self, number: int, part: int, model_id: int | None, moment: str | None) -> None:
        self.run(
            number,
            "UPDATE chat_completion_requests SET model_id = $2, created_at = $3::text::timestamptz, "
            "processing_time_ms = output_tokens, status = 'ok' WHERE id % 7 = $1",
            part,
            model_id,
            moment,
        )

    @rule(number=writers, part=st.integers(0, 4))
    def delete(self, number: int, part: int) -> None:
        # Those whose statistics are kept are remembered.
        self.run(
            number,
            "WITH gone AS (DELETE FROM chat_completion_requests WHERE id % 5 = $1 RETURNING *) "
            "INSERT INTO purged_requests SELECT * FROM gone WHERE created_at < chat_stats_kept_before()",
            part,
        )

    @rule(before=st.sampled_from([None, *PURGED_BEFORE]))
    def retain(self, before: datetime | None) -> None:
        with suppress(asyncpg.LockNotAvailableError):  # a fold that is not committed yet
            self.database.wait(
                self.database.repairer.execute(
                    "UPDATE chat_stats_rollup_state SET retain_older_than = now() - $1::text::timestamptz",
                    before and before.isoformat(),
                )
            )

    @rule(number=writers)
    def truncate(self, number: int) -> None:
        writer = self.database.writers[number]
        if writer.isolation in ("", "READ COMMITTED"):
            truncated = self.run(number, "TRUNCATE chat_completion_requests")
            writer.truncated |= truncated and writer.is_open
            if truncated and not writer.is_open:
                self.outdate_others(writer)

    def outdate_others(self, truncating: Writer) -> None:
        for writer in self.database.writers:
            if writer is not truncating and writer.isolation not in ("", "READ COMMITTED"):
                writer.outdated = True

    @rule(number=writers)
    def fold(self, number: int) -> None:
        self.run(number, "SELECT chat_stats_fold()")

    @rule(number=writers, model_id=st.integers(1, 7), provider_id=st.integers(1, 3), exists=st.booleans())
    def change_catalogue(self, number: int, model_id: int, provider_id: int, exists: bool) -> None:
        if exists:
            self.run(
                number,
                f"INSERT INTO providers (id, name, slug) VALUES ({provider_id}, 'New', 'new{provider_id}') "
                "ON CONFLICT DO NOTHING;"
                f"INSERT INTO models (id, provider_id, model_name) VALUES ({model_id}, {provider_id}, 'new') "
                "ON CONFLICT DO NOTHING",
            )
        else:
            self.run(number, f"DELETE FROM models WHERE id = {model_id}")
            self.run(number, f"DELETE FROM providers WHERE id = {provider_id}")

    @rule()
    def repair(self) -> None:
        # What another connection has not committed yet (a fold, a TRUNCATE) may be in the way.
        with suppress(DatabaseBusy):
            backfills = self.database.wait(
                self.database.reader.fetchval(
                    "SELECT EXISTS (SELECT FROM chat_stats_rollups WHERE NOT ready)"
                )
            )
            repaired = self.database.wait(Rollup(self.database.repairer).repair(ignored))
            assert repaired == 0 or backfills

    @rule()
    def add_or_remove_a_rollup(self) -> None:
        if self.database.own_changes == OWN_CHANGES:
            return
        self.database.own_changes += 1
        # An open write is in the way; what was begun then, a repair or the next attempt goes on with.
        with suppress(DatabaseBusy):
            self.database.wait(self.change_own())

    async def change_own(self) -> None:
        repairer = self.database.repairer
        if await repairer.fetchval(
            "SELECT EXISTS (SELECT FROM chat_stats_rollups WHERE name = 'amid' AND ready)"
        ):
            await own_rollups(repairer, DIMENSIONS).remove("amid")
        else:
            await add(repairer, "amid", *OWN["amid"][0], dimensions=DIMENSIONS)

    @rule(before=st.sampled_from(PURGED_BEFORE))
    def purge(self, before: datetime) -> None:
        with suppress(DatabaseBusy):  # another writer has changed such a request, and not committed yet
            self.database.wait(self.purge_and_remember(before))

    async def purge_and_remember(self, before: datetime) -> None:
        """Remember the requests that are gone afterwards. No other connection does anything meanwhile."""
        repairer = self.database.repairer
        if any(writer.truncated for writer in self.database.writers):
            return
        # Known by their place: one that was purged earlier may have had the same id.
        places = await repairer.fetch(
            "INSERT INTO purged_requests SELECT * FROM chat_completion_requests WHERE created_at < $1 "
            "RETURNING ctid",
            before,
        )
        try:
            await Retention(repairer).purge(before, ignored)
        finally:
            await repairer.execute(
                "DELETE FROM purged_requests "
                "WHERE ctid = ANY ($1::tid[]) AND id IN (SELECT id FROM chat_completion_requests)",
                [place["ctid"] for place in places],
            )

    @rule(rows=rows)
    def bypass_and_repair(self, rows: list[workload.Row]) -> None:
        if not any(writer.is_open for writer in self.database.writers):
            self.database.wait(self.insert_past_the_triggers(rows))
            self.database.wait(Rollup(self.database.repairer).repair(ignored))

    async def insert_past_the_triggers(self, rows: list[workload.Row]) -> None:
        repairer = self.database.repairer
        await repairer.execute("SET session_replication_role = replica")
        await repairer.execute(workload.INSERT, *workload.insert_arguments(rows))
        await repairer.execute("SET session_replication_role = origin")

    @invariant()
    def the_rollup_gives_what_a_scan_gives(self) -> None:
        questions = some_questions(Random(self.steps), 5)  # noqa: S311
        self.steps += 1
        self.database.steps += 1
        if not any(writer.truncated for writer in self.database.writers):  # or the reader would wait
            assert self.database.wait(differences(self.database.reader, questions)) == []
            assert self.database.wait(self.own_differences(self.database.reader)) == []
        for writer in self.database.writers:
            if self.can_look(writer):
                with self.rolled_back_on_conflict(writer):
                    assert self.database.wait(self.differences_for(writer, questions)) == []

    async def differences_for(self, writer: Writer, questions: list[Asked]) -> list[str]:
        # No lock of another writer is in the way of a look; that of an autovacuum may be, for more than 5 ms.
        await writer.connection.execute("SET lock_timeout = 0")
        found = await differences(writer.connection, questions)
        found += await self.own_differences(writer.connection)
        await writer.connection.execute("SET lock_timeout = '5ms'")
        return found

    async def own_differences(self, connection: asyncpg.Connection) -> list[str]:
        found = []
        for name in OWN:
            there = await connection.fetchval(
                "SELECT to_regclass($1) IS NOT NULL", f"chat_stats_rollup_{name}_lifetime"
            )
            found += [row[0] for row in await connection.fetch(of_own(name))] if there else []
        if self.steps % 10 == 0:
            found += [row[0] for row in await connection.fetch(OWN_DRIFT)]
        return found

    def can_look(self, writer: Writer) -> bool:
        """Whether it has something open that it may look at; one writer at each step, to save time."""
        if any(other.truncated for other in self.database.writers):
            return writer.truncated
        return (
            writer.is_open
            and not writer.outdated
            and writer is self.database.writers[self.steps % len(self.database.writers)]
        )

    @contextmanager
    def rolled_back_on_conflict(self, writer: Writer) -> Iterator[None]:
        try:
            yield
        except asyncpg.SerializationError:
            self.roll_back(writer, entirely=True)


@pytest.mark.parametrize("steps", [STEPS] if STEPS else [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_after_every_step_the_rollup_gives_what_a_scan_gives(
    database_url: str, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(locks, "LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(own_installation, "LOCK_MS", 5)
    monkeypatch.setattr(purging, "PAUSE", 0)
    monkeypatch.setattr(purging, "LOCK_MS", 5)
    monkeypatch.setattr(purging, "ATTEMPTS", 1)
    monkeypatch.setattr(purging, "BATCH_REQUESTS", 20)
    monkeypatch.setattr(purging, "BATCH_DAYS", 4_000_000)
    database = Database(database_url)
    try:
        run_state_machine_as_test(
            lambda: RollupMachine(database),  # type: ignore[arg-type]
            settings=settings(
                max_examples=steps * 5 // (4 * STEPS_A_RUN) + 3,  # some runs end before their last step
                stateful_step_count=STEPS_A_RUN,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert database.steps >= steps
    finally:
        database.close()
