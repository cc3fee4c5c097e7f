"""The worker purges old requests by itself, where the settings say so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError

from chat_stats.service.queue import connect_queue
from chat_stats.service.rollup import retention
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker import tasks
from chat_stats.worker.cli.status import collect
from chat_stats.worker.main import scheduled_purge
from chat_stats.worker.metrics import REGISTRY
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenFlow

OLD = "SELECT count(*) FROM chat_completion_requests WHERE created_at < now() - interval '30 days'"
TOTAL = "SELECT total_requests FROM get_chat_request_summary()"


@pytest.fixture
async def flow(settings_with: SettingsFactory, another_flow: OpenFlow, gateway: asyncpg.Connection) -> Flow:
    """A worker that purges after 30 days, over a gateway with 1,000 requests of the last 100 days."""
    await gateway.execute(
        "INSERT INTO chat_completion_requests (model_id, status, created_at) "
        "SELECT 1, 'completed', now() - n * interval '144 minutes' FROM generate_series(1, 1000) AS n"
    )
    return await another_flow(settings_with(purge_after_days=30))


async def purge(flow: Flow) -> dict[str, Any]:
    """Let the worker do what is due, and return what `status` then knows of it."""
    queue = connect_queue(flow.settings)
    await scheduled_purge({"settings": flow.settings, "database": flow.database, "redis": queue})
    await queue.aclose(close_connection_pool=True)
    outcome = (await collect(flow.settings)).last_purge
    assert outcome is not None
    assert datetime.now(UTC) - datetime.fromisoformat(outcome["at"]) < timedelta(minutes=1)
    return outcome


async def enable(settings: Settings) -> None:
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _requests: None)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"chat_stats_{name}", labels) or 0


async def test_requests_older_than_the_setting_go_in_steps_and_statistics_stay(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enable(flow.settings)
    monkeypatch.setattr(retention, "BATCH_REQUESTS", 100)
    monkeypatch.setattr(retention, "PAUSE", 0)
    monkeypatch.setattr(tasks, "PURGE_REQUESTS", 150)
    total, old, before = (
        await gateway.fetchval(TOTAL),
        await gateway.fetchval(OLD),
        counted("purged_requests_total"),
    )
    assert old > 600
    outcome = await purge(flow)
    assert outcome["error"] is None
    assert 150 <= outcome["requests"] < old
    assert await gateway.fetchval(OLD) == old - outcome["requests"]
    while (outcome := await purge(flow))["requests"]:
        pass
    left = await gateway.fetchval(OLD)
    assert left <= 1  # of the bucket in which the 30 days end
    assert await gateway.fetchval(TOTAL) == total
    assert counted("purged_requests_total") == before + old - left
    assert counted("last_purge_timestamp_seconds") > 0


async def test_nothing_goes_while_the_rollup_is_not_on(flow: Flow, gateway: asyncpg.Connection) -> None:
    old, failures = await gateway.fetchval(OLD), counted("purge_failures_total", error="SchemaError")
    outcome = await purge(flow)
    assert "the rollup must be on" in outcome["error"]
    assert await gateway.fetchval(OLD) == old
    assert counted("purge_failures_total", error="SchemaError") == failures + 1


async def test_nothing_goes_that_the_rollup_does_not_know(flow: Flow, gateway: asyncpg.Connection) -> None:
    await enable(flow.settings)
    await gateway.execute(
        "SET session_replication_role = replica;"
        "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, '2019-01-01');"
        "SET session_replication_role = origin"
    )
    old = await gateway.fetchval(OLD)
    assert "rollup repair" in (await purge(flow))["error"]
    assert await gateway.fetchval(OLD) == old


async def test_without_the_setting_nothing_goes_and_nothing_is_said(
    settings_with: SettingsFactory, another_flow: OpenFlow, gateway: asyncpg.Connection
) -> None:
    flow = await another_flow(settings_with())
    await enable(flow.settings)
    old = await gateway.fetchval(OLD)
    await scheduled_purge({"settings": flow.settings, "database": flow.database})
    assert (await gateway.fetchval(OLD), (await collect(flow.settings)).last_purge) == (old, None)


@pytest.mark.parametrize("age", [0, -1, 36501, "soon", "1.5"])
def test_an_age_that_is_none_is_refused(settings_with: SettingsFactory, age: object) -> None:
    with pytest.raises(ValidationError, match="purge_after_days"):
        settings_with(purge_after_days=age)
