"""What the API refuses, and what it says then."""

import asyncpg
import httpx
import pytest

from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient
from tests.integration.http_client import STATISTICS, get


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


async def test_an_unknown_parameter_is_named_beside_the_known_ones_and_never_ignored(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(admin_token="let-me-in"))
    paths = (await client.get("http://test/openapi.json")).json()["paths"]
    asked = []
    for path, operations in paths.items():
        if not path.startswith("/api/monitoring/"):
            continue
        method, operation = next(iter(operations.items()))
        known = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        response = await client.request(
            method,
            f"http://test{path.format(model_id=1)}?_=1&modle_id=1",
            headers={"Authorization": "Bearer let-me-in"},
        )
        problem = response.json()
        assert (response.status_code, problem["parameter"]) == (422, "modle_id"), path
        named = problem["detail"].removeprefix("unknown parameter 'modle_id'; known: ").split(", ")
        assert sorted(named) == sorted(known or ["none"]), path
        asked.append(path)
    assert len(asked) >= 9


async def test_a_cache_buster_changes_nothing(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    for path in (*STATISTICS, "/chat-requests", "/chat-requests/plot-data"):
        plain, busted = [
            (await get(client, f"{path}{end}"))["data"]
            for end in ("", f"{'&' if '?' in path else '?'}_=1764198000000")
        ]
        assert busted == plain, path


@pytest.mark.parametrize("query", ["aggregation=models&aggregation=counts", "window=24h&window=7d&_=1"])
async def test_what_may_be_repeated_is_not_refused(
    client_of: OpenClient, settings_with: SettingsFactory, query: str
) -> None:
    client = await client_of(settings_with(admin_token="let-me-in"))
    headers = {"Authorization": "Bearer let-me-in"}
    assert (await client.post(f"/refresh?{query}", headers=headers)).status_code == 202
    refused = await client.post("/refresh?wait=true&wait=false", headers=headers)
    assert (refused.status_code, refused.json()["parameter"]) == (422, "wait")


async def test_a_slash_at_the_end_is_redirected_after_the_key_check_and_to_no_other_host(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(api_keys="reader"))
    key = {"X-API-Key": "reader", "Host": "evil.example"}
    for path, location in (
        ("/chat-requests/summary/?window=24h&_=1", "../summary?window=24h&_=1"),
        ("/chat-requests/models/1/", "../models/1"),
        ("/chat-requests/", "../chat-requests"),
        ("/chat-requests/models/javascript:alert(1)/", "../javascript%3Aalert%281%29"),
    ):
        assert (await client.get(path, headers={"Host": "evil.example"})).status_code == 401
        for method in ("GET", "HEAD"):
            response = await client.request(method, path, headers=key)
            assert response.status_code == 307
            assert "evil" not in str(response.headers)
            assert response.headers["location"] == location.replace("models/1", "1")
    followed = await client.get(
        "/chat-requests/models/1/?window=all", headers={"X-API-Key": "reader"}, follow_redirects=True
    )
    assert followed.json()["data"]["model_id"] == 1
    assert (await client.get("http://test/health/", follow_redirects=True)).json() == {"status": "ok"}
    for path in ("/chat-requests//", "/nothing/", "//evil.example/", "/chat-requests/summary//"):
        assert (await client.get(path, headers=key)).status_code == 404


async def test_the_database_s_own_words_go_to_the_log_and_not_to_clients(
    client_of: OpenClient,
    settings_with: SettingsFactory,
    gateway: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await gateway.execute(
        "ALTER TABLE chat_completion_requests RENAME TO requests;"
        "CREATE VIEW chat_completion_requests AS "
        "SELECT * FROM requests WHERE pg_read_file('/srv/secret/place') IS NOT NULL"
    )
    client = await client_of(settings_with())
    for path in (
        *STATISTICS,
        "/chat-requests",
        "/chat-requests?format=csv",
        "/chat-requests/plot-data",
        "http://test/health/ready",
    ):
        caplog.clear()
        response = await client.get(path)
        assert "secret" not in response.text, path
        if "health" not in path:
            assert response.status_code == 503
            assert response.json()["detail"].endswith("; the log of chat-stats has the database's error"), (
                path
            )
            assert "/srv/secret/place" in caplog.text, path


async def test_an_unknown_path_is_a_problem_too(client: httpx.AsyncClient) -> None:
    response = await client.get("/chat-requests/nothing/here")
    assert response.status_code == 404
    assert response.json()["success"] is False


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


async def test_an_unexpected_error_reveals_no_internals(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.stats.compute", None)
    response = await client.get("/chat-requests/counts")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "NoneType" not in response.text
