"""/chat-requests/timeseries as a client sees it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenClient

SERIES = "/chat-requests/timeseries"


async def get(client: httpx.AsyncClient, **parameters: str) -> dict[str, Any]:
    response = await client.get(SERIES, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
async def hourly(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A request every half hour of 2026, of models 1 and 2 in turn, both of provider 1."""
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha'), (2, 1, 'Beta');
        INSERT INTO chat_completion_requests (model_id, processing_time_ms, created_at)
        SELECT 1 + n % 2, 10, '2026-01-01T00:00:00Z'::timestamptz + n * interval '30 minutes'
        FROM generate_series(0, 17519) AS n
    """)
    return connection


async def test_the_points_of_two_days_are_the_hand_computed_ones(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Alpha'), (2, 2, 'Beta');
        INSERT INTO chat_completion_requests
            (model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at)
        VALUES
            (2, 10, 1, 100, 'completed', 0.5, '2026-01-01T23:59:59.999999Z'),
            (2, 20, NULL, NULL, 'failed', NULL, '2026-01-02T00:00:00Z'),
            (2, 5, 5, 50, 'completed', 0.25, '2026-01-02T12:00:00Z'),
            (1, 7, 7, 70, 'completed', 0.125, '2026-01-02T13:00:00Z')
    """)
    body = await get(client, start_date="2026-01-01", end_date="2026-01-02", group_by="model")
    names = ("bucket_start", "group_id", "group_name", "total_requests", "failed_requests")
    sums = ("total_input_tokens", "total_output_tokens", "total_tokens", "total_cost_usd")
    first, second = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
    assert [[point[name] for name in (*names, *sums)] for point in body["data"]] == [
        [first, 2, "Beta", 1, 0, 10, 1, 11, 0.5],
        [second, 2, "Beta", 2, 1, 25, 5, 30, 0.25],
        [first, 1, "Alpha", 0, 0, 0, 0, 0, 0],
        [second, 1, "Alpha", 1, 0, 7, 7, 14, 0.125],
    ]
    assert [point["avg_processing_time_ms"] for point in body["data"]] == [100, 50, 0, 70]
    metadata = body["metadata"]
    assert (metadata["bucket"], metadata["timezone"], metadata["group_by"]) == ("1d", "UTC", "model")
    assert (metadata["method"], metadata["unavailable"]) == ("rpc", [])
    by_provider = (await get(client, start_date="2026-01-02", group_by="provider", bucket="1mo"))["data"]
    assert (by_provider[0]["group_id"], by_provider[0]["group_name"]) == (2, "Two")
    of_all = (await get(client, start_date="2026-01-01", end_date="2026-01-02"))["data"]
    assert [(point["group_id"], point["total_requests"]) for point in of_all] == [(None, 1), (None, 3)]


@pytest.mark.parametrize(
    ("zone", "day", "starts", "requests"),
    [
        ("America/New_York", "2026-03-08", ("2026-03-08T00:00:00-05:00", "2026-03-09T00:00:00-04:00"), 46),
        ("America/New_York", "2026-11-01", ("2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"), 50),
        ("Australia/Lord_Howe", "2026-10-04", ("2026-10-04T00:00:00+10:30", "2026-10-05T00:00:00+11:00"), 47),
        ("Australia/Lord_Howe", "2026-04-05", ("2026-04-05T00:00:00+11:00", "2026-04-06T00:00:00+10:30"), 49),
        ("Asia/Kathmandu", "2026-04-05", ("2026-04-05T00:00:00+05:45", "2026-04-06T00:00:00+05:45"), 48),
    ],
)
async def test_a_day_has_the_hours_that_the_calendar_of_its_zone_gives_it(
    client: httpx.AsyncClient,
    hourly: asyncpg.Connection,
    zone: str,
    day: str,
    starts: tuple[str, str],
    requests: int,
) -> None:
    first = datetime.fromisoformat(day).replace(tzinfo=UTC)
    bounds = {
        "start_date": (first - timedelta(days=1)).isoformat(),
        "end_date": (first + timedelta(days=3)).isoformat(),
    }
    for method in ("rpc", "fallback_optimized"):
        body = await get(client, bucket="1d", timezone=zone, **bounds)
        points = {point["bucket_start"]: point["total_requests"] for point in body["data"]}
        assert set(starts) < set(points)
        assert points[starts[0]] == requests
        assert (body["metadata"]["method"], body["metadata"]["timezone"]) == (method, zone)
        await hourly.execute("DROP FUNCTION IF EXISTS get_chat_request_timeseries")
        bounds["end_date"] = (first + timedelta(days=3, seconds=1)).isoformat()


