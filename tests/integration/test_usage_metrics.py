"""/metrics/usage: the gateway's own traffic, as Prometheus reads it."""

import asyncpg
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families

from chat_stats.service.observability.usage_metrics import USAGE_METRICS
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient, OpenFlow
from tests.integration.scrape import Scrape

ALL = "model_id,status,error_kind"


async def scrape(client: httpx.AsyncClient, **headers: str) -> Scrape:
    response = await client.get("http://test/metrics/usage", headers=headers)
    assert response.status_code == 200, response.text
    return Scrape(response.text)


async def test_labels_and_others_are_the_total_of_each_measure(
    gateway: asyncpg.Connection,
    settings_with: SettingsFactory,
    another_flow: OpenFlow,
    client_of: OpenClient,
) -> None:
    await gateway.execute(
        "INSERT INTO chat_completion_requests (model_id, input_tokens, status, created_at)"
        " VALUES (NULL, 3, 'pending', now())"
    )
    settings = settings_with(usage_metrics=ALL, usage_metrics_top=2)
    await (await another_flow(settings)).refresh()
    found = await scrape(await client_of(settings))
    alpha = {"provider": "One", "model": "Alpha", "model_id": "1"}
    assert found.value("usage_requests_total", **alpha) == 3
    assert found.value("usage_failed_requests_total", **alpha) == 1
    assert found.value("usage_tokens_total", direction="input", **alpha) == 60
    assert found.value("usage_cost_usd_total", **alpha) == 0.75
    # Three models and what has none, of which two have labels of their own.
    assert found.label_values("usage_requests_total", "model_id") == {"1", "2", "others"}
    assert found.value("usage_requests_total", model_id="others") == 2
    assert found.value("usage_pending_requests", model_id="others") == 1
    for by in ({}, {"dimension": "status"}, {"dimension": "error_kind"}):
        measures = "usage_dimension" if by else "usage"
        assert found.value(f"{measures}_requests_total", **by) == 7
        assert found.value(f"{measures}_failed_requests_total", **by) == 1
        assert found.value(f"{measures}_tokens_total", direction="input", **by) == 75
        assert found.value(f"{measures}_tokens_total", direction="output", **by) == 14
        assert found.value(f"{measures}_cost_usd_total", **by) == 1.75
    assert found.value("usage_dimension_requests_total", dimension="status", value="completed") == 5
    assert found.value("usage_dimension_requests_total", dimension="error_kind", value="other") == 1
    assert found.value("usage_dimension_requests_total", dimension="error_kind", value="__null__") == 6
    slowest = found.value("usage_processing_time_seconds", quantile="0.99", **alpha)
    assert slowest == pytest.approx(0.301, rel=0.025)
    assert found.value("usage_all_processing_time_seconds", quantile="0.5") is not None
    assert found.label_values("usage_age_seconds", "dimension") == set(ALL.split(","))
    names = {
        family if kind.kind == "gauge" else family.removesuffix("_total")
        for family, kind in USAGE_METRICS.items()
    }
    assert set(found.families) == names


async def test_labels_stay_when_others_overtake_so_that_no_counter_falls(
    gateway: asyncpg.Connection,
    settings_with: SettingsFactory,
    another_flow: OpenFlow,
    client_of: OpenClient,
) -> None:
    settings = settings_with(usage_metrics="model_id", usage_metrics_top=1)
    flow = await another_flow(settings)
    await flow.refresh()
    before = await scrape(await client_of(settings))
    await gateway.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at)"
        " SELECT 2, now() FROM generate_series(1, 9)"
    )
    await flow.refresh()
    # A process that has just started knows the labels from Redis.
    client = await client_of(settings)
    after = await scrape(client)
    assert before.label_values("usage_requests_total", "model_id") == {"1", "others"}
    assert after.label_values("usage_requests_total", "model_id") == {"1", "others"}
    assert before.value("usage_requests_total", model_id="others") == 3
    assert after.value("usage_requests_total", model_id="others") == 12
    # Without Redis and the database it goes on from memory.
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    await services.database.close()
    services.cache._pause()
    assert (await scrape(client)).value("usage_requests_total") == 15


async def test_it_needs_a_key_is_off_by_default_and_computes_nothing(
    gateway: asyncpg.Connection, settings_with: SettingsFactory, another_flow: OpenFlow, client_of: OpenClient
) -> None:
    off = await (await client_of(settings_with())).get("http://test/metrics/usage")
    assert (off.status_code, off.json()["title"]) == (404, "Not found")
    settings = settings_with(usage_metrics="model_id", api_keys="let-me-in")
    client = await client_of(settings)
    assert (await client.get("http://test/metrics/usage")).status_code == 401
    key = {"Authorization": "Bearer let-me-in"}
    early = await client.get("http://test/metrics/usage", headers=key)
    assert (early.status_code, early.headers["retry-after"]) == (503, "5")
    await (await another_flow(settings)).refresh()
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = await client.get("http://test/metrics/usage", headers={**key, **accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.headers["cache-control"] == "no-store"
    assert list(open_metrics_families(response.text))  # type: ignore[no-untyped-call]


def test_an_unknown_dimension_stops_the_start() -> None:
    with pytest.raises(ValueError, match="unknown dimension 'modle'"):
        Settings(database_url="postgresql://x/x", usage_metrics="modle", _env_file=None)
