"""The API as a client sees it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory, make_settings
from tests.integration.conftest import OpenClient

STATISTICS = [
    "/chat-requests/providers",
    "/chat-requests/models",
    "/chat-requests/models?provider_id=1",
    "/chat-requests/models/1",
    "/chat-requests/counts",
    "/chat-requests/summary",
    "/chat-requests/timeseries?bucket=1mo&group_by=model&timezone=Asia/Kathmandu",
]


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_providers(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, "/chat-requests/providers")
    assert body["success"] is True
    assert body["data"][0] == {
        "provider_id": 1,
        "name": "One",
        "slug": "one",
        "models_with_requests": 2,
        "total_requests": 5,
        "successful_requests": 4,
        "failed_requests": 1,
        "pending_requests": 0,
        "success_rate": 0.8,
        "total_input_tokens": 65,
        "total_output_tokens": 6,
        "total_tokens": 71,
        "avg_processing_time_ms": 162.75,  # (100 + 200 + 301 + 50) / 4
        "p50_processing_time_ms": 100.31,  # that of 100: 1.04^118 / 1.02
        "p90_processing_time_ms": 300.79,
        "p95_processing_time_ms": 300.79,
        "p99_processing_time_ms": 300.79,
        "total_cost_usd": 0.75,
    }
    assert [(row["name"], row["total_requests"]) for row in body["data"]] == [("One", 5), ("Two", 1)]
    assert body["metadata"]["total_providers"] == 2


async def test_models(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, "/chat-requests/models")
    assert [row["model_identifier"] for row in body["data"]] == ["alpha", "one/beta", "gamma"]
    assert body["data"][0] == {
        "model_id": 1,
        "model_identifier": "alpha",
        "model_name": "Alpha",
        "provider_model_id": "one/alpha",
        "provider": {"id": 1, "name": "One", "slug": "one"},
        "stats": {
            "total_requests": 3,
            "successful_requests": 2,
            "failed_requests": 1,
            "pending_requests": 0,
            "success_rate": 0.6667,
            "total_input_tokens": 60,
            "total_output_tokens": 6,
            "total_tokens": 66,
            "avg_processing_time_ms": 200.33,
            # 200 is in bin 136, 301 in bin 146: 1.04^136 / 1.02, 1.04^146 / 1.02
            "p50_processing_time_ms": 203.2,
            "p90_processing_time_ms": 300.79,
            "p95_processing_time_ms": 300.79,
            "p99_processing_time_ms": 300.79,
            "total_cost_usd": 0.75,
        },
    }
    assert body["metadata"]["total_models"] == 3


async def test_models_of_a_provider(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, "/chat-requests/models?provider_id=2")
    assert [row["model_id"] for row in body["data"]] == [3]


@pytest.mark.parametrize("provider_id", ["3", "424242", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"])
async def test_a_provider_without_requests_has_an_empty_list(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, provider_id: str
) -> None:
    body = await get(client, f"/chat-requests/models?provider_id={provider_id}")
    assert (body["data"], body["metadata"]["total_models"]) == ([], 0)
    assert body["metadata"]["method"] == "rpc"


async def test_one_model(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, "/chat-requests/models/2")
    assert body["data"]["stats"] == {
        "total_requests": 2,
        "successful_requests": 2,
        "failed_requests": 0,
        "pending_requests": 0,
        "success_rate": 1.0,
        "total_input_tokens": 5,
        "total_output_tokens": 0,
        "total_tokens": 5,
        "avg_processing_time_ms": 50.0,
        "p50_processing_time_ms": 49.51,  # 1.04^100 / 1.02
        "p90_processing_time_ms": 49.51,
        "p95_processing_time_ms": 49.51,
        "p99_processing_time_ms": 49.51,
        "total_cost_usd": 0.0,
    }


async def test_a_model_without_requests_has_zeros(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    body = await get(client, "/chat-requests/models/4")
    assert set(body["data"]["stats"].values()) == {0}
    assert body["data"]["model_name"] == "Unused"


@pytest.mark.parametrize("model_id", ["424242", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"])
async def test_an_unknown_model_is_not_found(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, model_id: str
) -> None:
    response = await client.get(f"/chat-requests/models/{model_id}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_counts(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, "/chat-requests/counts")
    assert body["data"][0] == {
        "model_id": 1,
        "model_name": "Alpha",
        "model_identifier": "alpha",
        "provider_name": "One",
        "provider_slug": "one",
        "request_count": 3,
    }
    assert (body["metadata"]["total_models"], body["metadata"]["total_requests"]) == (3, 6)


async def test_summary(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, "/chat-requests/summary")
    assert body["data"] == {
        "total_requests": 6,
        "successful_requests": 5,
        "failed_requests": 1,
        "pending_requests": 0,
        "success_rate": 0.8333,
        "total_input_tokens": 72,
        "total_output_tokens": 14,
        "total_tokens": 86,
        "avg_processing_time_ms": 132.2,  # (100 + 200 + 301 + 50 + 10) / 5
        "p50_processing_time_ms": 100.31,  # that of 100: 1.04^118 / 1.02
        "p90_processing_time_ms": 300.79,
        "p95_processing_time_ms": 300.79,
        "p99_processing_time_ms": 300.79,
        "total_cost_usd": 1.75,
    }
    assert body["metadata"]["unavailable"] == []


async def test_cost_is_unavailable_where_the_column_is_missing(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("ALTER TABLE chat_completion_requests DROP COLUMN cost_usd")
    body = await get(client, "/chat-requests/summary")
    assert body["data"]["total_cost_usd"] == 0
    assert body["metadata"]["unavailable"] == ["total_cost_usd"]
    assert body["metadata"]["method"] == "rpc"


async def test_a_window_and_a_range_narrow_the_numbers(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    day = await get(client, "/chat-requests/summary?window=24h")
    year = await get(client, "/chat-requests/summary?start_date=2020-01-01&end_date=2020-01-01")
    assert day["data"]["total_requests"] == 5
    assert day["metadata"]["window"] == "24h"
    assert year["data"]["total_requests"] == 1
    assert year["metadata"]["window"] is None
    assert year["metadata"]["start_date"] == "2020-01-01T00:00:00Z"
    assert year["metadata"]["end_date"] == "2020-01-02T00:00:00Z"


@pytest.mark.parametrize("path", STATISTICS)
async def test_metadata_states_method_cache_and_age(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, path: str
) -> None:
    miss = (await get(client, path))["metadata"]
    await asyncio.sleep(0.05)
    hit = (await get(client, path))["metadata"]
    assert (miss["cache"], hit["cache"]) == ("miss", "hit")
    assert miss["method"] == hit["method"] == "rpc"
    assert hit["cache_age_seconds"] > miss["cache_age_seconds"] >= 0
    assert hit["computed_at"] == miss["computed_at"]
    assert hit["generation"] == miss["generation"]
    assert hit["timestamp"] > miss["timestamp"]
    moments = [datetime.fromisoformat(hit[name]) for name in ("computed_at", "timestamp")]
    assert abs((moments[1] - moments[0]).total_seconds() - hit["cache_age_seconds"]) < 0.01
    assert all(moment.tzinfo == UTC for moment in moments)


@pytest.mark.parametrize("path", STATISTICS)
async def test_the_body_is_what_its_schema_says(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, path: str
) -> None:
    response = await client.get(path)
    name = "model" if path.endswith("/models/1") else re.split(r"[/?]", path)[2]
    AGGREGATIONS[name].answer.model_validate_json(response.content)


async def test_an_empty_database_gives_empty_answers_and_not_errors(client: httpx.AsyncClient) -> None:
    for path in ("providers", "models", "counts"):
        body = await get(client, f"/chat-requests/{path}")
        assert (body["data"], body["metadata"]["method"]) == ([], "rpc")
    body = await get(client, "/chat-requests/summary")
    assert set(body["data"].values()) == {0}
    assert body["metadata"]["unavailable"] == []


async def test_the_error_names_a_database_without_the_tables(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("DROP TABLE chat_completion_requests")
    response = await client.get("/chat-requests/counts")
    assert response.status_code == 503
    assert "chat_completion_requests" in response.json()["detail"]
    assert int(response.headers["retry-after"]) > 0
    ready = (await client.get("http://test/health/ready")).json()
    assert "chat_completion_requests" in ready["postgres"]["detail"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("counts?window=1y", "window"),
        ("counts?window=", "window"),
        ("summary?window=24h&start_date=2026-01-01", "window"),
        ("providers?start_date=yesterday", "start_date"),
        ("providers?end_date=2026-02-30", "end_date"),
        ("models?start_date=2026-02-01&end_date=2026-01-01", "start_date"),
        ("models?provider_id=-1", "provider_id"),
        ("models?provider_id=99999999999999999999", "provider_id"),
        ("models?provider_id=", "provider_id"),
        ("models?provider_id='; DROP TABLE models; --", "provider_id"),
        ("models/-1", "model_id"),
        ("models/99999999999999999999", "model_id"),
        ("models/abc", "model_id"),
        ("models/%00", "model_id"),
        ("timeseries?window=1y", "window"),
        ("timeseries?model_id=abc", "model_id"),
        ("timeseries?provider_id=-1", "provider_id"),
        ("timeseries?start_date=2026-02-01&end_date=2026-01-01", "start_date"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    response = await client.get(f"/chat-requests/{query}")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["success"], problem["parameter"], problem["status"]) == (False, parameter, 422)


async def test_an_unknown_path_is_a_problem_too(client: httpx.AsyncClient) -> None:
    response = await client.get("/chat-requests/nothing/here")
    assert response.status_code == 404
    assert response.json()["success"] is False


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


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/chat-requests/counts", "GET, HEAD"),
        ("OPTIONS", "/chat-requests/models/1", "GET, HEAD"),
        ("GET", "/refresh", "POST"),
        ("DELETE", "http://test/health", "GET, HEAD"),
    ],
)
async def test_a_405_names_the_methods_of_its_path(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.headers["content-type"] == "application/problem+json"


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
    monkeypatch.setattr("chat_stats.service.routes.health.LOOK_SECONDS", 0.5)
    client = await client_of(settings)
    looks = []
    checked = Database.checked

    @asynccontextmanager
    async def counted(database: Database) -> AsyncIterator[Snapshot]:
        looks.append(database)
        async with checked(database) as snapshot:
            yield snapshot

    monkeypatch.setattr(Database, "checked", counted)
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


async def test_an_unexpected_error_reveals_no_internals(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.stats.compute", None)
    response = await client.get("/chat-requests/counts")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "NoneType" not in response.text


async def test_an_edge_where_requests_were_purged_is_exact_to_15_minutes_and_says_so(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await Rollup(gateway).enable(lambda _done: None)
    path = "/chat-requests/summary?start_date=2020-01-01T00:00:00&end_date=2020-01-01T00:07:00"
    assert "precision" not in (await get(client, path))["metadata"]
    await Retention(gateway).purge(datetime(2020, 1, 2, tzinfo=UTC), lambda _done: None)
    path = path.replace("00:07", "00:05")
    for method in ("rpc", "fallback_optimized"):
        body = await get(client, path)
        assert (body["metadata"]["method"], body["metadata"]["precision"]) == (method, "15m")
        assert body["data"]["total_requests"] == 1
        assert (await get(client, path))["metadata"]["precision"] == "15m"  # from the cache
        for exact in ("?window=all", "?start_date=2020-01-01&end_date=2020-01-02", "?window=1h"):
            body = await get(client, f"/chat-requests/counts{exact}")
            assert "precision" not in body["metadata"]
            assert body["metadata"]["total_requests"] == {"?window=all": 6, "?window=1h": 5}.get(exact, 1)
        await gateway.execute("DROP FUNCTION IF EXISTS get_chat_request_summary")
        path = path.replace("00:05", "00:06")