async def test_the_series_narrows_to_a_provider_and_a_model(
    client: httpx.AsyncClient, hourly: asyncpg.Connection
) -> None:
    range_ = {"start_date": "2026-01-01", "end_date": "2026-01-01"}
    counts = {}
    for provider, model in ((None, None), ("1", None), (None, "2"), ("1", "2"), ("2", "2"), (None, "404")):
        narrowed = {"provider_id": provider, "model_id": model}
        parameters = {name: value for name, value in narrowed.items() if value is not None}
        [point] = (await get(client, **range_, **parameters))["data"]
        counts[provider, model] = point["total_requests"]
    assert list(counts.values()) == [48, 48, 24, 24, 0, 0]


@pytest.mark.parametrize("method", ["rpc", "fallback_optimized"])
async def test_the_series_narrows_to_models_whose_name_contains_a_text(
    client: httpx.AsyncClient, hourly: asyncpg.Connection, method: str
) -> None:
    await hourly.execute("UPDATE models SET model_name = 'Beta_100%' WHERE id = 2")
    await hourly.execute("INSERT INTO chat_completion_requests (created_at) VALUES ('2026-01-01T12:00:00Z')")
    if method != "rpc":
        await hourly.execute("DROP FUNCTION get_chat_request_timeseries")
    named = {"": 49, "A": 48, "ALPH": 24, "_100%": 24, "a_p": 0, "%": 24, "a%a": 0}
    found = {}
    for name in named:
        parameters = {"model_name": name, "start_date": "2026-01-01", "end_date": "2026-01-01"}
        body = await get(client, **parameters)
        assert body["metadata"]["method"] == method
        [point] = body["data"]
        found[name] = point["total_requests"]
    assert found == named
    grouped = {"group_by": "model", "start_date": "2026-01-01", "end_date": "2026-01-01"}
    points = (await get(client, **grouped, model_name="beta", provider_id="1"))["data"]
    assert [(point["group_name"], point["total_requests"]) for point in points] == [("Beta_100%", 24)]


async def test_without_a_start_it_begins_with_the_first_request(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    points = (await get(client, bucket="1mo"))["data"]
    assert points[0]["bucket_start"] == "2020-01-01T00:00:00+00:00"
    assert [point["total_requests"] for point in points if point["total_requests"]] == [1, 5]
    assert points[-1]["bucket_start"][:7] == f"{datetime.now(UTC):%Y-%m}"
    points = (await get(client, bucket="1mo", end_date="2020-03-15"))["data"]
    assert [point["total_requests"] for point in points] == [1, 0, 0]
    assert (await get(client, end_date="2019-12-31"))["data"] == []


async def test_an_empty_database_has_no_points_or_empty_ones(client: httpx.AsyncClient) -> None:
    assert (await get(client))["data"] == []
    points = (await get(client, start_date="2026-01-01", end_date="2026-01-07"))["data"]
    assert [point["total_requests"] for point in points] == [0] * 7
    assert (await get(client, window="7d", group_by="model"))["data"] == []


@pytest.mark.parametrize(
    ("parameters", "parameter", "words"),
    [
        ({"bucket": "5m"}, "bucket", ["15m", "1h", "1d", "1w", "1mo"]),
        ({"bucket": ""}, "bucket", ["15m"]),
        ({"group_by": "user"}, "group_by", ["none", "provider", "model"]),
        ({"timezone": "Mars/Olympus"}, "timezone", ["Europe/Berlin"]),
        ({"timezone": "europe/berlin"}, "timezone", ["Europe/Berlin"]),
        ({"timezone": "+02:00"}, "timezone", ["Europe/Berlin"]),
        ({"timezone": "../../etc/passwd"}, "timezone", ["Europe/Berlin"]),
        ({"timezone": ""}, "timezone", ["Europe/Berlin"]),
        ({"window": "90d", "bucket": "15m"}, "bucket", ["8,640", "5,000"]),
        ({"start_date": "2000-01-01", "bucket": "1h"}, "bucket", ["5,000"]),
        ({"start_date": "0001-01-01"}, "start_date", ["1900"]),
        ({"start_date": "2026-01-01", "end_date": "9999-12-31"}, "end_date", ["2200"]),
        ({"start_date": "1950-01-01", "end_date": "2150-01-01"}, "bucket", ["5,000"]),
    ],
)
async def test_an_invalid_parameter_is_named_with_its_valid_values(
    client: httpx.AsyncClient, parameters: dict[str, str], parameter: str, words: list[str]
) -> None:
    response = await client.get(SERIES, params=parameters)
    assert response.status_code == 422
    problem = response.json()
    assert problem["parameter"] == parameter
    assert [word for word in words if word not in problem["detail"]] == []


async def test_too_many_buckets_since_the_first_request_are_refused(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    response = await client.get(SERIES, params={"bucket": "1h"})
    assert (response.status_code, response.json()["parameter"]) == (422, "bucket")
    assert "from 2020-01-01" in response.json()["detail"]
    await gateway.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, '0044-03-15 00:00:00+00 BC')"
    )
    response = await client.get(SERIES, params={"bucket": "1mo"})
    assert (response.status_code, response.json()["parameter"]) == (422, "start_date")
    await gateway.execute("DROP FUNCTION chat_stats_first_moment")
    response = await client.get(SERIES, params={"bucket": "1w"})
    assert (response.status_code, response.json()["parameter"]) == (422, "start_date")


