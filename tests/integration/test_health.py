"""Readiness, metrics and `chat-stats status` say the same of the same trouble: they share one look."""

import asyncpg
import pytest
from pydantic import SecretStr

from chat_stats.service.settings import Settings
from chat_stats.worker.cli.status import START_WORKER, collect
from tests.integration.conftest import OpenClient, OpenFlow
from tests.integration.scrape import scrape

READY = "http://test/health/ready"


@pytest.mark.parametrize(
    ("statement", "trouble"),
    [
        (
            "DROP TABLE providers CASCADE",
            "the database lacks the table(s) providers; run: chat-stats migrate",
        ),
        ("ALTER TABLE models ENABLE ROW LEVEL SECURITY", "row level security hides rows of models "),
    ],
)
async def test_all_say_why_the_requests_cannot_be_read(
    as_reader: Settings, gateway: asyncpg.Connection, client_of: OpenClient, statement: str, trouble: str
) -> None:
    await gateway.execute(statement)
    client = await client_of(as_reader)
    readiness = (await client.get(READY)).json()
    assert readiness["postgres"]["detail"].startswith(trouble)
    assert (await collect(as_reader)).database == readiness["postgres"]["detail"]
    seen = await scrape(client)
    assert seen.value("postgres_up") == 1
    assert seen.value("rollup_state", state="off") == 1


async def test_all_say_that_redis_is_down_and_postgres_is_not(
    settings: Settings, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    down = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    client = await client_of(down)
    readiness, found, seen = (await client.get(READY)).json(), await collect(down), await scrape(client)
    assert readiness["redis"]["detail"] == found.redis
    assert found.redis.startswith(
        "Redis does not answer: nothing listens there"
    )  # in a container, with a hint
    assert readiness["worker"]["detail"] == found.worker
    assert (readiness["postgres"]["ok"], found.database) == (True, "ok")
    assert set(found.functions.values()) == {"ok"}
    assert (seen.value("redis_up"), seen.value("queue_up"), seen.value("postgres_up")) == (0, 0, 1)


async def test_all_know_the_last_refresh(
    settings: Settings, gateway: asyncpg.Connection, client_of: OpenClient, another_flow: OpenFlow
) -> None:
    report = await (await another_flow(settings)).refresh()
    client = await client_of(settings)
    readiness, found, seen = (await client.get(READY)).json(), await collect(settings), await scrape(client)
    assert found.last_refresh is not None
    assert report.generation == readiness["last_refresh"]["generation"] == found.last_refresh["generation"]
    assert report.entries == found.last_refresh["entries"] == seen.value("generation_entries")
    assert not found.late
    assert found.worker == START_WORKER
    assert START_WORKER.startswith(readiness["worker"]["detail"])
    assert (seen.value("queue_up"), seen.value("worker_up")) == (1, 0)
