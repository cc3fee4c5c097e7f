"""Answers that are cut from the rows of a larger entry: one model, some models, an order, a limit."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import asyncpg
import orjson
import pytest

from chat_stats.service.cache import cuts
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import NotFound
from chat_stats.service.stats import Answer
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenFlow

ALL = TimeRange("all")
#: A range that the worker does not keep.
OTHER = TimeRange("180d")


@pytest.fixture
async def flow(settings_with: SettingsFactory, another_flow: OpenFlow) -> Flow:
    return await another_flow(settings_with(windows="all", local_cache_seconds=30))


def data(answer: Answer) -> Any:
    return orjson.loads(answer.entry.body)


def ids(answer: Answer) -> list[int]:
    return [row["model_id"] for row in data(answer)]


async def stored_keys(flow: Flow) -> set[str]:
    return set(await flow.cache.entries())


CUT = [
    Query("model", model_id="2"),
    Query("models", provider_id="1"),
    Query("models", provider_id="424242"),
    Query("models", model_name="ALPH"),
    Query("models", order_by="-total_tokens", limit=2),
    Query("counts", provider_id="2"),
    Query("counts", limit=1),
    Query("providers", provider_id="2"),
    Query("providers", order_by="total_requests"),
]


@pytest.mark.parametrize("query", CUT, ids=lambda query: query.key().partition(":")[2])
async def test_what_is_cut_has_all_but_its_numbers_from_the_entry_that_it_is_cut_from(
    flow: Flow, gateway: asyncpg.Connection, query: Query
) -> None:
    report = await flow.refresh()
    before = await stored_keys(flow)
    answer = await flow.stats.read(query)
    assert answer.state is CacheState.HIT
    assert (answer.entry.generation, answer.entry.computed_at) == (report.generation, report.computed_at)
    assert await stored_keys(flow) == before
    assert flow.stats.recent(query.key()) is answer.entry  # what the fast path asks for


async def test_filters_order_and_limit_choose_rows(flow: Flow, gateway: asyncpg.Connection) -> None:
    whole = await flow.stats.read(Query("models"))
    by_id = {row["model_id"]: row for row in data(whole)}

    async def models(**parts: Any) -> Answer:
        return await flow.stats.read(Query("models", **parts))

    assert data(await flow.stats.read(Query("model", model_id="2"))) == by_id[2]
    assert ids(await models(provider_id="1")) == [1, 2]
    assert ids(await models(model_id="3")) == [3]
    assert ids(await models(model_name="MM")) == [3]
    assert ids(await models(model_name="%")) == []
    assert ids(await models(order_by="total_tokens")) == [2, 3, 1]
    assert ids(await models(order_by="-avg_processing_time_ms", limit=2)) == [1, 2]
    assert ids(await models(provider_id="1", order_by="total_requests", limit=1)) == [2]
    counts = await flow.stats.read(Query("counts", provider_id="1"))
    assert [(row["model_id"], row["request_count"]) for row in data(counts)] == [(1, 3), (2, 2)]
    assert data(counts) == data(await flow.stats.read(Query("counts")))[:2]


async def test_metadata_are_about_all_rows_that_the_filters_want(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    first = await flow.stats.read(Query("counts", provider_id="1", limit=1))
    assert len(data(first)) == 1
    assert (first.entry.totals["total_models"], first.entry.totals["total_requests"]) == (2, 5)


async def test_the_etag_of_what_is_cut_changes_only_when_its_own_numbers_do(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    async def etags() -> list[bytes]:
        await flow.refresh()
        other = await flow.stats.read(Query("models"))
        flow.stats._local.put(Query("models").key(), other.entry, taken_at=0)
        return [(await flow.stats.read(Query("model", model_id=str(i)))).entry.etag for i in (1, 2)]

    before = await etags()
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (2)")
    flow.stats._local._recent_seconds = 0
    after = await etags()
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


async def test_a_large_entry_is_parsed_once_for_all_that_is_cut_from_it(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await flow.refresh()
    parsed = []

    def loads(body: bytes) -> Any:
        parsed.append(body)
        return orjson.loads(body)

    monkeypatch.setattr(cuts, "orjson", SimpleNamespace(loads=loads, dumps=orjson.dumps))
    for model_id in ("1", "2", "3") * 10:
        await flow.stats.read(Query("model", model_id=model_id))
    assert len(parsed) == 1


async def test_parsed_rows_are_bounded_in_bytes(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.cache.cuts.CAPACITY_BYTES", 1000)
    for window in ("all", "180d", "90d"):
        await flow.stats.read(Query("models", TimeRange(window), limit=1))
    assert len(flow.stats._cuts._bases) == 1


async def test_what_is_cut_from_a_stale_entry_is_stale_and_the_entry_is_recomputed(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(windows="all", fresh_seconds=1, local_cache_seconds=0))
    whole = (await flow.stats.read(Query("models"))).entry
    aged = replace(whole, computed_at=whole.computed_at.replace(year=whole.computed_at.year - 1))
    flow.stats._freshness._longest_stale = 10**9
    await flow.cache.redis.delete(flow.cache.entry_key(Query("models").key()))
    flow.stats._local._copies.clear()
    await flow.cache.store(Query("models").key(), aged)
    assert (await flow.stats.read(Query("model", model_id="1"))).state is CacheState.STALE
    assert Query("models").key() in flow.stats._computations._flights._flights


async def test_a_model_without_requests_and_one_that_does_not_exist_differ(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    await flow.refresh()
    idle = data(await flow.stats.read(Query("model", model_id="4")))
    assert (idle["model_name"], idle["stats"]["total_requests"]) == ("Unused", 0)
    with pytest.raises(NotFound):
        await flow.stats.read(Query("model", model_id="5"))


async def test_in_other_ranges_the_database_filters_and_only_the_order_is_cut(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    ordered = Query("models", OTHER, provider_id="1", order_by="total_requests", limit=1)
    assert ids(await flow.stats.read(ordered)) == [2]
    assert await stored_keys(flow) == {Query("models", OTHER, provider_id="1").key()}