@pytest.mark.parametrize("trouble", ["SELECT", "DROP FUNCTION get_chat_request_timeseries"])
async def test_too_many_points_are_refused(
    client: httpx.AsyncClient, connection: asyncpg.Connection, trouble: str
) -> None:
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
        INSERT INTO models (id, provider_id, model_name)
            SELECT n, 1, 'M' || n FROM generate_series(1, 60) AS n;
        INSERT INTO chat_completion_requests (model_id, created_at)
        SELECT n, '2026-01-01T00:00:00Z' FROM generate_series(1, 60) AS n
    """)
    await connection.execute(trouble)
    parameters = {"start_date": "2026-01-01", "bucket": "1h", "group_by": "model"}
    within = await get(client, **parameters, end_date="2026-01-13")
    assert len(within["data"]) == 60 * 24 * 13
    response = await client.get(SERIES, params={**parameters, "end_date": "2026-01-14"})
    assert (response.status_code, response.json()["parameter"]) == (422, "bucket")
    assert "20,000" in response.json()["detail"]


async def test_a_time_zone_that_the_database_lacks_is_refused(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.catalogue.timeseries._timezones", lambda: {"Mars/Olympus"})
    response = await client.get(SERIES, params={"timezone": "Mars/Olympus", "window": "24h"})
    assert (response.status_code, response.json()["parameter"]) == (422, "timezone")


async def test_an_escaped_and_a_plain_plus_sign_name_the_same_zone(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    for zone in ("Etc/GMT+5", "Etc/GMT 5"):
        body = await get(client, timezone=zone, window="24h")
        assert body["metadata"]["timezone"] == "Etc/GMT+5"
        assert body["data"][0]["bucket_start"].endswith("-05:00")


async def test_cost_is_unavailable_where_the_column_is_missing(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("ALTER TABLE chat_completion_requests DROP COLUMN cost_usd")
    for window, method in (("7d", "rpc"), ("30d", "fallback_optimized")):
        body = await get(client, window=window)
        assert {point["total_cost_usd"] for point in body["data"]} == {0}
        assert body["metadata"]["unavailable"] == ["total_cost_usd"]
        assert body["metadata"]["method"] == method
        await gateway.execute("DROP FUNCTION IF EXISTS get_chat_request_timeseries")


async def test_when_both_methods_take_too_long_it_is_unavailable_for_a_while(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(query_timeout_seconds=0.5))
    await gateway.execute("""
        ALTER TABLE chat_completion_requests RENAME TO kept;
        CREATE VIEW chat_completion_requests AS SELECT * FROM kept WHERE pg_sleep(60) IS NOT NULL
    """)
    response = await client.get(SERIES, params={"window": "24h"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


async def test_the_worker_computes_series_only_on_request(flow: Flow, gateway: asyncpg.Connection) -> None:
    report = await flow.refresh()
    assert "timeseries" not in {result.aggregation for result in report.results}
    report = await flow.refresh(["timeseries"], ["24h", "all"])
    assert [(result.window, result.error) for result in report.results] == [("24h", None), ("all", None)]
    answer = await flow.stats.read(Query("timeseries", TimeRange("24h")))
    assert (answer.state, answer.entry.generation) == ("hit", report.generation)
