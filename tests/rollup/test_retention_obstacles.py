"""Purging where something is in the way: writers, locks, other tables, triggers, rights, losses."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from random import Random

import asyncpg
import pytest

from chat_stats.service.catalogue.measures import MEASURES
from chat_stats.service.errors import DatabaseBusy, SchemaError
from chat_stats.service.rollup import retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import Connect, ignored
from tests.rollup.exactness import (
    assert_exact,
    differences,
    some_questions,
)
from tests.rollup.purging import (
    ANSWERS,
    MIDNIGHT,
    PURGED,
    READY,
    REQUESTS,
    THEN,
    answers,
    purge,
)
from tests.rollup.writers import writing

pytestmark = pytest.mark.usefixtures("small_purges")

#: The sums and histograms of purged requests over all models, slot by slot: their arrays may have any order.
PURGED_TOTALS = (
    "SELECT t.day, u.* FROM chat_stats_purged_total AS t, unnest(slots, {sums}) AS u ORDER BY 1, 2".format(
        sums=", ".join(f"slot_{measure.name}" for measure in MEASURES)
    ),
    "SELECT t.day, u.* FROM chat_stats_purged_total AS t, unnest(bin_slots, bins, counts) AS u "
    "ORDER BY 1, 2, 3",
)


async def test_what_others_write_meanwhile_is_neither_lost_nor_counted_twice(
    rolled_up: Connection, database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writers move requests into the past, too, and change and delete those that are being purged."""
    monkeypatch.setattr(retention, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(retention, "LOCK_MS", 20)
    reader = await connect()
    async with writing(database_url, 2, pause_seconds=0.02) as written:
        for day in (80, 50):
            task = asyncio.create_task(purge(rolled_up, MIDNIGHT - timedelta(days=day)))
            while not task.done():
                assert await differences(reader, some_questions(Random(day), 3)) == []  # noqa: S311
            with suppress(DatabaseBusy):
                await task
        assert written.statements > 0
    assert await rolled_up.fetchval(f"SELECT sum(requests) FROM {PURGED}") > 500
    await assert_exact(rolled_up)
    assert await Rollup(rolled_up).verify(ignored) == 0


async def test_a_purge_waits_for_a_locked_request_or_leaves_it(
    rolled_up: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOCK_MS", 20)
    monkeypatch.setattr(retention, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(retention, "ATTEMPTS", 3)
    old = await rolled_up.fetchval("SELECT min(id) FROM chat_completion_requests WHERE created_at < $1", THEN)
    other = await connect()
    async with other.transaction():
        await other.execute("UPDATE chat_completion_requests SET input_tokens = 7 WHERE id = $1", old)
        with pytest.raises(DatabaseBusy, match="are being changed"):
            await purge(rolled_up)
        await assert_exact(rolled_up)
    await purge(rolled_up)
    await assert_exact(rolled_up)


async def test_requests_older_than_a_locked_one_are_purged_although_they_share_its_chunk(
    rolled_up: Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOCK_MS", 20)
    monkeypatch.setattr(retention, "RETRY_SECONDS", 0)
    locked = await rolled_up.fetchval(
        "SELECT created_at FROM chat_completion_requests ORDER BY created_at OFFSET 100 LIMIT 1"
    )
    other = await connect()
    async with other.transaction():
        await other.execute("SELECT FROM chat_completion_requests WHERE created_at = $1 FOR UPDATE", locked)
        with pytest.raises(DatabaseBusy):
            await purge(rolled_up)
    bucket = await rolled_up.fetchval("SELECT chat_stats_bucket($1)", locked)
    assert await rolled_up.fetchval("SELECT min(created_at) FROM chat_completion_requests") >= bucket
    await assert_exact(rolled_up)


async def test_requests_that_other_tables_refer_to_stay_with_all_of_their_chunk(
    rolled_up: Connection,
) -> None:
    old = await rolled_up.fetchval("SELECT min(id) FROM chat_completion_requests WHERE created_at < $1", THEN)
    await rolled_up.execute("CREATE TABLE bills (request_id bigint REFERENCES chat_completion_requests)")
    await rolled_up.execute("INSERT INTO bills VALUES ($1)", old)
    expected = await answers(rolled_up)
    with pytest.raises(SchemaError, match=r"other tables refer to requests.*bills"):
        await purge(rolled_up)
    assert await rolled_up.fetchval("SELECT count(*) FROM chat_completion_requests WHERE id = $1", old) == 1
    assert await answers(rolled_up) == expected
    await assert_exact(rolled_up)


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE RULE keep AS ON DELETE TO chat_completion_requests DO INSTEAD NOTHING",
        "SET session_replication_role = replica",
    ],
)
async def test_nothing_is_deleted_where_that_would_change_statistics(
    rolled_up: Connection, obstacle: str
) -> None:
    expected, counted = await answers(rolled_up), await rolled_up.fetchval(REQUESTS)
    await rolled_up.execute(obstacle)
    with pytest.raises(SchemaError, match="could not be deleted"):
        await purge(rolled_up)
    assert await rolled_up.fetchval(REQUESTS) == counted
    assert await answers(rolled_up) == expected


async def test_requests_that_a_trigger_keeps_are_not_said_to_be_purged(rolled_up: Connection) -> None:
    await rolled_up.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keep BEFORE DELETE ON chat_completion_requests FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    assert (await purge(rolled_up)).requests == 0
    await assert_exact(rolled_up)


@pytest.mark.parametrize(
    "loss", ["DELETE FROM chat_stats_purged_model", "DROP TABLE chat_stats_purged_model"]
)
@pytest.mark.parametrize("command", ["enable", "repair"])
async def test_a_rollup_is_not_rebuilt_without_the_sums_of_what_was_purged(
    rolled_up: Connection, database_url: str, loss: str, command: str
) -> None:
    await purge(rolled_up)
    kept = await rolled_up.fetch("SELECT * FROM chat_stats_rollup_model_days ORDER BY model_id, day")
    await rolled_up.execute(loss + "; UPDATE chat_stats_rollup_state SET ready = false")
    await run_migrations(database_url)
    lost = "chat_stats_purged_model has lost the sums of the requests that were purged"
    with pytest.raises(SchemaError, match=lost):
        await getattr(Rollup(rolled_up), command)(ignored)
    assert await rolled_up.fetch("SELECT * FROM chat_stats_rollup_model_days ORDER BY model_id, day") == kept
    await rolled_up.execute("UPDATE chat_stats_rollup_state SET purged_before = NULL")
    await getattr(Rollup(rolled_up), command)(ignored)
    await assert_exact(rolled_up)


@pytest.mark.parametrize("command", ["enable", "repair"])
async def test_the_sums_over_all_models_are_made_again_from_those_of_the_models(
    rolled_up: Connection, command: str
) -> None:
    await purge(rolled_up)
    kept = [await rolled_up.fetch(statement) for statement in PURGED_TOTALS]
    assert all(kept)
    await rolled_up.execute(
        "DELETE FROM chat_stats_purged_total; UPDATE chat_stats_rollup_state SET ready = false"
    )
    await getattr(Rollup(rolled_up), command)(ignored)
    assert [await rolled_up.fetch(statement) for statement in PURGED_TOTALS] == kept
    await assert_exact(rolled_up)


async def test_one_that_may_not_delete_is_told_the_grant(rolled_up: Connection) -> None:
    await rolled_up.execute(
        "CREATE ROLE keeper; GRANT SELECT ON ALL TABLES IN SCHEMA public TO keeper;"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO keeper;"
        "GRANT UPDATE ON chat_stats_rollup_state TO keeper; SET ROLE keeper"
    )
    try:
        with pytest.raises(SchemaError) as refused:
            await purge(rolled_up)
        assert (
            "the role keeper lacks DELETE on chat_completion_requests; its owner can say: "
            "GRANT DELETE ON chat_completion_requests TO keeper"
        ) in str(refused.value)
    finally:
        await rolled_up.execute("RESET ROLE; DROP OWNED BY keeper; DROP ROLE keeper")


async def test_who_may_read_the_requests_may_read_the_sums_of_those_that_are_gone(
    rolled_up: Connection, database_url: str
) -> None:
    await rolled_up.execute(
        "CREATE ROLE reader; GRANT SELECT ON chat_completion_requests, models, providers TO reader;"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO reader"
    )
    try:
        await run_migrations(database_url)
        expected = await answers(rolled_up, ANSWERS[:7])
        await purge(rolled_up)
        await rolled_up.execute("SET ROLE reader")
        assert not await rolled_up.fetchval(READY)
        assert await answers(rolled_up, ANSWERS[:7]) == expected
        await rolled_up.execute(
            "RESET ROLE; REVOKE SELECT ON chat_stats_purged_model FROM reader; SET ROLE reader"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="chat_stats_purged_model"):
            await answers(rolled_up, ANSWERS[:7])
    finally:
        await rolled_up.execute("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")
