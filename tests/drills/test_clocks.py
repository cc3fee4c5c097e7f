"""Under load, with clocks that are an hour wrong, and with a Redis that was restored from an old dump."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat_stats.worker.local_servers import free_port
from tests.clocks import HOUR, tidy_up, wrong_clock
from tests.drills.breakages import (
    kill_postgres,
    kill_worker,
    restore_old_redis,
    start_postgres,
    start_worker,
)
from tests.drills.load import Client, Reply, load
from tests.drills.world import FRESH_SECONDS, KNOWN, REFRESH_SECONDS, World
from tests.processes import running, until

RATE = 100.0
#: Seconds of load in which several refreshes are published, and fresh answers become stale.
SECONDS = 3 * FRESH_SECONDS
#: Seconds for which answers are fresh beyond the moment at which Redis is asked again.
LONG_FRESH_SECONDS = 5.0
#: Seconds within which all is fresh again, including the start of a process.
RECOVERY_SECONDS = 20

by_an_hour = pytest.mark.parametrize("offset", [-HOUR, HOUR], ids=["an hour behind", "an hour ahead"])


@pytest.fixture(autouse=True)
def fresh_before_and_after(world: World) -> Iterator[None]:
    until(world.answers, seconds=RECOVERY_SECONDS)
    yield
    until(world.answers, seconds=RECOVERY_SECONDS)
    tidy_up()


@pytest.fixture
def folder(world: World) -> Path:
    return world.redis_server.folder.parent


def known_targets(world: World, ports: list[int] | None = None) -> Callable[[], tuple[int, str]]:
    """Return a source of requests to each process in turn, for all cached answers."""
    targets = [(port, target) for port in ports or world.ports for target in KNOWN]
    numbers = iter(range(10**9))
    return lambda: targets[next(numbers) % len(targets)]


def computed_at(reply: Reply) -> float:
    return datetime.fromisoformat(reply.metadata["computed_at"]).timestamp()


def backward_steps(replies: list[Reply]) -> list[str]:
    """Return which processes served older numbers after newer ones."""
    found = []
    newest: dict[tuple[int, str], tuple[float, float]] = {}
    for reply in sorted(replies, key=lambda reply: reply.sent_at):
        moment, known_at = newest.get((reply.port, reply.target), (0.0, 0.0))
        if computed_at(reply) < moment and known_at < reply.sent_at:
            found.append(f"{reply.port} {reply.target}: by {moment - computed_at(reply):.3f} s")
        if computed_at(reply) > moment:
            newest[reply.port, reply.target] = (computed_at(reply), reply.sent_at + reply.seconds)
    return found


def check(world: World, replies: list[Reply]) -> None:
    assert {reply.status for reply in replies} == {200}
    assert world.wrong_numbers(replies) == []
    assert backward_steps(replies) == []
    assert world.tracebacks() == []


def check_all_fresh(replies: list[Reply]) -> None:
    """Assert that the answers are current, and hits, except if a busy machine refreshed them too late."""
    stale = [reply.metadata for reply in replies if reply.metadata["cache"] != "hit"]
    assert len(stale) < len(replies) / 2, stale[:3]
    assert max(reply.sent_at - computed_at(reply) for reply in replies) < 4 * FRESH_SECONDS


@contextmanager
def worker_with(world: World, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Replace the worker by one with these additional environment variables."""
    kill_worker(world)
    right = world.env
    world.env = {**right, **environment}
    try:
        start_worker(world)
        yield
    finally:
        world.env = right
        kill_worker(world)
        start_worker(world)


def is_current(reply: Reply, offset: float) -> bool:
    """Return whether its numbers are current by a clock that is `offset` seconds ahead."""
    return abs(computed_at(reply) - reply.sent_at - offset) < 4 * FRESH_SECONDS


def later_than(moment: float) -> Callable[[Reply], bool]:
    return lambda reply: computed_at(reply) > moment


def hits(ports: list[int], that: Callable[[Reply], bool] = lambda _: True) -> bool:
    """Return whether these processes give all cached answers, with replies that satisfy `that`."""
    replies = asked([(port, target) for port in ports for target in KNOWN])
    return all(reply.status == 200 and reply.metadata["cache"] == "hit" and that(reply) for reply in replies)


def asked(requests: list[tuple[int, str]]) -> list[Reply]:
    """Return the replies to these requests, sent one after the other."""

    async def ask() -> list[Reply]:
        client = Client()
        replies = [await client.get(*request) for request in requests]
        await client.close()
        return replies

    return asyncio.run(ask())


