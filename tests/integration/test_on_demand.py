"""Answers on demand take no more bytes in Redis than their budget."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.on_demand import OVERHEAD_BYTES
from chat_stats.service.cache.store import Cache
from chat_stats.service.database.clock import Clock
from chat_stats.worker.local_servers import RedisServer
from tests.conftest import SettingsFactory

ROOM = 20_000


def entry(size: int = 1000) -> Entry:
    return Entry(
        body=b"[" + b" " * (size - 2) + b"]",
        totals={},
        method="rpc",
        computed_at=datetime.now(UTC),
        compute_ms=1.0,
        generation="g",
    )


@pytest.fixture
async def client(redis: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis.url)
    yield client
    await client.aclose()


@pytest.fixture
def cache(settings_with: SettingsFactory, client: Redis) -> Cache:
    return Cache(settings_with(on_demand_cache_bytes=ROOM), client, Clock())


async def stored(cache: Cache) -> set[str]:
    return set(await cache.entries())


async def test_the_oldest_answers_are_evicted_for_new_ones(cache: Cache) -> None:
    for n in range(100):
        assert (await cache.store(f"range-{n}", entry(), lifetime_seconds=60)).kept
    kept = await stored(cache)
    assert 5 < len(kept) <= ROOM // (1000 + OVERHEAD_BYTES)
    assert kept == {f"range-{n}" for n in range(100 - len(kept), 100)}
    assert await cache.on_demand_bytes() <= ROOM


async def test_answers_that_the_worker_keeps_computed_are_never_evicted(cache: Cache) -> None:
    await cache.store("planned", entry(ROOM))
    for n in range(50):
        await cache.store(f"range-{n}", entry(), lifetime_seconds=60)
    assert "planned" in await stored(cache)


async def test_an_answer_that_exceeds_the_budget_is_not_stored(cache: Cache) -> None:
    await cache.store("small", entry(), lifetime_seconds=60)
    await cache.store("huge", entry(ROOM), lifetime_seconds=60)
    assert await stored(cache) == {"small"}


async def test_an_answer_that_is_computed_again_counts_once(cache: Cache) -> None:
    for _ in range(100):
        await cache.store("range", entry(), lifetime_seconds=60)
    assert await stored(cache) == {"range"}
    assert await cache.on_demand_bytes() < 2 * (1000 + OVERHEAD_BYTES)


async def test_an_expired_answer_frees_its_bytes(cache: Cache) -> None:
    for n in range(10):
        await cache.store(f"brief-{n}", entry(), lifetime_seconds=0.001)
    await asyncio.sleep(0.05)
    await cache.store("range", entry(), lifetime_seconds=60)
    assert await stored(cache) == {"range"}
    assert await cache.on_demand_bytes() < 3 * (1000 + OVERHEAD_BYTES)


async def test_a_damaged_accounting_is_reset(cache: Cache, client: Redis) -> None:
    await cache.store("range-1", entry(), lifetime_seconds=60)
    sizes = cache.entry_key("").replace(":entry:", ":on-demand:bytes")
    assert await client.hexists(sizes, "total")  # type: ignore[misc]
    await client.hset(sizes, "total", str(10**9))  # type: ignore[misc]
    await cache.store("range-2", entry(), lifetime_seconds=60)
    assert "range-2" in await stored(cache)
    assert await cache.on_demand_bytes() < ROOM
