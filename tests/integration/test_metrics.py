"""The metrics that Prometheus reads at /metrics."""

import asyncio

import asyncpg
import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families

from chat_stats.service import health
from chat_stats.service.observability.metrics import METRICS
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker import tasks
from chat_stats.worker.metrics import REGISTRY
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenClient
from tests.integration.scrape import Scrape, scrape

MODELS = {"endpoint": "models", "method": "rpc", "status": "200"}


def grown(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    return (after.value(name, **labels) or 0) - (before.value(name, **labels) or 0)


def of_the_worker() -> Scrape:
    return Scrape(generate_latest(REGISTRY).decode())


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DETAILED_SECONDS", 0.0)


async def test_each_answer_is_counted_by_endpoint_cache_state_method_and_status(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    before = await scrape(client)
    for _ in range(3):
        await client.get("/chat-requests/models?window=24h")
    await client.get("/chat-requests/models?window=wrong")
    after = await scrape(client)
    assert grown(before, after, "requests_total", cache="miss", **MODELS) == 1
    assert grown(before, after, "requests_total", cache="hit", **MODELS) == 2
    assert grown(before, after, "requests_total", endpoint="models", status="422", cache="none") == 1
    assert grown(before, after, "request_duration_seconds_count", endpoint="models") == 4
    assert grown(before, after, "request_duration_seconds_sum", endpoint="models") > 0


async def test_a_304_counts_as_a_hit(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    etag = (await client.get("/chat-requests/counts")).headers["etag"]
    before = await scrape(client)
    await client.get("/chat-requests/counts", headers={"If-None-Match": etag})
    after = await scrape(client)
    assert grown(before, after, "requests_total", endpoint="counts", status="304", cache="hit") == 1


async def test_head_counts_as_the_endpoint_of_its_get(client: httpx.AsyncClient) -> None:
    before = await scrape(client)
    for path in ("/chat-requests", "/chat-requests/plot-data", "http://test/metrics"):
        await client.head(path)
    after = await scrape(client)
    for endpoint in ("requests", "plot_data", "metrics"):
        assert grown(before, after, "requests_total", endpoint=endpoint) >= 1


async def test_unknown_paths_do_not_become_labels(client: httpx.AsyncClient) -> None:
    for path in ("/nowhere/1", "/nowhere/2", "http://test/x", "/chat-requests/models/12345"):
        await client.get(path)
    endpoints = (await scrape(client)).label_values("requests_total", "endpoint")
    assert "unmatched" in endpoints
    assert not [endpoint for endpoint in endpoints if "/" in endpoint or any(map(str.isdigit, endpoint))]


async def test_a_computation_is_counted_by_method_and_a_change_of_method_too(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await client.get("/chat-requests/providers?window=24h")
    before = await scrape(client)
    await gateway.execute("ALTER FUNCTION get_provider_request_stats RENAME TO broken")
    await client.get("/chat-requests/providers?window=7d")
    await gateway.execute("ALTER FUNCTION broken RENAME TO get_provider_request_stats")
    await client.get("/chat-requests/providers?window=30d")
    after = await scrape(client)
    fallback = {"aggregation": "providers", "method": "fallback_optimized"}
    assert grown(before, after, "computations_total", **fallback) == 1
    assert grown(before, after, "fallbacks_total", **fallback) == 1
    assert grown(before, after, "method_changes_total", **fallback) == 1
    assert grown(before, after, "computations_total", aggregation="providers", method="rpc") == 1
    assert grown(before, after, "fallbacks_total", method="rpc") == 0
    assert grown(before, after, "method_changes_total", aggregation="providers", method="rpc") == 1
    assert grown(before, after, "computation_duration_seconds_count", method="rpc") == 1


async def test_running_and_failed_computations_are_counted(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(connect_timeout_seconds=3))
    before = await scrape(client)
    transaction = gateway.transaction()
    await transaction.start()
    await gateway.execute("LOCK TABLE chat_completion_requests IN ACCESS EXCLUSIVE MODE")
    asked = asyncio.create_task(client.get("/chat-requests/summary"))
    during = before
    while not during.value("computations_running"):
        during = await scrape(client)
    assert during.value("computations_running") == 1
    assert (await asked).status_code == 503
    await transaction.rollback()
    after = await scrape(client)
    assert after.value("computations_running") == 0
    assert grown(before, after, "computation_failures_total", aggregation="summary") == 1


async def test_ages_and_methods_are_those_of_the_last_refresh(
    client: httpx.AsyncClient, flow: Flow, gateway: asyncpg.Connection
) -> None:
    unknown = await scrape(client)
    assert unknown.value("generation_age_seconds") is None
    assert unknown.value("entry_age_seconds") is None
    report = await flow.stats.refresh()
    assert report is not None
    seen = await scrape(client)
    age = seen.value("generation_age_seconds")
    assert age is not None
    assert 0 <= age < 10
    assert seen.value("generation_entries") == report.entries
    assert seen.value("generation_failures") == 0
    assert seen.value("entry_age_seconds", aggregation="models", window="24h") == pytest.approx(age, abs=1)
    assert seen.label_values("entry_age_seconds", "window") == set(flow.settings.windows)
    assert seen.value("entry_method", aggregation="counts", window="all", method="rpc") == 1


async def test_the_worker_counts_its_refreshes_and_their_failures(
    flow: Flow, client: httpx.AsyncClient, gateway: asyncpg.Connection, settings_with: SettingsFactory
) -> None:
    before = of_the_worker()
    await tasks.refresh_on_request(flow.settings, flow.stats)
    await flow.database.close()
    await tasks.refresh_on_request(flow.settings, flow.stats, retry_seconds=0)
    after = of_the_worker()
    assert grown(before, after, "refresh_duration_seconds_count") == 1
    assert grown(before, after, "refresh_failures_total", error="DatabaseUnavailable") == 1


async def test_the_rollup_shows_its_state_its_deltas_and_its_drift(
    client: httpx.AsyncClient, settings: Settings, gateway: asyncpg.Connection
) -> None:
    off = await scrape(client)
    assert off.value("rollup_state", state="off") == 1
    assert off.value("rollup_drift_buckets") is None
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _requests: None)
    await tasks.fold(settings)
    await gateway.execute(
        "INSERT INTO chat_completion_requests (model_id, status, created_at) VALUES (1, 'completed', now())"
    )
    on = await scrape(client)
    assert (on.value("rollup_state", state="on"), on.value("rollup_state", state="off")) == (1, 0)
    assert on.value("rollup_unfolded_deltas") == 1
    assert on.value("rollup_drift_buckets") == 0
    before = of_the_worker()
    await tasks.fold(settings)
    assert (await scrape(client)).value("rollup_unfolded_deltas") == 0
    assert grown(before, of_the_worker(), "folded_deltas_total") == 1
    # What bypasses the triggers is drift.
    await gateway.execute("SET session_replication_role = replica")
    await gateway.execute("DELETE FROM chat_completion_requests WHERE model_id = 2")
    async with open_rollup(settings) as rollup:
        assert await rollup.verify(lambda _requests: None) > 0
    drifted = await scrape(client)
    assert (drifted.value("rollup_drift_buckets") or 0) > 0
    assert drifted.value("rollup_state", state="damaged") == 1


async def test_scrapes_share_one_look(
    client_of: OpenClient, flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DETAILED_SECONDS", 60.0)
    client = await client_of(flow.settings)
    first = await scrape(client)
    await flow.stats.refresh()
    assert (await scrape(client)).value("generation_age_seconds") is None
    assert first.value("redis_up") == 1


async def test_every_metric_is_exposed_with_its_declared_type_and_labels(
    client: httpx.AsyncClient, flow: Flow, gateway: asyncpg.Connection
) -> None:
    seen = await scrape(client)
    ours = {name: family for name, family in seen.families.items() if name.startswith("chat_stats_")}
    assert {name.removesuffix("_total"): metric.kind for name, metric in METRICS.items()} == {
        name: family.type for name, family in ours.items()
    }
    for family in ours.values():
        declared = METRICS.get(family.name) or METRICS[f"{family.name}_total"]
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(declared.labels), sample.name


async def test_open_metrics_is_served_if_accept_asks_for_it(client: httpx.AsyncClient) -> None:
    response = await client.get(
        "http://test/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = open_metrics_families(response.text)  # type: ignore[no-untyped-call]
    assert "chat_stats_requests" in {family.name for family in families}


async def test_metrics_need_no_key(client_of: OpenClient, settings_with: SettingsFactory) -> None:
    client = await client_of(settings_with(api_keys=("secret",)))
    assert (await client.get("/chat-requests/counts")).status_code == 401
    assert (await scrape(client)).value("requests_total", endpoint="counts", status="401") is not None
