"""Rollups of the operator's own: added and removed over a live table, as exact as the built-in ones."""

import asyncio
from datetime import timedelta

import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.service.rollup import upkeep
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.rollup.conftest import ignored
from tests.rollup.exactness import DRIFT, assert_exact
from tests.rollup.own import COLUMNS, DIMENSIONS, add, differences, own_rollups, states
from tests.rollup.writers import writing

pytestmark = pytest.mark.every_postgres

#: As the database writes them.
VALUES = """
UPDATE chat_completion_requests SET
    user_id = CASE WHEN id % 11 <> 0 THEN 'u' || id % 7 END,
    tags = CASE id % 5 WHEN 0 THEN NULL WHEN 1 THEN '[1]'::jsonb
        ELSE jsonb_build_object('team', 't' || id % 3) END,
    note = CASE id % 400 WHEN 7 THEN repeat('x', 5000) || id % 2 WHEN 9 THEN '' END
"""
KEYS = {"by_user_id": "user_id", "by_team": "tags ->> 'team'"}


@pytest.fixture
async def tagged(requests: Connection) -> Connection:
    """3,000 requests with users, teams and some long notes; the rollup is on."""
    await requests.execute(COLUMNS)
    await requests.execute(VALUES)
    await Rollup(requests).enable(ignored)
    return requests


async def test_one_is_added_over_a_table_that_is_written_to_and_is_exact(
    tagged: Connection, database_url: str
) -> None:
    await tagged.execute(
        "CREATE FUNCTION tag() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.user_id := 'u' || NEW.id % 13; NEW.tags := jsonb_build_object('team', 't' || NEW.id % 4); "
        "RETURN NEW; END $$;"
        "CREATE TRIGGER tag BEFORE INSERT OR UPDATE ON chat_completion_requests "
        "FOR EACH ROW EXECUTE FUNCTION tag()"
    )
    async with writing(database_url, 2, pause_seconds=0.05):
        await asyncio.sleep(0.5)
        await add(tagged, "users", "user_id")
        await add(tagged, "teams", "team", "user_id", "model_id", "status", "error_kind", percentiles=False)
        await asyncio.sleep(0.3)
    assert await states(tagged) == {"model": "on", "total": "on", "users": "on", "teams": "on"}
    for _ in range(2):
        assert await differences(tagged, "users", {"by_user_id": "user_id"}) == []
        assert await tagged.fetchval(DRIFT) == 0
        await tagged.execute("SELECT chat_stats_fold()")
    assert await Rollup(tagged).verify(ignored) == 0
    await assert_exact(tagged, count=5)


async def test_what_is_written_later_is_counted_by_every_kind_of_statement(tagged: Connection) -> None:
    await add(tagged, "users", "user_id", "team")
    await add(tagged, "notes", "note")
    changes = [
        "INSERT INTO chat_completion_requests (user_id, tags, note) "
        "VALUES (NULL, NULL, NULL), ('new', '{\"team\": null}', repeat('y', 3000)), "
        "('', '{\"team\": 5}', '')",
        "UPDATE chat_completion_requests SET user_id = 'moved' WHERE id % 9 = 0",
        "DELETE FROM chat_completion_requests WHERE id % 10 = 1",
        "SELECT chat_stats_fold()",
        'UPDATE chat_completion_requests SET tags = \'{"team": "t9"}\', created_at = NULL WHERE id % 50 = 2',
        "SELECT chat_stats_fold()",
        "TRUNCATE chat_completion_requests",
    ]
    for change in changes:
        await tagged.execute(change)
        assert await differences(tagged, "users", KEYS) == [], change
        assert await differences(tagged, "notes", {"by_note": "chat_stats_dimension_value(note)"}) == [], (
            change
        )
    assert await Rollup(tagged).verify(ignored) == 0


