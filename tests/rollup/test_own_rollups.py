"""Rollups of the operator's own: added and removed over a live table, as exact as the built-in ones."""

import asyncio
import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.database.rendering import RENDERED
from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.service.rollup import chunks
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.processes import chat_stats
from tests.rollup.conftest import ignored
from tests.rollup.exactness import DRIFT, assert_exact
from tests.rollup.own import COLUMNS, DIMENSIONS, add, differences, own_rollups, states
from tests.rollup.writers import writing

pytestmark = [pytest.mark.every_postgres, pytest.mark.slow]

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


async def test_a_write_is_counted_whatever_its_session_sets(tagged: Connection, database_url: str) -> None:
    declared = f"{DIMENSIONS}, odd=tags->>Team No. 1"
    await add(tagged, "kinds", "error_kind", "odd", dimensions=declared)
    keys = {"by_odd": "tags ->> 'Team No. 1'"}
    for setting in (
        "standard_conforming_strings = off",  # the text of a trigger is read by it
        "backslash_quote = off",
        "transform_null_equals = on",
        "plpgsql.variable_conflict = error",
        "client_encoding = 'LATIN1'",
        "search_path = ''",
    ):
        writer = await asyncpg.connect(database_url)
        try:
            await writer.execute(f"SET {setting}")
            await writer.execute(
                "INSERT INTO public.chat_completion_requests (status, error_message, tags) "
                "VALUES ('failed', 'timed out', jsonb_build_object('Team No. 1', 'x'))"
            )
        finally:
            await writer.close()
        assert await differences(tagged, "kinds", keys) == [], setting
    count = "SELECT sum(requests) FROM chat_stats_deltas WHERE by_error_kind = 'timeout' AND by_odd = 'x'"
    assert await tagged.fetchval(count) == 6


async def test_kinds_of_errors_are_kept_where_requests_have_no_message(tagged: Connection) -> None:
    await tagged.execute("ALTER TABLE chat_completion_requests DROP error_message")
    rollups = own_rollups(tagged)
    assert (
        await rollups.estimate(await rollups.declare("kinds", ["error_kind"], percentiles=False))
    ).groups > 0
    await add(tagged, "kinds", "error_kind")
    assert (await states(tagged))["kinds"] == "on"
    assert await Rollup(tagged).verify(ignored) == 0


async def test_an_interrupted_backfill_goes_on_where_it_stopped(
    tagged: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 500)
    rollups = own_rollups(tagged)
    wanted = await rollups.declare("users", ["user_id"], percentiles=True)

    done = 0

    def stop(_requests: int) -> None:
        nonlocal done
        done += 1
        if done == 3:
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
    users = (
        "SELECT by_user_id, month, requests, bins, counts FROM chat_stats_rollup_users_months ORDER BY 1, 2"
    )
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
        "UPDATE chat_stats_rollup_users_slots SET requests = COALESCE(requests, 1) + 1, slots = NULL "
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
        ("u" * 29, ["team"], "the name is too long: it has at most 28 characters"),
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


#: `chat-stats rollup add` where two groups are many.
ASKS = (
    "import sys; from chat_stats.worker.cli import own_rollups; own_rollups.MANY_GROUPS = 2;"
    "sys.argv = ['', 'rollup', 'add', *sys.argv[1:]]; from chat_stats.worker.cli import main; main()"
)


