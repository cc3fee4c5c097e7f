"""Entries that Redis lost or holds undecodable: each is a miss, as if it had never been stored.

The process's own copy is for when that cannot be computed, and then for the other processes too.
"""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import DatabaseUnavailable
from tests.integration.conftest import Flow, OpenFlow

COUNTS = Query("counts")

Loss = Callable[[Flow, str], Awaitable[object]]

LOSSES: dict[str, Loss] = {
    "gone": lambda flow, key: flow.cache.redis.delete(key),
    "truncated": lambda flow, key: flow.cache.redis.setrange(key, 40, b"\0\0\0"),
    "of another version": lambda flow, key: flow.cache.redis.set(key, b'{"format": "chat-stats/99"}\n[]'),
    "foreign": lambda flow, key: flow.cache.redis.set(key, b"\x80\x05\x95 a pickle"),
}


async def lose(flow: Flow, loss: Loss = LOSSES["gone"]) -> None:
    await loss(flow, flow.cache.entry_key(COUNTS.key()))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_lost_entry_is_recomputed(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, loss: Loss
) -> None:
    monkeypatch.setattr("chat_stats.service.stats.LOST_PATIENCE_SECONDS", 20)  # however busy the machine
    await flow.stats.read(COUNTS)
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    await lose(flow, loss)
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry.totals["total_requests"]) == (CacheState.MISS, 7)
    assert (await flow.stats.read(COUNTS)).state is CacheState.HIT


async def test_during_a_long_computation_the_copy_is_served_as_stale(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    known = await flow.stats.read(COUNTS)
    await lose(flow)
    async with gateway.transaction():
        await gateway.execute("LOCK TABLE chat_completion_requests")
        answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry) == (CacheState.STALE, known.entry)


async def test_without_postgres_the_copy_is_served_and_stored_again_for_the_other_processes(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await another_flow(flow.settings)
    known = await flow.stats.read(COUNTS)
    await lose(flow)

    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("the database cannot be reached: it is away")

    monkeypatch.setattr(Database, "snapshot", away)
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry) == (CacheState.STALE, known.entry)
    assert (await other.stats.read(COUNTS)).entry == known.entry


async def test_many_concurrent_requests_cause_one_computation(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.stats.LOST_PATIENCE_SECONDS", 20)
    known = await flow.stats.read(COUNTS)
    await lose(flow)
    answers = await asyncio.gather(*(flow.stats.read(COUNTS) for _ in range(50)))
    [generation] = {answer.entry.generation for answer in answers}
    assert generation != known.entry.generation