async def test_an_interrupted_backfill_goes_on_where_it_stopped(
    tagged: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHUNK_REQUESTS", 500)
    rollups = own_rollups(tagged)
    wanted = await rollups.declare("users", ["user_id"], percentiles=True)

    chunks = 0

    def stop(_done: int) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rollups.add(wanted, stop)
    assert (await states(tagged))["users"] == "backfilling"
    place = await tagged.fetchval("SELECT backfilled_to FROM chat_stats_rollups")
    assert await tagged.fetchval("SELECT chat_stats_rollup_ready()")
    await tagged.execute("UPDATE chat_completion_requests SET user_id = 'x' WHERE id % 3 = 0")
    seen: list[int] = []
    await rollups.add(await rollups.declare("users", ["user_id"], percentiles=True), seen.append)
    assert place is not None
    assert len(seen) < 7
    assert (await states(tagged))["users"] == "on"
    assert await Rollup(tagged).verify(ignored) == 0
    assert await differences(tagged, "users", {"by_user_id": "user_id"}) == []


async def test_removing_one_drops_what_no_other_needs_and_the_rest_goes_on(tagged: Connection) -> None:
    await add(tagged, "users", "user_id")
    await add(tagged, "teams", "team", "user_id")
    await tagged.execute("INSERT INTO chat_completion_requests (user_id) VALUES ('last')")
    await own_rollups(tagged).remove("teams")
    assert await states(tagged) == {"model": "on", "total": "on", "users": "on"}
    columns = await tagged.fetch(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'chat_stats_deltas'::regclass "
        "AND attname LIKE 'by\\_%' AND NOT attisdropped"
    )
    assert [column[0] for column in columns] == ["by_user_id"]
    assert await tagged.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_teams%'") == 0
    await tagged.execute("UPDATE chat_completion_requests SET user_id = 'z' WHERE id % 4 = 0")
    assert await differences(tagged, "users", {"by_user_id": "user_id"}) == []
    assert await Rollup(tagged).verify(ignored) == 0
    await own_rollups(tagged).remove("users")
    await tagged.execute("DELETE FROM chat_completion_requests WHERE id % 2 = 0")
    await assert_exact(tagged, count=5)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE chat_completion_requests DROP COLUMN user_id",
        "ALTER TABLE chat_completion_requests RENAME COLUMN user_id TO uid",
        "ALTER TABLE chat_completion_requests ALTER COLUMN tags TYPE text",
        "ALTER TABLE chat_stats_deltas DROP COLUMN by_team",
    ],
)
async def test_a_dimension_that_changes_harms_its_rollups_alone_and_no_writer(
    tagged: Connection, change: str
) -> None:
    await add(tagged, "users", "user_id", "team")
    await tagged.execute(change)
    await tagged.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, now()), (2, now())"
    )
    await tagged.execute("UPDATE chat_completion_requests SET model_id = 3 WHERE id % 10 = 0")
    await tagged.execute("DELETE FROM chat_completion_requests WHERE id % 10 = 1")
    assert await states(tagged) == {"model": "on", "total": "on", "users": "damaged"}
    await assert_exact_built_in(tagged)
    await Rollup(tagged).repair(ignored)
    assert (await states(tagged))["users"] == "on"
    assert await Rollup(tagged).verify(ignored) == 0
    await tagged.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    assert await Rollup(tagged).verify(ignored) == 0


async def assert_exact_built_in(connection: Connection) -> None:
    assert await connection.fetchval("SELECT chat_stats_rollup_ready()")
    assert await connection.fetchval(
        "SELECT count(*) FROM chat_completion_requests"
    ) == await connection.fetchval("SELECT total_requests FROM chat_stats_total(NULL, NULL)")


