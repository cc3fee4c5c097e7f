"""A refresh: one snapshot, one generation, all at once."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.cache.publication import Publication
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import NotFound, RefreshRunning
from chat_stats.service.queue import connect_queue
from chat_stats.worker import tasks
from chat_stats.worker.local_servers import RedisServer
from chat_stats.worker.main import _announce_windows, scheduled_refresh
from tests.conftest import SettingsFactory, make_settings
from tests.integration.conftest import Flow, OpenFlow, before_usage

WINDOWS = ("24h", "all")


@pytest.fixture
async def flow(settings_with: SettingsFactory, another_flow: OpenFlow) -> Flow:
    return await another_flow(settings_with(windows=WINDOWS))


async def read(flow: Flow, query: Query) -> Any:
    answer = await flow.stats.read(query)
    assert answer.state is CacheState.HIT, query
    return orjson.loads(answer.entry.body)


async def test_after_a_refresh_every_precomputed_answer_is_a_hit(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    await flow.stats.refresh()
    for window in WINDOWS:
        range_ = TimeRange(window)
        for name in ("providers", "models", "counts", "summary"):
            await read(flow, Query(name, range_))
        for provider_id in ("1", "2", "3"):
            await read(flow, Query("models", range_, provider_id=provider_id))
        for model_id in ("1", "2"):
            await read(flow, Query("model", range_, model_id=model_id))


async def test_what_is_cut_from_the_rows_of_all_equals_what_the_database_filters(
    flow: Flow, gateway: asyncpg.Connection, settings_with: SettingsFactory, another_flow: OpenFlow
) -> None:
    await flow.stats.refresh()
    live = await another_flow(settings_with(windows="24h"))  # which does not keep the rows of all time
    queries = [Query("models", provider_id=str(i)) for i in (1, 2, 3)]
    queries += [Query("model", model_id=str(i)) for i in (1, 2, 3, 4)]
    for query in queries:
        answer = await live.stats.read(query)
        assert answer.state is CacheState.MISS
        assert answer.entry.body == (await flow.stats.read(query)).entry.body, query


async def test_all_answers_of_a_generation_add_up_while_requests_are_written(
    flow: Flow, gateway: asyncpg.Connection, database_url: str
) -> None:
    writer = await asyncpg.connect(database_url)

    async def write() -> None:
        while True:
            await writer.execute(
                "INSERT INTO chat_completion_requests (model_id, input_tokens, output_tokens) "
                "SELECT 1 + n % 3, n, 1 FROM generate_series(1, 7) AS n"
            )

    writing = asyncio.create_task(write())
    seen = set()
    for _ in range(5):
        report = await flow.refresh()
        totals = set()
        for window in WINDOWS:
            range_ = TimeRange(window)
            providers, models = (
                await read(flow, Query("providers", range_)),
                await read(flow, Query("models", range_)),
            )
            counts, summary = (
                await read(flow, Query("counts", range_)),
                await read(flow, Query("summary", range_)),
            )
            totals = {
                sum(row["total_requests"] for row in providers),
                sum(row["stats"]["total_requests"] for row in models),
                sum(row["request_count"] for row in counts),
                summary["total_requests"],
            }
            assert len(totals) == 1
            assert sum(row["stats"]["total_tokens"] for row in models) == summary["total_tokens"]
        seen |= totals
        generations = {entry.generation for entry in (await flow.cache.entries()).values()}
        assert generations == {report.generation}
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await writer.close()
    assert len(seen) > 1  # requests were written during the refreshes


async def test_a_refresh_replaces_older_numbers_at_once(flow: Flow, gateway: asyncpg.Connection) -> None:
    await flow.stats.refresh()
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (4)")
    report = await flow.refresh()
    answer = await flow.stats.read(Query("counts"))
    assert answer.entry.generation == report.generation
    assert (answer.entry.totals["total_models"], answer.entry.totals["total_requests"]) == (4, 7)


async def test_deleted_models_and_providers_are_gone_after_a_refresh(
    flow: Flow, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.stats.LOST_PATIENCE_SECONDS", 20)  # however busy the machine
    of_model, of_provider = Query("model", model_id="3"), Query("models", provider_id="2")
    await flow.stats.refresh()
    assert len(await read(flow, of_provider)) == 1
    await gateway.execute("DELETE FROM models WHERE id = 3; DELETE FROM providers WHERE id = 2")
    await flow.stats.refresh(["summary"])
    await read(flow, of_model)  # the partial refresh did not change it
    await flow.stats.refresh()
    with pytest.raises(NotFound):
        await flow.stats.read(of_model)
    assert orjson.loads((await flow.stats.read(of_provider)).entry.body) == []
    await read(flow, Query("model", model_id="1"))


async def test_a_partial_refresh_touches_nothing_else(flow: Flow, gateway: asyncpg.Connection) -> None:
    whole = await flow.refresh()
    part = await flow.refresh(["counts"], ["24h"])
    by_key = {key: entry.generation for key, entry in (await flow.cache.entries()).items()}
    assert by_key.pop(Query("counts", TimeRange("24h")).key()) == part.generation
    assert set(by_key.values()) == {whole.generation}
    last = await Publication(flow.cache).last_generation()
    assert last is not None
    assert last.generation == whole.generation


async def test_two_refreshes_of_one_cache_do_not_overlap(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    other = await another_flow(flow.settings)
    async with flow.database.lock(flow.cache.name):
        with pytest.raises(RefreshRunning):
            await other.stats.refresh()
    assert (await other.refresh()).published


async def test_caches_with_different_prefixes_refresh_side_by_side(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow, settings_with: SettingsFactory
) -> None:
    other = await another_flow(settings_with())
    async with flow.database.lock(flow.cache.name):
        assert (await other.refresh()).published


async def test_a_refresh_by_fallback_says_so_in_its_report_and_entries(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    await gateway.execute("DROP FUNCTION get_models_with_requests")
    report = await flow.refresh()
    methods = {(result.aggregation, result.method) for result in report.results}
    assert ("models", "fallback_optimized") in methods
    assert ("counts", "rpc") in methods
    answer = await flow.stats.read(Query("model", model_id="1"))
    assert answer.entry.method == "fallback_optimized"


async def test_an_aggregation_that_times_out_keeps_its_older_entry(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    patient = await another_flow(settings_with(windows="all"))
    whole = await patient.refresh()
    flow = await another_flow(patient.settings.model_copy(update={"refresh_timeout_seconds": 0.3}))
    # A view in place of the table is slower than any method's time-out.
    await gateway.execute("""
        DROP FUNCTION get_model_request_counts;
        ALTER TABLE chat_completion_requests RENAME TO elsewhere;
        CREATE VIEW chat_completion_requests AS SELECT * FROM elsewhere WHERE pg_sleep(1) IS NOT NULL;
    """)
    report = await flow.refresh(["counts"])
    assert [result.error for result in report.failed] == ["no method could compute this in time"]
    assert (await flow.stats.read(Query("counts"))).entry.generation == whole.generation


async def test_a_scheduled_refresh_is_skipped_when_one_has_just_taken_place(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    assert await tasks.refresh_when_due(flow.settings, flow.stats) is not None
    assert await tasks.refresh_when_due(flow.settings, flow.stats) is None


async def test_a_refresh_that_waits_for_the_database_says_so_once_and_not_at_each_attempt(
    redis: RedisServer, another_flow: OpenFlow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    flow = await another_flow(make_settings("postgresql://user@127.0.0.1:1/none", redis.url))
    report = await tasks.refresh_on_request(flow.settings, flow.stats, retry_seconds=2)
    assert "cannot be reached" in report["error"]
    [told] = [text for text in caplog.messages if text.startswith("the refresh waits")]
    assert told.startswith("the refresh waits, and is tried again for 2 s: the database cannot be reached")


async def test_a_partial_refresh_does_not_delay_the_scheduled_one(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    await flow.stats.refresh(["counts"])
    assert await tasks.refresh_when_due(flow.settings, flow.stats) is not None


async def test_every_method_and_a_refresh_give_the_same_bytes(
    flow: Flow, gateway: asyncpg.Connection, settings_with: SettingsFactory, another_flow: OpenFlow
) -> None:
    queries = [
        Query("providers"),
        Query("models"),
        Query("counts"),
        Query("summary"),
        Query("model", model_id="1"),
    ]
    await flow.stats.refresh()
    refreshed = [(await flow.stats.read(query)).entry.etag for query in queries]
    live = await another_flow(settings_with())
    assert [(await live.stats.read(query)).entry.etag for query in queries] == refreshed
    await gateway.execute(
        "DROP FUNCTION get_provider_request_stats, get_models_with_requests, get_model_request_counts, "
        "get_chat_request_summary, get_model_request_stats"
    )
    by_fallback = await another_flow(settings_with())
    assert [(await by_fallback.stats.read(query)).entry.etag for query in queries] == refreshed


async def test_an_answer_that_is_older_than_a_refresh_is_no_longer_served(
    flow: Flow, gateway: asyncpg.Connection, settings_with: SettingsFactory, another_flow: OpenFlow
) -> None:
    slow = await another_flow(flow.settings.model_copy(update={"local_cache_seconds": 30}))
    await gateway.execute("SELECT pg_advisory_lock(42)")
    function = await before_usage(gateway, "pg_advisory_xact_lock_shared(42)")
    reading = asyncio.create_task(slow.stats.read(Query("counts")))
    while not await gateway.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await gateway.execute(function)
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    report = await flow.refresh()
    await gateway.execute("SELECT pg_advisory_unlock(42)")
    await reading
    answer = await slow.stats.read(Query("counts"))
    assert (answer.entry.generation, answer.entry.totals["total_requests"]) == (report.generation, 7)


async def test_workers_with_different_windows_refresh_each_set_and_no_window_twice(
    settings_with: SettingsFactory, another_flow: OpenFlow, gateway: asyncpg.Connection
) -> None:
    one = await another_flow(settings_with(windows=("1h", "24h")))
    other = await another_flow(settings_with(windows=("24h", "7d"), cache_prefix=one.settings.cache_prefix))
    first = await tasks.refresh_when_due(one.settings, one.stats)
    second = await tasks.refresh_when_due(other.settings, other.stats)
    assert first is not None
    assert second is not None
    assert {result.window for result in first.results} == {"1h", "24h"}
    assert {result.window for result in second.results} == {"7d"}
    assert await tasks.refresh_when_due(one.settings, one.stats) is None
    assert await tasks.refresh_when_due(other.settings, other.stats) is None


async def test_the_worker_that_runs_a_scheduled_refresh_does_so_for_the_windows_of_all(
    settings_with: SettingsFactory, another_flow: OpenFlow, gateway: asyncpg.Connection
) -> None:
    one = await another_flow(settings_with(windows=("1h",)))
    other = settings_with(windows=("7d",), cache_prefix=one.settings.cache_prefix)
    queue = connect_queue(other)
    await _announce_windows(queue, other)
    ctx = {"settings": one.settings, "stats": one.stats, "redis": queue, "refreshing": asyncio.Lock()}
    await scheduled_refresh(ctx)
    await queue.aclose(close_connection_pool=True)
    for window in ("1h", "7d"):
        await read(one, Query("counts", TimeRange(window)))
