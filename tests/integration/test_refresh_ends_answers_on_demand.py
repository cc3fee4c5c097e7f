"""A refresh of everything ends answers that it does not replace: other windows, ranges, filters, series."""

import asyncpg
import pytest

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange, parse_time_range
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenFlow
from tests.integration.test_reading import wait_for_background

RANGE = parse_time_range(None, "2019-01-01", "2100-01-01")
ON_DEMAND = [
    Query("counts", TimeRange("365d")),
    Query("counts", RANGE),
    Query("models", RANGE, order_by="-total_tokens", limit=1),
    Query("summary", model_name="alp"),
    Query("timeseries", TimeRange("30d")),
]


@pytest.mark.parametrize("query", ON_DEMAND, ids=lambda query: query.key())
@pytest.mark.parametrize("by", ["this process", "another process"])
async def test_an_answer_on_demand_that_is_older_than_the_generation_is_stale_and_recomputed(
    gateway: asyncpg.Connection, settings_with: SettingsFactory, another_flow: OpenFlow, query: Query, by: str
) -> None:
    settings = settings_with(windows="all", local_cache_seconds=0)
    flow = await another_flow(settings)
    await flow.refresh()
    old = await flow.stats.read(query)
    assert (await flow.stats.read(query)).state is CacheState.HIT
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")

    refreshing = flow if by == "this process" else await another_flow(settings)
    report = await refreshing.refresh()
    stale = await flow.stats.read(query)
    assert (stale.state, stale.entry) == (CacheState.STALE, old.entry)
    await wait_for_background(flow.stats)
    fresh = await flow.stats.read(query)
    assert fresh.state is CacheState.HIT
    assert fresh.entry.computed_at >= report.computed_at


async def test_a_refresh_of_a_part_ends_nothing(
    gateway: asyncpg.Connection, settings_with: SettingsFactory, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(windows="all", local_cache_seconds=0))
    query = Query("counts", RANGE)
    known = await flow.stats.read(query)
    await flow.refresh(["counts"])
    answer = await flow.stats.read(query)
    assert (answer.state, answer.entry) == (CacheState.HIT, known.entry)
