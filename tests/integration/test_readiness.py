"""Readiness, when Redis or Postgres is down or hangs."""

import asyncio
import time

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.database.pool import LOCK_CLASS
from chat_stats.service.rollup.connection import UPKEEP_LOCK
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import RedisServer
from tests.integration.conftest import OpenClient, OpenFlow

READY = "http://test/health/ready"
ALL_DOWN = {
    "redis_url": SecretStr("redis://127.0.0.1:1/0"),
    "database_url": SecretStr("postgresql://x@127.0.0.1:1/x"),
}


async def test_a_process_that_can_answer_from_memory_is_ready_although_all_else_is_down(
    settings: Settings, gateway: asyncpg.Connection, client_of: OpenClient, another_flow: OpenFlow
) -> None:
    known = (await (await another_flow(settings)).stats.read(Query("counts"))).entry
    client = await client_of(settings.model_copy(update=ALL_DOWN))
    assert (await client.get(READY)).status_code == 503
    app = _app(client)
    app.state.services.stats._local.put(Query("counts").key(), known)
    await app.state.services.health.close()  # which forgets the result
    response = await client.get(READY)
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert (await client.get("/chat-requests/counts")).status_code == 200


async def test_readiness_waits_once_for_a_redis_that_hangs(
    settings: Settings, gateway: asyncpg.Connection, client_of: OpenClient, hanging_redis: str
) -> None:
    hanging = {"redis_url": SecretStr(hanging_redis), "redis_timeout_seconds": 1.5}
    client = await client_of(settings.model_copy(update=hanging))
    started = time.monotonic()
    body = (await client.get(READY)).json()
    assert time.monotonic() - started < 2.8
    assert (body["status"], body["redis"]["ok"], body["worker"]["ok"]) == ("degraded", False, False)


@pytest.mark.parametrize(
    ("user", "address", "trouble"),
    [
        ("", "127.0.0.1:1/0", "does not answer: nothing listens there"),
        ("", "redis.invalid/0", "does not answer: its host name is not known"),
        ("unknown:secret@", "{redis}/0", "refuses the user or the password"),
        ("", "{redis}/99", "has no database of that number"),
        ("stranger:secret@", "{redis}/0", "does not permit that to this user"),
    ],
)
async def test_it_says_why_redis_cannot_be_used(
    settings: Settings, redis: RedisServer, client_of: OpenClient, user: str, address: str, trouble: str
) -> None:
    admin = Redis(port=redis.port)
    await admin.acl_setuser(
        "stranger", enabled=True, passwords=["+secret"], keys=["other:*"], categories=["+@all"]
    )
    await admin.aclose()
    url = f"redis://{user}{address.format(redis=f'127.0.0.1:{redis.port}')}"
    # Long enough that a busy machine causes no time-out.
    mistaken = {"redis_url": SecretStr(url), "redis_timeout_seconds": 10}
    body = (await (await client_of(settings.model_copy(update=mistaken))).get(READY)).json()
    for part, server in (("redis", "Redis"), ("worker", "the queue's Redis")):
        assert body[part]["ok"] is False
        assert body[part]["detail"].startswith(f"{server} {trouble}")  # in a container, with a hint


@pytest.mark.parametrize(
    ("parameters", "trouble"),
    [
        ("?sslmode=require", "it has no TLS, which sslmode asks for"),
        (
            "?sslmode=verify-full&sslrootcert=/none",
            "a socket or certificate file that the URL names is missing",
        ),
        (
            "?flavour=1",
            'it does not know a parameter of the URL (unrecognized configuration parameter "flavour")',
        ),
    ],
)
async def test_it_says_why_postgres_cannot_be_used(
    settings: Settings, client_of: OpenClient, parameters: str, trouble: str
) -> None:
    url = SecretStr(settings.database_url.get_secret_value() + parameters)
    body = (await (await client_of(settings.model_copy(update={"database_url": url}))).get(READY)).json()
    assert body["postgres"] == {"ok": False, "detail": f"the database cannot be reached: {trouble}"}


def _app(client: httpx.AsyncClient) -> FastAPI:
    return client._transport.app  # type: ignore[attr-defined]


async def test_a_role_without_rights_that_holds_the_lock_of_upkeep_is_named(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, database_url: str
) -> None:
    name = f"holder_of_{await gateway.fetchval('SELECT current_database()')}"
    await gateway.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'holder'")
    holder = await asyncpg.connect(database_url, user=name, password="holder")
    await holder.execute(f"SELECT pg_advisory_lock({LOCK_CLASS}, {UPKEEP_LOCK})")
    rollup = (await client.get(READY)).json()["rollup"]
    assert not rollup["ok"]
    assert name in rollup["detail"]
    await holder.execute("SELECT pg_advisory_unlock_all()")
    async with asyncio.timeout(10):  # readiness may be kept for a moment
        while not (await client.get(READY)).json()["rollup"]["ok"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await holder.close()
    await gateway.execute(f"DROP ROLE {name}")
