"""The statistics as a client of the API sees them."""

import asyncio
import re
from datetime import UTC, datetime

import asyncpg
import httpx
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.integration.http_client import STATISTICS, get


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
