"""Filters, order and limit of the statistics as a client sees them."""

from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.row_pages import cursor_of
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient

BASE = "/chat-requests"
#: What the worker keeps, and what is computed when it is asked for.
RANGES = ["window=all", "start_date=2000-01-01"]


@pytest.fixture
async def client(client_of: OpenClient, settings_with: SettingsFactory) -> httpx.AsyncClient:
    return await client_of(settings_with(windows="all", local_cache_seconds=60))


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(BASE + path)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


SUMMARIES = [
    ("", 6),
    ("model_id=1", 3),
    ("model_id=4", 0),
    ("model_id=424242", 0),
    ("provider_id=1", 5),
    ("provider_id=3", 0),
    ("model_name=ALPH", 3),
    ("model_name=", 6),
    ("model_name=_", 0),
    ("model_name=mm", 1),
    ("provider_id=1&model_name=a", 5),
    ("provider_id=2&model_name=alpha", 0),
    ("provider_id=2&model_id=1", 0),
]


@pytest.mark.parametrize("range_", RANGES)
async def test_a_filter_holds_for_every_statistic(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, range_: str
) -> None:
    for query, requests in SUMMARIES:
        summary = await get(client, f"/summary?{range_}&{query}")
        counts = await get(client, f"/counts?{range_}&{query}")
        models = await get(client, f"/models?{range_}&{query}")
        providers = await get(client, f"/providers?{range_}&{query}")
        totals = [
            summary["data"]["total_requests"],
            counts["metadata"]["total_requests"],
            sum(row["request_count"] for row in counts["data"]),
            sum(row["stats"]["total_requests"] for row in models["data"]),
            sum(row["total_requests"] for row in providers["data"]),
        ]
        assert totals == [requests] * 5, query
        assert models["metadata"]["total_models"] == counts["metadata"]["total_models"] == len(models["data"])
        assert providers["metadata"]["total_providers"] == len(providers["data"])
    alpha = (await get(client, f"/summary?{range_}&model_id=1"))["data"]
    stats = (await get(client, "/models/1"))["data"]["stats"]
    assert {name: value for name, value in alpha.items() if name in stats} == stats
    assert (await get(client, f"/providers?{range_}&model_id=2"))["data"][0]["models_with_requests"] == 1


@pytest.mark.parametrize("range_", RANGES)
async def test_rows_come_in_the_order_asked_for(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, range_: str
) -> None:
    async def ids(path: str, name: str = "model_id") -> list[int]:
        return [row[name] for row in (await get(client, f"{path}&{range_}"))["data"]]

    assert await ids("/models?order_by=total_tokens") == [2, 3, 1]
    assert await ids("/models?order_by=-total_tokens&limit=2") == [1, 3]
    assert await ids("/models?order_by=-p99_processing_time_ms&provider_id=1") == [1, 2]
    assert await ids("/models?limit=1") == [1]
    assert await ids("/counts?order_by=request_count&limit=2") == [3, 2]
    assert await ids("/providers?order_by=total_requests", "provider_id") == [2, 1]
    assert await ids("/providers?order_by=-models_with_requests&limit=1", "provider_id") == [1]
    body = await get(client, f"/models?limit=1&{range_}")
    assert body["metadata"]["total_models"] == 3
    assert (await get(client, f"/counts?limit=1&{range_}"))["metadata"]["total_requests"] == 6


@pytest.mark.parametrize("range_", RANGES)
@pytest.mark.parametrize(
    "target", ["/models?", "/models?order_by=-total_tokens&", "/providers?order_by=success_rate&", "/counts?"]
)
async def test_pages_have_each_row_once_and_the_last_has_no_cursor(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, target: str, range_: str
) -> None:
    whole = await get(client, f"{target}{range_}")
    rows, cursor = [], ""
    while cursor is not None:
        page = await get(client, f"{target}{range_}&limit=1{cursor and f'&cursor={cursor}'}")
        rows += page["data"]
        cursor = page["metadata"]["next_cursor"]
    assert rows == whole["data"]
    assert whole["metadata"]["next_cursor"] is None


