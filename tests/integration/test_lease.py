"""The lease, over a real Redis: taken, renewed, released, lost; and what waiting processes learn."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from chat_stats.service.cache import lease as leases
from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.lease import Leases, Look
from chat_stats.service.cache.store import Cache, Stored, connect
from chat_stats.service.database.clock import Clock
from chat_stats.service.errors import (
    ChatStatsError,
    DatabaseBusy,
    DatabaseUnavailable,
    NotFound,
    Unavailable,
    error_named,
)
from chat_stats.worker.local_servers import RedisServer, redis_server
from tests.conftest import make_settings

KEY = "counts:all"
ENTRY = Entry(b"[]", {}, "rpc", datetime(2026, 1, 1, tzinfo=UTC), 1.0, "g1")
NO_POSTGRES = "postgresql://user@127.0.0.1:1/none"

Compute = Callable[[], Awaitable[Stored]]


class Process:
    """One process: its own cache over the same Redis, and a count of its computations."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.leases = Leases(cache)
        self.computed = 0
        self.looked = asyncio.Event()
        look = self.leases._look

        async def noted_look(*arguments: str) -> Look | None:
            found = await look(*arguments)
            self.looked.set()
            return found

        self.leases._look = noted_look  # type: ignore[method-assign, assignment]

    async def compute(
        self,
        seconds: float = 0.0,
        error: ChatStatsError | None = None,
        wait: float = 5,
        until_looked: "Iterable[Process]" = (),
    ) -> Entry:
        """Compute for `seconds`, and until the processes `until_looked` wait for it."""

        async def compute() -> Stored:
            self.computed += 1
            await asyncio.gather(*(process.looked.wait() for process in until_looked))
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            return await self.cache.store(KEY, ENTRY)

        stored = await self.leases.run_once(KEY, compute, suffices=lambda _: True, wait_seconds=wait)
        return stored.entry


@pytest.fixture
async def processes(redis: RedisServer) -> AsyncIterator[list[Process]]:
    settings = make_settings(NO_POSTGRES, redis.url)
    async with AsyncExitStack() as stack:
        caches = [Cache(settings, connect(redis.url, timeout_seconds=2), Clock()) for _ in range(4)]
        for cache in caches:
            stack.push_async_callback(cache.close)
        yield [Process(cache) for cache in caches]


def computed(processes: list[Process]) -> int:
    return sum(process.computed for process in processes)


async def test_one_of_four_computes_and_all_get_its_entry(processes: list[Process]) -> None:
    entries = await asyncio.gather(*(process.compute(0.2) for process in processes))
    assert entries == [ENTRY] * 4
    assert computed(processes) == 1
    assert await processes[0].cache.redis.exists(processes[0].cache.key("lease", KEY)) == 0


async def test_an_entry_that_was_stored_just_before_the_lease_was_taken_is_not_computed_again(
    processes: list[Process],
) -> None:
    await processes[0].compute()
    await processes[1].compute()
    assert computed(processes) == 1


@pytest.mark.parametrize("error", [NotFound("no model"), DatabaseUnavailable("it is away")])
async def test_a_failure_reaches_only_the_processes_that_waited(
    processes: list[Process], error: ChatStatsError
) -> None:
    outcomes = await asyncio.gather(
        *(process.compute(0.2, error, until_looked=processes) for process in processes),
        return_exceptions=True,
    )
    assert {(type(outcome), str(outcome)) for outcome in outcomes} == {(type(error), str(error))}
    assert computed(processes) == 1
    assert await processes[1].compute() == ENTRY


async def test_a_failure_names_the_token_of_its_holder(processes: list[Process]) -> None:
    """So that a process that polls late recognises the failure as that of the lease it waited for."""
    first, second, _, _ = processes
    holder = asyncio.create_task(first.compute(error=NotFound("no model"), until_looked=[second]))
    await first.looked.wait()
    token = await first.cache.redis.get(first.cache.key("lease", KEY))
    with pytest.raises(NotFound):
        await second.compute()
    with pytest.raises(NotFound):
        await holder
    told = orjson.loads(await first.cache.redis.get(first.cache.key("failure", KEY)))
    assert told[0] == token.decode()


