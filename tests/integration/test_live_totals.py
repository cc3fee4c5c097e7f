"""Totals between two refreshes: what is published, and when nothing is."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.service.cache import watched
from chat_stats.service.cache.entry import Generation
from chat_stats.service.cache.publication import Prepared, Publication
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.live_totals import LiveTotals
from tests.integration.conftest import Flow, OpenClient
from tests.integration.test_events import Listener, app_of, listening

KEPT = ("summary", "providers", "models", "counts")
ADD = "INSERT INTO chat_completion_requests (model_id, status) VALUES (1, 'completed')"


@pytest.fixture
async def watching(
    gateway: asyncpg.Connection,
    client_of: OpenClient,
    settings: Settings,
    flow: Flow,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """A client that listens to events and looks at all time, over a database whose rollup is on."""
    monkeypatch.setattr(watched, "TELL_SECONDS", 0.05)
    await Rollup(gateway).enable(lambda _requests: None)
    await flow.refresh()
    client = await client_of(settings)
    async with listening(app_of(client)) as listen:
        listener = await listen()
        await listener.until(lambda it: it.events)  # from now on it hears of what is published
        await client.get("/chat-requests/summary")
        async with asyncio.timeout(30):
            while "all" not in await flow.stats.watched.windows():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield client, listener


async def metadata(client: httpx.AsyncClient, path: str, **parameters: str) -> dict[str, Any]:
    answer = await client.get(f"/chat-requests/{path}", params=parameters)
    found: dict[str, Any] = answer.json()["metadata"]
    return found


async def test_what_is_counted_is_published_at_once_for_the_windows_that_clients_watch(
    watching: tuple[httpx.AsyncClient, Listener], flow: Flow, gateway: asyncpg.Connection
) -> None:
    client, listener = watching
    assert await flow.stats.publish_totals() is None  # nothing is new
    refreshed = await Publication(flow.cache).last_generation()
    series = await metadata(client, "timeseries")

    await gateway.execute(ADD)
    report = await flow.stats.publish_totals()
    assert report is not None
    assert report.published
    assert report.failed == []
    assert {(result.aggregation, result.window) for result in report.results} == {
        (name, "all") for name in KEPT
    }
    for path in KEPT:
        found = await metadata(client, path)
        assert (found["generation"], found["cache"], found["method"]) == (report.generation, "hit", "rpc")
    assert (await client.get("/chat-requests/summary")).json()["data"]["total_requests"] == 7
    assert (await metadata(client, "counts"))["total_requests"] == 7
    # An unwatched window, and what the worker does not keep computed, wait for the refresh.
    assert (await metadata(client, "summary", window="24h"))["generation"] != report.generation
    assert (await metadata(client, "timeseries")) | {"timestamp": 0, "cache_age_seconds": 0} == series | {
        "cache": "hit",
        "timestamp": 0,
        "cache_age_seconds": 0,
    }
    assert await Publication(flow.cache).last_generation() == refreshed

    await listener.until(lambda it: it.of("totals"))
    [event] = listener.of("totals")
    assert (event["generation"], event["windows"]) == (report.generation, ["all"])
    assert [event["generation"] for event in listener.of("generation")] == [refreshed.generation]  # type: ignore[union-attr]

    assert await flow.stats.publish_totals() is None  # it waits to be folded, and is published
    await Rollup(gateway).fold()
    flow.stats.changes.folded(flow.database.clock.now())
    assert await flow.stats.publish_totals() is not None  # it may have come after the last publication
    assert await flow.stats.publish_totals() is None


async def test_nothing_is_computed_during_a_refresh_or_while_no_client_listens_or_functions_scan(
    watching: tuple[httpx.AsyncClient, Listener],
    flow: Flow,
    gateway: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await gateway.execute(ADD)
    async with flow.database.lock(flow.cache.name):
        assert await flow.stats.publish_totals() is None
        async with flow.database.snapshot(wait_seconds=5) as snapshot:
            assert await flow.database.is_locked(flow.cache.name, snapshot)
            snapshot.of_standby = True
            assert await flow.database.is_locked(flow.cache.name, snapshot)
            assert not await flow.database.is_locked("another cache", snapshot)
    monkeypatch.setattr(watched, "LISTENING_SECONDS", -1.0)
    assert await flow.stats.publish_totals() is None
    monkeypatch.undo()
    await gateway.execute("UPDATE chat_stats_rollup_state SET ready = false")
    assert await flow.stats.publish_totals() is None
    await gateway.execute("UPDATE chat_stats_rollup_state SET ready = true")
    assert await flow.stats.publish_totals() is not None
    await gateway.execute(f"{ADD}; DROP TABLE chat_stats_deltas")
    assert await flow.stats.publish_totals() is None


async def test_older_totals_replace_nothing_that_is_newer(flow: Flow, gateway: asyncpg.Connection) -> None:
    await flow.refresh()
    publication = Publication(flow.cache)
    last = await publication.last_generation()
    assert last is not None
    key = Query("summary", TimeRange("all")).key()
    current = await flow.cache.get(key)
    assert current is not None

    async def publish(seconds: float) -> bool:
        moment = last.computed_at + timedelta(seconds=seconds)
        generation = Generation(f"of {seconds}", moment, 0.0, 1, 0, totals=("all",))
        async with publication.prepare(generation.generation) as prepared:
            await prepared.add(key, replace(current, computed_at=moment, generation=generation.generation))
            return await prepared.publish(generation, of_everything=False)

    async def stored() -> str:
        entry = await flow.cache.get(key)
        assert entry is not None
        return entry.generation

    assert not await publish(-1)
    assert await stored() == last.generation
    assert await publish(2)
    await publish(1)  # of another worker, which was delayed
    assert await stored() == "of 2"


async def test_costly_totals_come_less_often(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def slowly() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.5)

    monkeypatch.setattr(flow.stats, "publish_totals", slowly)
    live = LiveTotals(flow.stats, interval_seconds=0.1)
    for _ in range(20):
        await live.publish_when_due()
    assert calls == 1


async def test_totals_that_take_longer_than_an_interval_are_computed_once_at_a_time(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    done = asyncio.Event()

    async def slowly() -> None:
        nonlocal calls
        calls += 1
        await done.wait()

    monkeypatch.setattr(flow.stats, "publish_totals", slowly)
    live = LiveTotals(flow.stats, interval_seconds=0.1)
    first = asyncio.create_task(live.publish_when_due())
    await asyncio.sleep(0.3)
    async with asyncio.timeout(30):
        assert await live.publish_when_due() is None
    done.set()
    await first
    assert calls == 1


async def test_totals_that_a_computation_came_before_are_published_the_next_time(
    watching: tuple[httpx.AsyncClient, Listener],
    flow: Flow,
    gateway: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = Query("summary", TimeRange("all")).key()
    newer_than = Prepared._newer_than

    async def beside_a_computation(self: Prepared, moment: datetime) -> set[str]:
        entry = await flow.cache.get(key)
        assert entry is not None
        await flow.cache.store(key, replace(entry, computed_at=moment), lifetime_seconds=None)
        return await newer_than(self, moment)

    await gateway.execute(ADD)
    with monkeypatch.context() as patch:
        patch.setattr(Prepared, "_newer_than", beside_a_computation)
        report = await flow.stats.publish_totals()
    assert report is not None
    assert not report.published
    report = await flow.stats.publish_totals()
    assert report is not None
    assert report.published


async def test_a_window_that_is_asked_for_while_others_are_told_is_told_next(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched_windows = flow.stats.watched
    redis = flow.cache.redis
    zadd = redis.zadd

    async def beside_a_request(*arguments: Any) -> Any:
        watched_windows.note("24h")
        return await zadd(*arguments)

    watched_windows.note("all")
    with monkeypatch.context() as patch:
        patch.setattr(redis, "zadd", beside_a_request)
        await watched_windows._tell(True)
    await watched_windows._tell(True)
    assert await watched_windows.windows() == {"all", "24h"}


async def test_what_only_a_scan_can_tell_is_left_to_the_refresh(
    watching: tuple[httpx.AsyncClient, Listener], flow: Flow, gateway: asyncpg.Connection
) -> None:
    client, listener = watching
    refreshed = (await metadata(client, "counts"))["generation"]
    await gateway.execute(f"{ADD}; DROP FUNCTION get_model_request_counts")
    report = await flow.stats.publish_totals()
    assert report is not None
    assert {result.aggregation for result in report.failed} == {"counts"}
    assert (await metadata(client, "counts"))["generation"] == refreshed
    assert (await metadata(client, "summary"))["generation"] == report.generation
    for name in KEPT[:-1]:
        await gateway.execute(f"DROP FUNCTION {AGGREGATIONS[name].function}")
    await gateway.execute(ADD)
    with pytest.raises(SchemaError, match="refresh"):
        await flow.stats.publish_totals()
    assert (await metadata(client, "summary"))["generation"] == report.generation
    await listener.until(lambda it: it.of("totals"))
    assert [event["generation"] for event in listener.of("totals")] == [report.generation]


async def test_a_client_that_comes_after_the_next_refresh_hears_of_that_alone(
    watching: tuple[httpx.AsyncClient, Listener], flow: Flow, gateway: asyncpg.Connection
) -> None:
    client, listener = watching
    await gateway.execute(ADD)
    assert await flow.stats.publish_totals() is not None
    await listener.until(lambda it: it.of("totals"))
    refreshed = await flow.refresh()
    await listener.until(lambda it: it.events[-1]["generation"] == refreshed.generation)
    async with listening(app_of(client)) as listen:
        later = await listen()
        await later.until(lambda it: it.of("generation"))
        assert [event["generation"] for event in later.of("generation")] == [refreshed.generation]
        assert later.of("totals") == []
