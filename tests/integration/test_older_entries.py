"""Redis holds an older entry than this process: restored from an old dump, or after a failover."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from redis.asyncio import Redis

from chat_stats.service.cache.entry import Entry, encode
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.cache.store import Cache
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import DatabaseUnavailable
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenFlow

COUNTS = Query("counts")
FRESH_SECONDS = 60
BODY = b'[{"request_count":1}]'


@pytest.fixture
async def flow(settings_with: SettingsFactory, another_flow: OpenFlow) -> Flow:
    return await another_flow(settings_with(fresh_seconds=FRESH_SECONDS))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_stats.service.stats.LOST_PATIENCE_SECONDS", 20)  # however busy the machine


async def older(flow: Flow, known: Entry, *, seconds: float) -> Entry:
    """Put an entry into Redis that is older than the known one by `seconds`."""
    computed_at = known.computed_at - timedelta(seconds=seconds)
    entry = replace(known, computed_at=computed_at, generation="old", body=BODY)
    await flow.cache.redis.set(flow.cache.entry_key(COUNTS.key()), encode(entry))
    return entry


async def aged(flow: Flow, known: Entry, *, seconds: float) -> Entry:
    """Age the local copy `known`: it was computed that much earlier."""
    flow.stats._local._copies.clear()
    return flow.stats._local.put(
        COUNTS.key(), replace(known, computed_at=known.computed_at - timedelta(seconds=seconds)), taken_at=0.0
    )


@pytest.mark.parametrize("age", [0, 2 * FRESH_SECONDS], ids=["fresh", "stale"])
async def test_an_older_entry_is_recomputed_and_redis_is_corrected(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow, age: float
) -> None:
    known = await aged(flow, (await flow.stats.read(COUNTS)).entry, seconds=age)
    await older(flow, known, seconds=3600)
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry.totals["total_requests"]) == (CacheState.MISS, 7)
    other = await another_flow(flow.settings)
    found = await other.stats.read(COUNTS)
    assert (found.state, found.entry) == (CacheState.HIT, answer.entry)


async def test_during_the_computation_the_newer_copy_is_served(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.stats.LOST_PATIENCE_SECONDS", 0.05)
    known = (await flow.stats.read(COUNTS)).entry
    await older(flow, known, seconds=3600)
    async with gateway.transaction():
        await gateway.execute("LOCK TABLE chat_completion_requests")
        for _ in range(3):
            assert (await flow.stats.read(COUNTS)).entry == known


async def test_many_processes_that_find_an_older_entry_compute_it_once(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    known = (await flow.stats.read(COUNTS)).entry
    others = [await another_flow(flow.settings) for _ in range(3)]
    for other in others:
        assert (await other.stats.read(COUNTS)).entry == known
    await older(flow, known, seconds=3600)
    answers = await asyncio.gather(*(each.stats.read(COUNTS) for each in (flow, *others) * 5))
    assert len({answer.entry.generation for answer in answers} - {known.generation}) == 1


async def test_without_postgres_the_newer_copy_is_served_and_stored_again(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await another_flow(flow.settings)
    known = (await flow.stats.read(COUNTS)).entry
    await older(flow, known, seconds=3600)

    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the database cannot be reached: it is away")

    monkeypatch.setattr(Database, "snapshot", away)
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry) == (CacheState.STALE, known)
    assert (await other.stats.read(COUNTS)).entry == known


async def test_a_fresh_older_entry_stays_until_the_next_refresh_and_the_newer_copy_is_served(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    """A refresh replaces entries computed since it began, so that its answers share one generation."""
    known = (await flow.stats.read(COUNTS)).entry
    await older(flow, known, seconds=FRESH_SECONDS / 2)
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry) == (CacheState.HIT, known)


async def test_a_stale_entry_counts_as_a_computation_only_if_it_is_newer(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    first = (await flow.stats.read(COUNTS)).entry
    known = await aged(flow, first, seconds=2 * FRESH_SECONDS)
    old = await older(flow, known, seconds=60)
    computed = await flow.stats._computations.start(COUNTS, known)
    assert computed.entry.generation not in (old.generation, known.generation)
    newer = await older(flow, known, seconds=-30)
    assert (await flow.stats._computations.start(COUNTS, known)).entry == newer


@pytest.mark.parametrize(("seconds", "kept"), [(-2, False), (2, True)], ids=["older", "newer"])
async def test_of_two_concurrent_stores_the_newer_answer_remains(
    flow: Flow,
    gateway: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    kept: bool,
) -> None:
    known = (await flow.stats.read(COUNTS)).entry
    look = Cache._current

    async def overtaken(cache: Cache, redis: Redis, query_key: str) -> Entry | None:
        current = await look(cache, redis, query_key)
        await older(flow, known, seconds=-seconds)  # another process, between this one's read and write
        return current

    monkeypatch.setattr(Cache, "_current", overtaken)
    mine = replace(known, generation="mine", computed_at=known.computed_at + timedelta(milliseconds=1))
    stored = await flow.cache.store(COUNTS.key(), mine)
    assert stored.kept is kept
    assert stored.entry.generation == ("old" if kept else "mine")