async def test_equal_rows_keep_the_order_that_they_have_by_default(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("UPDATE chat_completion_requests SET processing_time_ms = 5")
    await gateway.execute("INSERT INTO chat_completion_requests (model_id, created_at) VALUES (4, now())")
    for order in ("p50_processing_time_ms", "-p50_processing_time_ms"):
        rows = (await get(client, f"/models?order_by={order}&provider_id=1"))["data"]
        assert [row["model_id"] for row in rows] == [1, 2]
    rows = (await get(client, "/counts?order_by=request_count"))["data"]
    assert [row["model_id"] for row in rows] == [3, 4, 2, 1]


NO_FILTERS = Query("models").filters_digest
OF_COUNTS = cursor_of({"model_id": 1, "request_count": 3}, "-request_count", NO_FILTERS)
OF_MODELS = cursor_of({"model_id": 1, "stats": {"total_requests": 3}}, "-total_requests", NO_FILTERS)
REFUSED = [
    ("/models?cursor=abc", "cursor", "next_cursor"),
    ("/models?cursor=%00", "cursor", "next_cursor"),
    (f"/models?cursor={OF_COUNTS}", "cursor", "next_cursor"),
    (f"/counts?cursor={OF_MODELS}", "cursor", "next_cursor"),
    (f"/models?cursor={OF_MODELS}&status=failed", "cursor", "next_cursor"),
    (f"/models?cursor={OF_MODELS}&model_name=a", "cursor", "next_cursor"),
    ("/models?cursor=W1tdLDEsIjEiXQ", "cursor", "next_cursor"),
    ("/models?order_by=price", "order_by", "total_tokens"),
    ("/models?order_by=", "order_by", "total_tokens"),
    ("/models?order_by=--total_tokens", "order_by", "total_tokens"),
    ("/models?order_by=model_name", "order_by", "total_tokens"),
    ("/providers?order_by=total_models", "order_by", "models_with_requests"),
    ("/counts?order_by=total_requests", "order_by", "request_count"),
    ("/models?limit=0", "limit", "from 1 to 100000"),
    ("/models?limit=ten", "limit", "from 1 to 100000"),
    ("/models?offset=10", "offset", "known: "),
    ("/summary?order_by=total_requests", "order_by", "end_date, model_name, provider_id, model_id, status"),
    ("/summary?limit=1", "limit", "end_date, model_name, provider_id, model_id, status"),
    ("/summary?model_id=gpt-4", "model_id", "UUID"),
    ("/providers?model_name=%00", "model_name", "NUL"),
    ("/models/1?model_name=a", "model_name", "known: window"),
    ("/models/1?model_id=2", "model_id", "known: window"),
    ("/models/1?user_id=a", "user_id", "not_status"),
    ("/summary?user_id=a", "user_id", "not_status"),
    ("/timeseries?group_by=user_id", "group_by", "none, provider, model, provider_id"),
    ("/timeseries?group_by=model_name", "group_by", "error_kind"),
    ("/timeseries?model_name=%00", "model_name", "NUL"),
    ("/timeseries?name=gpt", "name", "model_name"),
]


async def test_what_cannot_be_filtered_or_ordered_by_is_named_with_what_can(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    for path, parameter, known in REFUSED:
        response = await client.get(BASE + path)
        assert (response.status_code, response.json().get("parameter")) == (422, parameter), path
        assert known in response.json()["detail"], path


@pytest.mark.parametrize("range_", RANGES)
async def test_filtered_answers_are_hits_with_an_etag(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, range_: str
) -> None:
    fast_path = client._transport.app.state.services.fast_path  # type: ignore[attr-defined]
    for path in (
        f"/summary?model_id=1&{range_}",
        f"/counts?model_name=alp&{range_}",
        f"/providers?provider_id=1&{range_}",
        f"/models?order_by=-total_tokens&limit=2&{range_}",
    ):
        first = await client.get(BASE + path)
        again = await client.get(BASE + path)
        assert again.headers["cache-status"].startswith("chat-stats; hit"), path
        assert again.json()["data"] == first.json()["data"]
        assert again.headers["etag"] == first.headers["etag"]
        same = await client.get(BASE + path, headers={"If-None-Match": first.headers["etag"]})
        assert same.status_code == 304
        name, _, query_string = path.partition("?")
        target = fast_path._targets[f"/api/monitoring{BASE}{name}", query_string.encode(), ()]
        assert fast_path._stats.recent(target.key) is not None


async def test_filters_by_dimension_make_an_answer_of_its_own(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("UPDATE chat_completion_requests SET user_id = 'u' || model_id")
    settings = settings_with(windows="all", local_cache_seconds=60, dimensions="user_id")
    client = await client_of(settings)
    for path in ("/summary", "/counts", "/models", "/providers", "/models/1", "/timeseries"):
        whole = await get(client, path)
        found = await get(client, f"{path}?user_id=u1&status!=failed&user_id=u9")
        again = await get(client, f"{path}?user_id=u9&user_id=u1&not_status=failed")
        assert [each["metadata"]["cache"] for each in (found, again)] == ["miss", "hit"], path
        assert again["data"] == found["data"] != whole["data"]
        assert (found["metadata"]["source"], found["metadata"]["method"]) == ("scan", "query")
        assert found["metadata"]["incomplete_before"] is None
        by = {
            "/summary": "user_id,status",
            "/timeseries": "user_id,status",
            "/models/1": "model_id,user_id,status",  # the fewest values first
        }.get(path, "user_id,model_id,status")
        command = f"chat-stats rollup add {by.replace(',', '_')} --by {by}"
        assert found["metadata"]["suggested_rollup"] == command, path
        assert "source" not in whole["metadata"]
        AGGREGATIONS[PATHS[path]].answer.model_validate_json(orjson.dumps(found))
    assert (await get(client, "/summary?user_id=u1&status!=failed"))["data"]["total_requests"] == 2
    assert (await get(client, "/summary?status=__null__"))["data"]["total_requests"] == 0


PATHS = {
    "/summary": "summary", "/counts": "counts", "/models": "models", "/providers": "providers",
    "/models/1": "model", "/timeseries": "timeseries",
}  # fmt: skip


async def test_several_models_are_asked_for_by_repeating_the_parameter(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    both = await get(client, "/models?model_id=1&model_id=2")
    assert {row["model_id"] for row in both["data"]} == {1, 2}
    first = await get(client, "/models?model_id=1&model_id=2&order_by=total_tokens&limit=1")
    assert [row["model_id"] for row in first["data"]] == [2]
    assert first["metadata"]["total_models"] == 2
    assert first["metadata"]["source"] == both["metadata"]["source"] == "scan"
    assert first["metadata"]["method"] == "rpc"
    # One model, however often it is named, is cut from the answer about all.
    once = await get(client, "/models?model_id=1&model_id=1")
    assert once["data"] == (await get(client, "/models?model_id=1"))["data"]
    assert "source" not in once["metadata"]
    others = await get(client, "/summary?provider_id!=1")
    none = await get(client, "/summary?provider_id=unresolved")
    assert (others["data"]["total_requests"], none["data"]["total_requests"]) == (1, 0)
