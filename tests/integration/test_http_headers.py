"""Headers, keys, readiness and the refresh over HTTP, as a client sees them."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory, make_settings
from tests.integration.conftest import OpenClient


async def test_the_etag_is_the_same_until_the_numbers_change(
    client: httpx.AsyncClient,
    gateway: asyncpg.Connection,
    client_of: OpenClient,
    settings_with: SettingsFactory,
) -> None:
    first = await client.get("/chat-requests/counts")
    other = await (await client_of(settings_with())).get("/chat-requests/counts")
    assert first.headers["etag"] == other.headers["etag"]
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    changed = await (await client_of(settings_with())).get("/chat-requests/counts")
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("pattern", ["{etag}", '"other", {etag}', "*"])
async def test_a_matching_if_none_match_gets_a_304_without_a_body(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, pattern: str
) -> None:
    etag = (await client.get("/chat-requests/counts")).headers["etag"]
    header = {"If-None-Match": pattern.format(etag=etag)}
    response = await client.get("/chat-requests/counts", headers=header)
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag


async def test_headers_state_age_and_cache(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    miss = await client.get("/chat-requests/counts")
    hit = await client.get("/chat-requests/counts")
    assert miss.headers["cache-status"] == "chat-stats; fwd=miss; stored"
    assert hit.headers["cache-status"].startswith("chat-stats; hit; ttl=")
    assert hit.headers["age"] == "0"
    assert "stale-while-revalidate=" in hit.headers["cache-control"]
    assert "stale-if-error=" in hit.headers["cache-control"]


async def test_reading_needs_a_key_if_keys_are_set(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(api_keys="first, second"))
    statuses = {}
    keys: dict[str, Any] = {
        "none": {},
        "wrong": {"X-API-Key": "third"},
        "not latin": {"X-API-Key": "ключ".encode()},
        "header": {"X-API-Key": "first"},
        "bearer": {"Authorization": "Bearer second"},
        "basic": {"Authorization": "Basic second"},
    }
    for name, headers in keys.items():
        response = await client.get("/chat-requests/counts", headers=headers)
        statuses[name] = response.status_code
        if response.status_code == 401:
            assert response.headers["www-authenticate"] == "Bearer"
    assert statuses == {
        "none": 401,
        "wrong": 401,
        "not latin": 401,
        "header": 200,
        "bearer": 200,
        "basic": 401,
    }
    assert (await client.get("http://test/health")).status_code == 200


async def test_head_has_the_headers_of_get_and_no_body(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    for _ in range(2):  # the route, then the fast path
        head = await client.head("/chat-requests/counts")
        body = await client.get("/chat-requests/counts")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.keys() == body.headers.keys()
        assert abs(int(head.headers["content-length"]) - len(body.content)) <= 5
    assert (await client.head("http://test/health")).status_code == 200


async def test_readiness_is_looked_at_once_a_second_however_many_ask(
    settings: Settings, gateway: asyncpg.Connection, client_of: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.health.LOOK_SECONDS", 0.5)
    client = await client_of(settings)
    looks = []
    check_tables = Database.check_tables

    async def counted(database: Database, snapshot: Snapshot) -> None:
        looks.append(database)
        await check_tables(database, snapshot)

    monkeypatch.setattr(Database, "check_tables", counted)
    url = "http://test/health/ready"
    answers = await asyncio.gather(*(client.get(url) for _ in range(20)))
    assert len({answer.text for answer in answers}) == len(looks) == 1
    await asyncio.sleep(0.6)
    await client.get(url)
    assert len(looks) == 2


async def test_refreshing_over_http_is_off_without_a_token(client: httpx.AsyncClient) -> None:
    response = await client.post("/refresh")
    assert response.status_code == 404
    assert "CHAT_STATS_ADMIN_TOKEN" in response.json()["detail"]


async def test_refreshing_over_http_needs_the_token_and_known_names(
    client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(admin_token="let-me-in", api_keys="reader"))
    assert (await client.post("/refresh")).status_code == 401
    assert (await client.post("/refresh", headers={"X-API-Key": "reader"})).status_code == 401
    admin = {"Authorization": "Bearer let-me-in"}
    queued = await client.post("/refresh", headers=admin)
    assert (queued.status_code, queued.json()["data"]["status"]) == (202, "queued")
    for query in ("aggregation=nothing", "window=1y", "wait=perhaps"):
        response = await client.post(f"/refresh?{query}", headers=admin)
        assert response.status_code == 422
        assert response.json()["parameter"] == query.partition("=")[0]


async def test_a_page_of_an_allowed_origin_may_read(
    client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(cors_origins="https://dashboard.example"))
    allowed = await client.get("/chat-requests/counts", headers={"Origin": "https://dashboard.example"})
    other = await client.get("/chat-requests/counts", headers={"Origin": "https://elsewhere.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://dashboard.example"
    assert "access-control-allow-origin" not in other.headers


async def test_readiness_names_what_is_down(
    client_of: OpenClient, database_url: str, settings_with: SettingsFactory
) -> None:
    nothing = await client_of(make_settings("postgresql://x@127.0.0.1:1/x", "redis://127.0.0.1:1/0"))
    response = await nothing.get("http://test/health/ready")
    assert response.status_code == 503
    body = response.json()
    assert body["status"] == "unavailable"
    assert [body[part]["ok"] for part in ("redis", "postgres", "worker")] == [False, False, False]
    assert (await nothing.get("http://test/health")).json() == {"status": "ok"}

    no_redis = await client_of(make_settings(database_url, "redis://127.0.0.1:1/0"))
    body = (await no_redis.get("http://test/health/ready")).json()
    assert (body["status"], body["redis"]["ok"], body["postgres"]["ok"]) == ("degraded", False, True)


async def test_the_openapi_document_describes_every_answer(client: httpx.AsyncClient) -> None:
    document = (await client.get("http://test/openapi.json")).json()
    for aggregation in AGGREGATIONS.values():
        operation = document["paths"][f"/api/monitoring{aggregation.path}"]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema["$ref"].endswith(aggregation.answer.__name__)
        assert {parameter["name"] for parameter in operation["parameters"]} >= {
            "window",
            "start_date",
            "end_date",
        }
        example = document["components"]["schemas"][aggregation.answer.__name__]["examples"][0]
        aggregation.answer.model_validate(example)
