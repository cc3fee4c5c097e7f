"""Processes of two versions share a Redis while one replaces the other; one aggregation has another field."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import orjson
import pytest
from pydantic import create_model

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.rows import Row, models_from_usage
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.worker.cli.status import collect
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenFlow

WINDOW = TimeRange("all")
MODELS = AGGREGATIONS["models"]
[ROW] = MODELS.data.__args__
NEW_ROW = create_model("ModelRow", __base__=ROW, owner=(str, ...))


def new_rows(models: Any) -> list[Row]:
    return [{**row, "owner": "us"} for row in models_from_usage(models)]


NEW_MODELS = replace(MODELS, data=list[NEW_ROW], from_usage=new_rows)


@contextmanager
def new_version() -> Iterator[None]:
    """What runs within is the new version: its models have an owner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGGREGATIONS, "models", NEW_MODELS)
        yield


@pytest.fixture
async def flow(settings_with: SettingsFactory, another_flow: OpenFlow) -> Flow:
    return await another_flow(settings_with(windows=("all",)))


async def read(flow: Flow, name: str) -> tuple[CacheState, Any]:
    answer = await flow.stats.read(Query(name, WINDOW))
    return answer.state, orjson.loads(answer.entry.body)


async def test_each_reads_its_own_entries_of_what_differs_and_both_share_the_others(
    flow: Flow, another_flow: OpenFlow, gateway: asyncpg.Connection
) -> None:
    await flow.refresh()
    with new_version():
        new = await another_flow(flow.settings)
        state, rows = await read(new, "models")
        assert state is CacheState.MISS
        assert rows[0]["owner"] == "us"
        for name in ("counts", "providers", "summary"):
            assert (await read(new, name))[0] is CacheState.HIT
    old = await another_flow(flow.settings)
    state, rows = await read(old, "models")
    assert state is CacheState.HIT
    assert "owner" not in rows[0]


async def test_a_refresh_by_one_does_not_stand_for_that_of_the_other_nor_remove_its_entries(
    flow: Flow, another_flow: OpenFlow, gateway: asyncpg.Connection
) -> None:
    await flow.refresh()
    assert await flow.stats.refresh(unless_newer_than_seconds=60) is None
    with new_version():
        new = await another_flow(flow.settings)
        report = await new.stats.refresh(unless_newer_than_seconds=60)
        assert report is not None
        assert report.published
        assert (await new.stats.read(Query("model", WINDOW, model_id="1"))).state is CacheState.HIT
    old = await another_flow(flow.settings)
    by_provider = Query("models", WINDOW, provider_id="1")
    assert (await old.stats.read(by_provider)).state is CacheState.HIT


async def test_status_shows_the_entries_of_its_own_version(
    flow: Flow, another_flow: OpenFlow, gateway: asyncpg.Connection
) -> None:
    with new_version():
        new = await another_flow(flow.settings)
        await new.refresh(["models", "counts"])
    status = await collect(flow.settings)
    assert {group.aggregation for group in status.cached} >= {"counts"}
    assert "models" not in {group.aggregation for group in status.cached}