async def test_a_living_holder_keeps_the_lease_beyond_its_lifetime(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_MS", 500)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    await asyncio.gather(*(process.compute(1.5) for process in processes))
    assert computed(processes) == 1


async def test_when_the_holder_dies_one_other_process_computes(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that died neither renews nor releases its lease; a foreign token stands for it here."""
    monkeypatch.setattr(leases, "LEASE_MS", 500)
    await processes[0].cache.redis.set(processes[0].cache.key("lease", KEY), "dead", px=500)
    await asyncio.gather(*(process.compute(0.1) for process in processes))
    assert computed(processes) == 1


async def test_a_cancelled_holder_releases_the_lease_at_once(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_MS", 60_000)
    first = asyncio.create_task(processes[0].compute(30))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(processes[1].compute(wait=60))
    await asyncio.sleep(0.1)
    first.cancel()
    async with asyncio.timeout(30):
        assert await second == ENTRY


async def test_a_process_that_lost_its_lease_does_not_release_its_successors(
    processes: list[Process],
) -> None:
    redis, lease = processes[0].cache.redis, processes[0].cache.key("lease", KEY)
    holder = asyncio.create_task(processes[0].compute(0.3))
    await asyncio.sleep(0.1)
    await redis.set(lease, "another")
    await holder
    assert await redis.get(lease) == b"another"
    await redis.delete(lease)


async def test_nobody_waits_for_ever(processes: list[Process]) -> None:
    holder = asyncio.create_task(processes[0].compute(1.5))
    await asyncio.sleep(0.1)
    with pytest.raises(DatabaseBusy):
        await processes[1].compute(wait=0.3)
    await holder


async def test_an_entry_that_does_not_suffice_is_replaced(processes: list[Process]) -> None:
    old = replace(ENTRY, generation="g0", computed_at=datetime(2025, 1, 1, tzinfo=UTC))
    await processes[0].cache.store(KEY, old)

    async def compute() -> Stored:
        return await processes[0].cache.store(KEY, ENTRY)

    stored = await processes[0].leases.run_once(
        KEY, compute, suffices=lambda entry: entry.generation != "g0", wait_seconds=5
    )
    assert stored.entry == ENTRY


async def test_without_redis_each_computes(tmp_path: Path) -> None:
    cache = Cache(
        make_settings(NO_POSTGRES, "redis://127.0.0.1:1/0"),
        connect("redis://127.0.0.1:1/0", timeout_seconds=0.2),
        Clock(),
    )
    processes = [Process(cache), Process(cache)]
    assert await asyncio.gather(*(process.compute() for process in processes)) == [ENTRY] * 2
    assert computed(processes) == 2
    await cache.close()


async def test_when_redis_refuses_to_write_each_computes(tmp_path: Path) -> None:
    full = redis_server(tmp_path / "redis")
    full.options.update({"maxmemory": "1", "maxmemory-policy": "noeviction"})
    full.start()
    try:
        cache = Cache(make_settings(NO_POSTGRES, full.url), connect(full.url, timeout_seconds=2), Clock())
        process = Process(cache)
        async with asyncio.timeout(1):
            assert await process.compute() == ENTRY
        assert process.computed == 1
        assert cache.reachable
        await cache.close()
    finally:
        full.stop()


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.5, 1.0])
def test_waiting_processes_poll_soon_after_the_answer_is_stored_and_not_too_often(seconds: float) -> None:
    waited, looks = 0.0, 0
    while waited < seconds:
        waited += leases.pause_after(waited)
        looks += 1
    assert waited - seconds <= max(0.25 * seconds, 0.005)
    assert looks <= 30


def test_an_error_is_restored_with_its_class() -> None:
    for kind in (NotFound, DatabaseUnavailable, DatabaseBusy):
        assert type(error_named(kind.__name__, "why")) is kind
    assert type(error_named("OfALaterVersion", "why")) is Unavailable
