"""While the tables of a rollup that is not read yet are rewritten, nothing waits for them."""

import asyncio

import httpx
import pytest

from chat_stats.service.app import create_app
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection, SettingsFactory
from tests.processes import chat_stats
from tests.rollup.conftest import Connect, ignored
from tests.rollup.own import add

BACKFILLED = "UPDATE chat_stats_rollups SET ready = false, backfilled_to = 'infinity' WHERE name = 'statuses'"
#: The locks of VACUUM FULL, and of what runs around it, at the end of `rollup add`.
LOCK = """
BEGIN;
SELECT FROM chat_stats_rollup_state FOR UPDATE;
LOCK TABLE chat_stats_rollup_statuses_slots, chat_stats_rollup_statuses_months,
    chat_stats_rollup_statuses_lifetime IN ACCESS EXCLUSIVE MODE
"""


@pytest.fixture
async def rewriting(requests: Connection, connect: Connect) -> Connection:
    """A database with the rollups `users`, which is read, and `statuses`, whose tables are locked."""
    await requests.execute("UPDATE chat_completion_requests SET user_id = 'u' || id % 7")
    await Rollup(requests).enable(ignored)
    await add(requests, "users", "user_id")
    await add(requests, "statuses", "status")
    await requests.execute(BACKFILLED)
    await (await connect()).execute(LOCK)
    return requests


async def test_questions_and_writes_do_not_wait(
    rewriting: Connection, settings_with: SettingsFactory
) -> None:
    app = create_app(settings_with(query_timeout_seconds=60, dimensions="user_id"))
    sources = {}
    async with (
        asyncio.timeout(40),
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client,
    ):
        for dimension in ("user_id", "status", "model_id"):
            path = f"/api/monitoring/chat-requests/query?group_by={dimension}"
            sources[dimension] = (await client.get(path)).json()["metadata"]["source"]
        await rewriting.fetch("SELECT * FROM get_chat_request_stats('{status}')")
        for write in ("UPDATE {} SET status = 'ok'", "DELETE FROM {} WHERE id = 3", "TRUNCATE {}"):
            await rewriting.execute(write.format("chat_completion_requests"))
        assert (await client.get("/health")).status_code == 200
    assert sources == {"user_id": "rollup:users", "status": "scan", "model_id": "rollup:model"}


@pytest.mark.usefixtures("rewriting")
async def test_the_list_of_rollups_does_not_wait_and_leaves_out_the_size(env: dict[str, str]) -> None:
    listed = await asyncio.to_thread(chat_stats, "rollup", "list", env=env)
    cells = [line.split("\t") for line in listed.stdout.splitlines()]
    assert [(each[0], each[3], each[4] == "") for each in cells] == [
        ("model", "on", False),
        ("total", "on", False),
        ("users", "on", False),
        ("statuses", "backfilling", True),
    ]