def ready(world: World) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{world.ports[0]}/health/ready").json()
    return found


def test_a_redis_that_is_restored_from_an_old_dump_is_corrected_without_a_worker(
    world: World, folder: Path
) -> None:
    """Also by processes whose copies are still fresh when Redis is back, so that they compute nothing yet."""
    env = {**world.env, "CHAT_STATS_FRESH_SECONDS": str(LONG_FRESH_SECONDS)}
    until(lambda: time.time() - world.old_dump.stat().st_mtime > LONG_FRESH_SECONDS)
    with ExitStack() as stack:
        ports = [free_port(), free_port()]
        for port in ports:
            log = folder / f"service-{port}.log"
            stack.enter_context(running("serve", "--port", str(port), env=env, log=log))
        until(lambda: hits(ports), seconds=RECOVERY_SECONDS)
        with load(RATE, known_targets(world, ports)) as replies:
            time.sleep(0.5)
            kill_worker(world)
            try:
                restore_old_redis(world)
                restored_at = time.time()
                until(lambda: hits(ports, later_than(restored_at)), seconds=RECOVERY_SECONDS)
            finally:
                start_worker(world)
    check(world, replies)


@by_an_hour
def test_the_clock_of_a_worker_does_not_matter(world: World, folder: Path, offset: int) -> None:
    with worker_with(world, folder, wrong_clock(offset, folder)):
        started_at = time.time()
        until(lambda: hits(world.ports, later_than(started_at)), seconds=RECOVERY_SECONDS)
        with load(RATE, known_targets(world)) as replies:
            time.sleep(SECONDS)
        report = httpx.post(
            f"http://127.0.0.1:{world.ports[0]}/api/monitoring/refresh?wait=true",
            headers={"Authorization": "Bearer let-me-in"},
            timeout=30,
        ).json()["data"]["report"]
        assert report["published"]
        readiness = ready(world)
    check(world, replies)
    check_all_fresh(replies)
    published = {reply.metadata["generation"] for reply in replies}
    assert len(published) >= SECONDS / REFRESH_SECONDS / 2
    assert readiness["status"] == "ready"
    assert 0 <= readiness["last_refresh"]["age_seconds"] < 4 * FRESH_SECONDS


@by_an_hour
def test_the_clock_of_a_service_does_not_matter(world: World, folder: Path, offset: int) -> None:
    port = free_port()
    env = {**world.env, **wrong_clock(offset, folder)}
    log = folder / f"service{offset:+d}.log"
    with running("serve", "--port", str(port), env=env, log=log) as service:
        until(lambda: hits([port]), seconds=RECOVERY_SECONDS, what=service.output)
        with load(RATE, known_targets(world, [port, world.ports[0]])) as replies:
            time.sleep(SECONDS)
        target = world.new_target()
        mine, theirs = asked([(port, target), (world.ports[0], target)])
        assert "Traceback" not in service.output()
    check(world, replies)
    check_all_fresh(replies)
    now = time.time()
    for reply in (mine, theirs):
        assert abs(datetime.fromisoformat(reply.metadata["timestamp"]).timestamp() - now) < FRESH_SECONDS
    assert mine.metadata["cache"] == "miss"
    assert theirs.metadata["cache"] in ("hit", "stale")  # by the time, on a busy machine
    assert theirs.metadata["generation"] == mine.metadata["generation"]


@by_an_hour
def test_after_a_failover_of_postgres_all_processes_use_the_new_hosts_clock(
    world: World, folder: Path, offset: int
) -> None:
    environment = wrong_clock(offset, folder)
    try:
        with load(RATE, known_targets(world)) as replies:
            time.sleep(0.3)
            kill_postgres(world)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setitem(os.environ, name, value)
                start_postgres(world)
            until(
                lambda: hits(world.ports, lambda reply: is_current(reply, offset)), seconds=RECOVERY_SECONDS
            )
            recovered_at = time.time()
            time.sleep(SECONDS)
    finally:
        kill_postgres(world)
        start_postgres(world)
        # For the other drills, which count the requests of the last 24 hours.
        world.execute("UPDATE chat_completion_requests SET created_at = now() WHERE created_at > now()")
    assert {reply.status for reply in replies} == {200}
    for reply in replies:
        assert reply.metadata["cache_age_seconds"] >= 0
        if reply.sent_at > recovered_at:
            assert is_current(reply, offset)
            assert reply.metadata["cache_age_seconds"] < 4 * FRESH_SECONDS
    assert world.tracebacks() == []
