"""One computation of a key at a time over four processes; a client that waited for a refresh reads it."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import parse_time_range
from tests.drills.load import Client, Reply, at_once
from tests.drills.world import BASE, FRESH_SECONDS, World
from tests.processes import until


@contextmanager
def slow_counts(world: World, seconds: float) -> Iterator[None]:
    """Have the function that counts requests sleep first."""
    function: str = world.query("SELECT pg_get_functiondef('chat_stats_usage'::regproc)")
    world.execute(function.replace("BEGIN", f"BEGIN PERFORM pg_catalog.pg_sleep({seconds});", 1))
    try:
        yield
    finally:
        world.execute(function)


def to_every_process(world: World, target: str, times: int) -> list[tuple[int, str]]:
    return [(world.ports[number % len(world.ports)], target) for number in range(times)]


def start_date(target: str) -> str:
    return target.partition("start_date=")[2]


def expiries(replies: list[Reply]) -> int:
    """Return how often an answer may have become stale while the requests were answered."""
    began_at = min(reply.sent_at for reply in replies)
    return int((max(reply.sent_at + reply.seconds for reply in replies) - began_at) / FRESH_SECONDS)


def generations(replies: list[Reply]) -> set[str]:
    return {reply.metadata["generation"] for reply in replies}


@contextmanager
def unless_too_busy(world: World) -> Iterator[None]:
    """Skip with a message if the machine is so busy that a service thought Redis or Postgres was down."""
    before = world.logs().count("does not answer")
    try:
        yield
    except AssertionError as error:
        if world.logs().count("does not answer") > before:
            pytest.skip(f"the machine is too busy: a service gave up Redis or Postgres ({error})")
        raise


def test_a_thousand_concurrent_requests_for_an_answer_that_is_not_cached_make_one_query(world: World) -> None:
    with unless_too_busy(world):
        target = world.new_target()
        replies = asyncio.run(at_once(to_every_process(world, target, 1000)))
        assert {reply.status for reply in replies} == {200}
        assert len(generations(replies)) <= 1 + expiries(replies)
        assert 1 <= world.computations(start_date(target)) <= 1 + expiries(replies)


def test_a_thousand_concurrent_requests_for_a_stale_answer_get_it_at_once_and_make_one_query(
    world: World,
) -> None:
    with unless_too_busy(world):
        target = world.new_target()
        (first,) = asyncio.run(at_once([(world.ports[0], target)]))
        time.sleep(FRESH_SECONDS + 0.2)
        replies = asyncio.run(at_once(to_every_process(world, target, 1000)))
        assert {reply.status for reply in replies} == {200}
        assert {reply.metadata["cache"] for reply in replies} <= {"stale", "hit"}
        stale = [reply for reply in replies if reply.metadata["cache"] == "stale"]
        assert first.metadata["generation"] in generations(stale)
        assert len(generations(stale)) <= 1 + expiries(replies)
        until(lambda: world.computations(start_date(target)) >= 2)
        time.sleep(0.3)
        assert world.computations(start_date(target)) <= 2 + expiries(replies)


def test_requests_that_wait_for_a_slow_query_get_its_answer_in_every_process(world: World) -> None:
    with unless_too_busy(world):
        with slow_counts(world, 0.5):
            target = world.new_target()
            replies = asyncio.run(at_once(to_every_process(world, target, 40)))
        assert {reply.status for reply in replies} == {200}
        assert len({reply.metadata["generation"] for reply in replies}) == 1
        assert max(reply.seconds for reply in replies) < 2.5
        assert world.computations(start_date(target)) == 1


def test_when_the_process_that_computes_freezes_another_takes_over_within_seconds(world: World) -> None:
    frozen, *others = world.ports
    with slow_counts(world, 0.5):
        target = world.new_target()
        key = Query("counts", parse_time_range(None, start_date(target), None)).key()
        lease = f"{world.prefix}:v2:lease:{key}"

        async def ask() -> list[Reply]:
            client = Client()
            first = asyncio.create_task(client.get(frozen, target))
            await asyncio.to_thread(until, lambda: world.redis.exists(lease))
            world.services[0].send(signal.SIGSTOP)
            try:
                return list(
                    await asyncio.gather(*(ask_with_retries(client, port, target) for port in others))
                )
            finally:
                world.services[0].send(signal.SIGCONT)
                await first
                await client.close()

        replies = asyncio.run(ask())
    assert {reply.status for reply in replies} == {200}
    assert len({reply.metadata["generation"] for reply in replies}) == 1
    assert max(reply.seconds for reply in replies) < 3 + 0.5 + 3  # the lease, the query, and a busy machine
    assert world.computations(start_date(target)) == 2


def test_a_failed_computation_fails_for_all_waiting_requests_and_is_not_repeated(world: World) -> None:
    model = "987654321"
    target = f"{BASE}/models/{model}?start_date=2026-01-01"
    replies = asyncio.run(at_once(to_every_process(world, target, 100)))
    assert {reply.status for reply in replies} == {404}


def test_after_a_refresh_that_was_waited_for_no_process_serves_older_numbers(world: World) -> None:
    """Requests are running all the time, also some that began before the refresh was published."""
    promised = datetime.fromtimestamp(0, UTC)
    refreshing = True
    replies = 0
    older = []

    async def read(client: Client, port: int) -> None:
        nonlocal replies
        while refreshing:
            owed = promised
            reply = await client.get(port, f"{BASE}/counts?window=all")
            replies += 1
            computed_at = datetime.fromisoformat(reply.metadata["computed_at"])
            if computed_at < owed:
                older.append(owed - computed_at)

    async def refresh() -> None:
        nonlocal promised, refreshing
        for _ in range(5):
            report = await asyncio.to_thread(post_refresh, world)
            assert report["published"]
            promised = datetime.fromisoformat(report["computed_at"])
            await asyncio.sleep(0.3)
        refreshing = False

    async def both() -> None:
        client = Client()
        await asyncio.gather(refresh(), *(read(client, port) for port in world.ports for _ in range(2)))
        await client.close()

    asyncio.run(both())
    assert older == []
    assert replies > 200


async def ask_with_retries(client: Client, port: int, target: str) -> Reply:
    """Send a request, and retry after a 503."""
    deadline = time.monotonic() + 20
    while (reply := await client.get(port, target)).status == 503 and time.monotonic() < deadline:
        assert reply.json["title"] == "Still computing"
        await asyncio.sleep(0.2)
    return reply


def post_refresh(world: World) -> dict[str, Any]:
    answer = httpx.post(
        f"http://127.0.0.1:{world.ports[0]}/api/monitoring/refresh?wait=true",
        headers={"Authorization": "Bearer let-me-in"},
        timeout=30,
    )
    answer.raise_for_status()
    report: dict[str, Any] = answer.json()["data"]["report"]
    return report
