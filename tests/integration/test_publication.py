"""How a generation becomes visible: all of it at once, and nothing is left of one that is not published."""

import asyncio

import asyncpg
import pytest

from chat_stats.service.cache.entry import decode
from chat_stats.service.cache.publication import Prepared
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import CacheUnavailable
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenFlow

WINDOWS = ("24h", "7d", "all")
NAMES = ("providers", "models", "counts", "summary")


@pytest.fixture
async def flow(settings_with: SettingsFactory, another_flow: OpenFlow) -> Flow:
    return await another_flow(settings_with(windows=WINDOWS))


async def waiting_keys(flow: Flow) -> list[bytes]:
    return [key async for key in flow.cache.redis.scan_iter(match=flow.cache.key("next", "*"))]


async def test_a_reader_never_sees_a_part_of_a_generation(flow: Flow, gateway: asyncpg.Connection) -> None:
    await flow.refresh()
    keys = [
        flow.cache.entry_key(Query(name, TimeRange(window)).key()) for name in NAMES for window in WINDOWS
    ]
    seen: list[set[str]] = []

    async def read() -> None:
        while True:
            stored = await flow.cache.redis.mget(keys)
            seen.append({decode(each).generation for each in stored})

    reading = asyncio.create_task(read())
    reports = [await flow.refresh() for _ in range(5)]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert {len(generations) for generations in seen} == {1}
    assert len(set.union(*seen) & {report.generation for report in reports}) > 1


async def test_nothing_waits_in_redis_after_a_refresh(flow: Flow, gateway: asyncpg.Connection) -> None:
    await flow.refresh()
    assert await waiting_keys(flow) == []
    key = flow.cache.entry_key(Query("counts", TimeRange("24h")).key())
    assert await flow.cache.redis.ttl(key) > 86400


async def test_a_refresh_that_fails_midway_publishes_nothing_and_removes_what_it_stored(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await flow.refresh()
    add = Prepared.add

    async def fail_at_last(self: Prepared, query_key: str, entry: object) -> None:
        if len(self) == len(NAMES) * len(WINDOWS) - 1:
            raise CacheUnavailable("Redis does not answer")
        await add(self, query_key, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(Prepared, "add", fail_at_last)
    with pytest.raises(CacheUnavailable):
        await flow.refresh()
    assert await waiting_keys(flow) == []
    assert {entry.generation for entry in (await flow.cache.entries()).values()} == {whole.generation}


async def test_a_generation_of_which_redis_lost_an_entry_is_not_published(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await flow.refresh()
    add = Prepared.add

    async def lose_first(self: Prepared, query_key: str, entry: object) -> None:
        await add(self, query_key, entry)  # type: ignore[arg-type]
        if len(self) == 2:
            await flow.cache.redis.delete(*(await waiting_keys(flow))[:1])

    monkeypatch.setattr(Prepared, "add", lose_first)
    with pytest.raises(CacheUnavailable, match="has lost entries"):
        await flow.refresh()
    assert {entry.generation for entry in (await flow.cache.entries()).values()} == {whole.generation}


async def test_what_waits_expires_when_the_worker_dies(flow: Flow, gateway: asyncpg.Connection) -> None:
    prepared = Prepared(flow.cache, "g1")
    entry = (await flow.stats.read(Query("counts"))).entry
    await prepared.add("counts:all", entry)
    [key] = await waiting_keys(flow)
    assert 0 < await flow.cache.redis.ttl(key) <= 1200