async def test_the_commands_add_list_verify_and_remove(
    tagged: Connection, env: dict[str, str], tmp_path: Path
) -> None:
    env = {**env, "CHAT_STATS_DIMENSIONS": DIMENSIONS}

    def asks(*arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", ASKS, *arguments]
        return subprocess.run(
            command,
            env=env,
            input=answer,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    refused = asks("users", "--by", "user_id", answer="n\n")
    assert refused.returncode == 1
    assert re.search(
        r"users: about \d+ groups and [\d,]+ rows by day, of 3,000 requests; about", refused.stderr
    )
    assert await states(tagged) == {"model": "on", "total": "on"}
    added = asks("users", "--by", "user_id", "--yes")
    assert (added.returncode, added.stdout) == (0, "the rollup users is on\n"), added.stderr
    written = "SELECT pg_relation_filenode(c.oid) <> c.oid FROM pg_class AS c WHERE c.relname = $1"
    assert await tagged.fetchval(written, "chat_stats_rollup_users_slots"), "once more, without room for more"
    unknown = chat_stats("rollup", "add", "colours", "--by", "colour", env=env)
    assert unknown.returncode == 2
    assert "unknown dimension 'colour'; known:" in unknown.stderr
    listed = chat_stats("rollup", "list", "--json", env=env)
    assert [(each["name"], each["dimensions"], each["state"]) for each in json.loads(listed.stdout)] == [
        ("model", ["model_id"], "on"),
        ("total", [], "on"),
        ("users", ["user_id"], "on"),
    ]
    assert chat_stats("rollup", "verify", env=env).returncode == 0
    assert chat_stats("migrate", env=env).returncode == 0
    await tagged.execute("UPDATE chat_completion_requests SET user_id = 'again' WHERE id % 5 = 0")
    assert (await states(tagged))["users"] == "on"
    assert await differences(tagged, "users", {"by_user_id": "user_id"}) == []
    await tagged.execute(
        "UPDATE chat_stats_rollup_users_lifetime SET requests = requests + 1 WHERE by_user_id = 'u1'"
    )
    found = chat_stats("rollup", "verify", env=env)
    assert found.returncode == 1
    assert re.search(r"^  \d+ of the rollup users$", found.stdout, re.MULTILINE)
    listed = chat_stats("rollup", "list", env=env)
    assert listed.returncode == 1
    model, total, users = (line.split("\t") for line in listed.stdout.splitlines())
    assert (model[:4], total[:4]) == (["model", "model_id", "yes", "on"], ["total", "", "yes", "on"])
    assert users[:4] == ["users", "user_id", "yes", "damaged"]
    assert int(users[4]) > 0
    assert "differ" in users[6]
    removed = chat_stats("rollup", "remove", "users", env=env)
    assert (removed.returncode, removed.stdout) == (0, "the rollup users is removed\n"), removed.stderr
    assert await states(tagged) == {"model": "on", "total": "on"}


async def test_the_file_for_psql_knows_none_of_them_and_a_repair_takes_them_up_again(
    tagged: Connection,
) -> None:
    await add(tagged, "users", "user_id")
    await tagged.execute(RENDERED.read_text())
    assert await states(tagged) == {"model": "on", "total": "on", "users": "backfilling"}
    await tagged.execute("INSERT INTO chat_completion_requests (user_id) VALUES ('meanwhile')")
    await tagged.execute("SELECT chat_stats_fold()")
    await Rollup(tagged).repair(ignored)
    assert (await states(tagged))["users"] == "on"
    await tagged.execute("INSERT INTO chat_completion_requests (user_id) VALUES ('later')")
    assert await differences(tagged, "users", {"by_user_id": "user_id"}) == []
    assert await Rollup(tagged).verify(ignored) == 0


async def test_adding_one_backfills_it_alone_and_neither_reads_nor_changes_the_others(
    tagged: Connection,
) -> None:
    await add(tagged, "teams", "team")
    for table in ("chat_stats_rollup_model_slots", "chat_stats_rollup_teams_slots"):
        await tagged.execute(f"DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})")
    drift = await tagged.fetchval(DRIFT)
    assert drift > 0
    await add(tagged, "users", "user_id")
    assert await tagged.fetchval(DRIFT) == drift
    assert (await states(tagged))["users"] == "on"
    assert await differences(tagged, "users", {"by_user_id": "user_id"}) == []
    found = await tagged.fetch(
        "SELECT DISTINCT rollup FROM chat_stats_rollup_differences('-infinity', 'infinity') ORDER BY 1"
    )
    assert [each["rollup"] for each in found] == ["model", "teams"]


async def test_writes_counted_without_its_dimensions_while_one_is_added_are_recounted(
    tagged: Connection,
) -> None:
    await add(tagged, "teams", "team")
    rollups = own_rollups(tagged)
    wanted = await rollups.declare("users", ["user_id"], percentiles=True)
    await tagged.execute(
        "INSERT INTO chat_stats_uncounted (relation, reason) "
        "VALUES ('chat_stats_rollups'::regclass, 'as a trigger would say')"
    )
    await rollups.add(wanted, ignored)
    assert await states(tagged) == {"model": "on", "total": "on", "teams": "on", "users": "on"}
    assert await tagged.fetchval("SELECT count(*) FROM chat_stats_uncounted") == 0
    assert await tagged.fetchval(DRIFT) == 0
