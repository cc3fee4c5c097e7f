"""Status, readiness and metrics say in which state the rollup is, and why it is not read."""

import asyncpg
import httpx
import pytest

from chat_stats.service import health
from chat_stats.service.rollup.state import TROUBLES
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.cli import status
from tests.integration.conftest import OpenClient
from tests.integration.scrape import scrape

pytestmark = pytest.mark.every_postgres

TABLE = "chat_completion_requests"
READY = "http://test/health/ready"

#: What is done, which reason it is, and words of the sentence that says so.
DAMAGES = {
    "a write went uncounted": (
        f"ALTER TABLE {TABLE} RENAME model_id TO other; INSERT INTO {TABLE} (other) VALUES (1); "
        f"ALTER TABLE {TABLE} RENAME other TO model_id",
        "uncounted",
        'column "model_id" does not exist',
    ),
    "a column was retyped": (
        f"ALTER TABLE {TABLE} ALTER input_tokens TYPE numeric",
        "columns",
        "input_tokens of chat_completion_requests changed",
    ),
    "a trigger was dropped": (
        f"DROP TRIGGER chat_stats_update ON {TABLE}",
        "triggers",
        "3 of its 4 triggers fire",
    ),
    "the table was replaced": (
        f"ALTER TABLE {TABLE} RENAME TO elsewhere; CREATE TABLE {TABLE} (LIKE elsewhere INCLUDING ALL)",
        "triggers",
        "0 of its 4 triggers fire; run: chat-stats rollup enable",
    ),
    "a table of ours was dropped": (
        "DROP TABLE chat_stats_rollup_model_days",
        "tables",
        "chat_stats_rollup_model_days missing; run: chat-stats migrate",
    ),
    "a function of ours was dropped": (
        "DROP FUNCTION chat_stats_request_tables CASCADE",
        "functions",
        "chat_stats_request_tables() does not exist; run: chat-stats migrate",
    ),
    "a partition lacks the triggers": (
        f"CREATE TABLE late () INHERITS ({TABLE})",
        "partitions",
        "late of the partitions lack its triggers",
    ),
    "rows bypassed the triggers": (
        "SET session_replication_role = replica; "
        f"DELETE FROM {TABLE} WHERE model_id = 2; RESET session_replication_role",
        "drift",
        "differ from the requests; run: chat-stats rollup repair",
    ),
}

#: The same of what a role may not read.
FORBIDDEN = {
    "a right is missing": (
        "REVOKE SELECT ON chat_stats_deltas FROM {role}",
        "lacks SELECT on chat_stats_deltas, and so it scans; "
        "their owner can run: SELECT chat_stats_grant_read('{role}')",
    ),
    "our tables have row level security": (
        "ALTER TABLE chat_stats_rollup_model_days ENABLE ROW LEVEL SECURITY",
        "row level security holds for the role {role} on chat_stats_rollup_model_days, and so it scans",
    ),
    "the requests have row level security": (
        f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY; "
        f"CREATE POLICY all_rows ON {TABLE} TO {{role}} USING (true)",
        f"row level security holds for the role {{role}} on {TABLE}, and so it scans",
    ),
}


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SHARED_SECONDS", 0.0)


@pytest.fixture
async def rolled_up(gateway: asyncpg.Connection, settings: Settings) -> asyncpg.Connection:
    """A connection to the gateway's database, with the rollup on."""
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _requests: None)
    return gateway


async def assert_all_say(client: httpx.AsyncClient, settings: Settings, reason: str, words: str) -> None:
    ready = (await client.get(READY)).json()
    assert (ready["postgres"]["ok"], ready["rollup"]["ok"], ready["status"]) == (True, False, "degraded")
    assert ready["rollup"]["detail"].startswith("damaged: ")
    assert words in ready["rollup"]["detail"]

    found = await status.collect(settings)
    assert found.rollup is not None
    assert (found.rollup.state, found.rollup.trouble) == ("damaged", reason)
    assert words in found.rollup.reason
    assert not found.healthy

    seen = await scrape(client)
    assert seen.value("rollup_state", state="damaged") == 1
    assert {name for name in TROUBLES if seen.value("rollup_trouble", reason=name)} == {reason}
    assert seen.label_values("rollup_trouble", "reason") == set(TROUBLES)


@pytest.mark.parametrize(("damage", "reason", "words"), DAMAGES.values(), ids=DAMAGES)
async def test_they_say_why_it_is_damaged_when(
    client: httpx.AsyncClient,
    settings: Settings,
    rolled_up: asyncpg.Connection,
    damage: str,
    reason: str,
    words: str,
) -> None:
    await rolled_up.execute(damage)
    if reason == "drift":
        async with open_rollup(settings) as rollup:
            await rollup.verify(lambda _requests: None)
    await assert_all_say(client, settings, reason, words)


@pytest.mark.parametrize(("change", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
async def test_they_say_that_our_role_scans_when(
    client_of: OpenClient, as_reader: Settings, rolled_up: asyncpg.Connection, change: str, words: str
) -> None:
    role = httpx.URL(as_reader.database_url.get_secret_value()).username
    client = await client_of(as_reader)
    assert (await client.get(READY)).json()["rollup"] == {"ok": True, "detail": "on"}
    await rolled_up.execute(change.format(role=role))
    await _look_again(client)
    await assert_all_say(client, as_reader, "forbidden", words.format(role=role))


async def test_one_that_is_off_or_on_or_on_its_way_is_well(
    client: httpx.AsyncClient, settings: Settings, gateway: asyncpg.Connection
) -> None:
    for state in ("off", "on", "backfilling", "off"):
        async with open_rollup(settings) as rollup:
            if state == "on":
                await rollup.enable(lambda _requests: None)
            elif state == "backfilling":
                await gateway.execute("UPDATE chat_stats_rollup_state SET ready = false")
            else:
                await rollup.disable()
        await _look_again(client)
        readiness = (await client.get(READY)).json()["rollup"]
        assert readiness["ok"] is True
        assert readiness["detail"].partition(":")[0] == state
        found = (await status.collect(settings)).rollup
        assert found is not None
        assert (found.state, found.trouble) == (state, None)
        seen = await scrape(client)
        assert seen.value("rollup_state", state=state) == 1
        assert not any(seen.value("rollup_trouble", reason=name) for name in TROUBLES)


async def test_without_anything_of_ours_it_is_off(
    client: httpx.AsyncClient, settings: Settings, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("DROP TABLE chat_stats_rollup_state, chat_stats_uncounted")
    readiness = (await client.get(READY)).json()["rollup"]
    assert readiness["ok"] is True
    assert readiness["detail"].startswith("off: the rollup lacks chat_stats_rollup_state")
    assert (await scrape(client)).value("rollup_state", state="off") == 1


async def _look_again(client: httpx.AsyncClient) -> None:
    await client._transport.app.state.services.readiness.close()  # type: ignore[attr-defined]