@pytest.mark.usefixtures("small_purges")
async def test_purged_requests_stay_in_those_that_were_there_and_one_added_later_says_from_when_it_is_whole(
    tagged: Connection,
) -> None:
    await add(tagged, "users", "user_id")
    users = "SELECT by_user_id, requests, bins, counts FROM chat_stats_rollup_users_lifetime ORDER BY 1"
    before = await tagged.fetch(users)
    middle = await tagged.fetchval("SELECT now() - interval '40 days'")
    assert (await Retention(tagged).purge(middle, ignored)).requests > 0
    await tagged.execute("SELECT chat_stats_fold()")
    assert await tagged.fetch(users) == before
    await add(tagged, "teams", "team")
    [teams] = [each for each in await own_rollups(tagged).list_all() if each.name == "teams"]
    assert teams.whole_from == await tagged.fetchval("SELECT chat_stats_bucket($1::timestamptz)", middle)
    assert await tagged.fetchval("SELECT sum(requests)::int FROM chat_stats_rollup_teams_lifetime") == (
        await tagged.fetchval("SELECT count(*)::int FROM chat_completion_requests")
    )
    assert await Rollup(tagged).verify(ignored) == 0
    await Rollup(tagged).repair(ignored)
    assert await tagged.fetch(users) == before
    # Deletes by others, whose statistics are kept.
    await Retention(tagged).retain(timedelta(days=20))
    await tagged.execute("DELETE FROM chat_completion_requests WHERE created_at < now() - interval '30 days'")
    await tagged.execute("SELECT chat_stats_fold()")
    assert await tagged.fetch(users) == before
    assert await Rollup(tagged).verify(ignored) == 0


async def test_drift_in_one_is_found_by_the_audit_and_keeps_that_one_alone_from_being_read(
    tagged: Connection,
) -> None:
    await add(tagged, "users", "user_id")
    await tagged.execute("SELECT chat_stats_fold()")
    await tagged.execute(
        "UPDATE chat_stats_rollup_users_slots SET slot_requests[1] = slot_requests[1] + 1 "
        "WHERE (day, by_user_id) = ("
        "SELECT day, by_user_id FROM chat_stats_rollup_users_slots WHERE by_user_id <> '' "
        "ORDER BY 1, 2 LIMIT 1)"
    )
    assert set(await Rollup(tagged).compare(ignored)) == {"users"}
    assert await states(tagged) == {"model": "on", "total": "on", "users": "damaged"}
    assert await Rollup(tagged).repair(ignored) > 0
    assert (await states(tagged))["users"] == "on"
    assert await Rollup(tagged).verify(ignored) == 0


@pytest.mark.parametrize(
    ("name", "by", "trouble"),
    [
        ("users", ["user"], "unknown dimension 'user'; known: provider_id, model_id,"),
        ("users", ["user_id", "user_id"], "the dimension user_id is named twice"),
        ("users", [], "give 1 to 5 dimensions"),
        ("taken", ["user_id", "team"], "the rollup taken exists, by user_id"),
        ("others", ["user_id"], "the rollup taken is kept by these dimensions already"),
        ("total", ["user_id"], "the rollup total is built in"),
        ("models", ["provider_id"], "the built-in rollup model is kept by these dimensions already"),
        ("Users", ["team"], "a name has lower-case letters"),
        ("u" * 40, ["team"], "the name is too long"),
        ("by_days", ["team"], "a name does not end in _days"),
        ("gone", ["gone"], "chat_completion_requests has no column gone"),
    ],
)
async def test_what_cannot_be_added_is_said_before_anything_begins(
    declared: Connection, name: str, by: list[str], trouble: str
) -> None:
    rollups = OwnRollups(Rollup(declared), known_dimensions(f"{DIMENSIONS}, gone"))
    with pytest.raises((SchemaError, InvalidParameter)) as raised:
        await rollups.declare(name, by, percentiles=True)
    assert trouble in str(raised.value)


@pytest.fixture
async def declared(requests: Connection) -> Connection:
    """A rollup is listed as `taken`; nothing of it is there."""
    await requests.execute(COLUMNS)
    await requests.execute(
        "INSERT INTO chat_stats_rollups (name, by, sources, ready) "
        """VALUES ('taken', '[["user_id", "column", "user_id", null, []]]', '{user_id}', true)"""
    )
    return requests
