"""How a request finds its answer: cache, one computation, stale copies, outages."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from chat_stats.service.cache.entry import encode
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import (
    CacheUnavailable,
    DatabaseUnavailable,
    NotFound,
    SchemaError,
    StillComputing,
    Unavailable,
)
from chat_stats.service.stats import PROBE_SECONDS, Stats
from chat_stats.worker.local_servers import RedisServer, redis_server
from tests.conftest import SettingsFactory, make_settings
from tests.integration.conftest import Flow, OpenClient, OpenFlow, before_usage

COUNTS = Query("counts")
DEAD_REDIS = "redis://127.0.0.1:1/0"
DEAD_POSTGRES = "postgresql://user@127.0.0.1:1/none"


async def wait_for_background(stats: Stats) -> None:
    async with asyncio.timeout(5):
        while stats._computations._flights._flights:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_first_read_is_a_miss_and_the_next_a_hit_of_the_same_numbers(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    first = await flow.stats.read(COUNTS)
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    second = await flow.stats.read(COUNTS)
    assert (first.state, second.state) == (CacheState.MISS, CacheState.HIT)
    assert first.entry == second.entry
    assert (first.entry.totals["total_models"], first.entry.totals["total_requests"]) == (3, 6)


async def test_an_answer_that_one_process_computed_is_a_hit_in_another(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    computed = await flow.stats.read(COUNTS)
    other = await another_flow(flow.settings)
    answer = await other.stats.read(COUNTS)
    assert (answer.state, answer.entry) == (CacheState.HIT, computed.entry)


async def test_many_concurrent_requests_wait_for_one_computation(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(*(flow.stats.read(COUNTS) for _ in range(200)))
    assert len({answer.entry.generation for answer in answers}) == 1


async def test_a_client_that_disconnects_does_not_cancel_the_computation_for_others(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    impatient = asyncio.create_task(flow.stats.read(COUNTS))
    patient = asyncio.create_task(flow.stats.read(COUNTS))
    await asyncio.sleep(0.005)
    impatient.cancel()
    assert (await patient).entry.totals["total_requests"] == 6


async def test_an_answer_that_is_too_old_is_served_as_stale_and_recomputed_in_the_background(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(fresh_seconds=1))
    old = await flow.stats.read(COUNTS)
    await gateway.execute("INSERT INTO chat_completion_requests (model_id) VALUES (1)")
    await asyncio.sleep(1.05)
    stale = await flow.stats.read(COUNTS)
    assert (stale.state, stale.entry) == (CacheState.STALE, old.entry)
    await wait_for_background(flow.stats)
    fresh = await flow.stats.read(COUNTS)
    assert (fresh.state, fresh.entry.totals["total_requests"]) == (CacheState.HIT, 7)


async def test_an_answer_older_than_the_stale_time_is_not_served(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    entry = (await flow.stats.read(COUNTS)).entry
    lifetime = flow.settings.fresh_seconds + flow.settings.stale_seconds
    ancient = replace(entry, computed_at=datetime.now(UTC) - timedelta(seconds=lifetime + 1))
    await flow.cache.redis.delete(flow.cache.entry_key(COUNTS.key()))
    await flow.cache.store(COUNTS.key(), ancient)
    other = await another_flow(flow.settings)
    assert (await other.stats.read(COUNTS)).state is CacheState.MISS


async def test_a_process_asks_redis_once_per_local_cache_time(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(local_cache_seconds=30))
    await flow.stats.read(COUNTS)
    before = (await flow.cache.redis.info("commandstats"))["cmdstat_get"]["calls"]
    for _ in range(100):
        assert (await flow.stats.read(COUNTS)).state is CacheState.HIT
    assert (await flow.cache.redis.info("commandstats"))["cmdstat_get"]["calls"] == before


@pytest.mark.parametrize(
    "query", [COUNTS, Query("counts", TimeRange(start=datetime(2020, 1, 1, tzinfo=UTC)))]
)
async def test_of_a_large_answer_that_is_still_the_same_only_the_head_is_read(
    gateway: asyncpg.Connection, another_flow: OpenFlow, settings_with: SettingsFactory, query: Query
) -> None:
    flow = await another_flow(settings_with(local_cache_seconds=0))
    redis, key = flow.cache.redis, flow.cache.entry_key(query.key())
    entry = replace((await flow.stats.read(query)).entry, body=b'"' + b"x" * 1_000_000 + b'"')
    await redis.set(key, encode(entry))
    assert (await flow.stats.read(query)).entry == entry

    async def sent() -> int:
        return int((await redis.info("stats"))["total_net_output_bytes"])

    before = await sent()
    answers = [await flow.stats.read(query) for _ in range(10)]
    assert await sent() - before < 1_000_000
    assert all((answer.state, answer.entry) == (CacheState.HIT, entry) for answer in answers)
    changed = replace(entry, body=entry.body.replace(b"x", b"y"), generation="later")
    await redis.set(key, encode(changed))
    assert (await flow.stats.read(query)).entry == changed
    await redis.set(key, encode(changed)[:-1])  # damaged
    assert (await flow.stats.read(query)).state is CacheState.MISS


async def test_without_redis_answers_are_computed_live(
    database_url: str, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(make_settings(database_url, DEAD_REDIS))
    answer = await flow.stats.read(COUNTS)
    assert answer.state is CacheState.BYPASS
    assert answer.entry.totals["total_requests"] == 6


async def test_when_redis_goes_down_the_last_copy_is_served(
    database_url: str, gateway: asyncpg.Connection, another_flow: OpenFlow, redis: RedisServer
) -> None:
    flow = await another_flow(make_settings(database_url, redis.url))
    known = await flow.stats.read(COUNTS)
    without = await another_flow(make_settings(DEAD_POSTGRES, DEAD_REDIS))
    without.stats._local.put(COUNTS.key(), known.entry)
    answer = await without.stats.read(COUNTS)
    assert (answer.state, answer.entry) == (CacheState.HIT, known.entry)


async def test_without_postgres_answers_come_from_the_cache(
    settings: object, flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    known = await flow.stats.read(COUNTS)
    broken = flow.settings.model_copy(
        update={"database_url": make_settings(DEAD_POSTGRES, DEAD_REDIS).database_url}
    )
    without = await another_flow(broken)
    assert (await without.stats.read(COUNTS)).entry == known.entry
    with pytest.raises(DatabaseUnavailable):
        await without.stats.read(Query("providers"))


async def test_with_neither_redis_nor_postgres_it_says_so_at_once(another_flow: OpenFlow) -> None:
    flow = await another_flow(make_settings(DEAD_POSTGRES, DEAD_REDIS))
    async with asyncio.timeout(2):
        with pytest.raises(Unavailable):
            await flow.stats.read(COUNTS)


async def test_a_failure_is_never_cached(flow: Flow, gateway: asyncpg.Connection) -> None:
    await gateway.execute("ALTER TABLE chat_completion_requests RENAME TO elsewhere")
    with pytest.raises(SchemaError, match="chat_completion_requests"):
        await flow.stats.read(COUNTS)
    await gateway.execute("ALTER TABLE elsewhere RENAME TO chat_completion_requests")
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry.totals["total_requests"]) == (CacheState.MISS, 6)


async def test_a_locked_table_is_an_outage_and_not_a_reason_for_costlier_queries(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(connect_timeout_seconds=0.3))
    async with gateway.transaction():
        await gateway.execute("LOCK TABLE chat_completion_requests")
        with pytest.raises(Unavailable, match="locked"):
            await flow.stats.read(COUNTS)
    assert (await flow.stats.read(COUNTS)).entry.method == "rpc"


async def test_a_lost_connection_is_an_outage_and_the_next_read_works(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    function = await before_usage(gateway, "pg_terminate_backend(pg_catalog.pg_backend_pid())")
    with pytest.raises(DatabaseUnavailable):
        await flow.stats.read(COUNTS)
    await gateway.execute(function)
    assert (await flow.stats.read(Query("providers"))).entry.method == "rpc"


async def hold_counts(gateway: asyncpg.Connection) -> None:
    """Make the counts wait until this connection releases lock 42."""
    await before_usage(gateway, "pg_advisory_xact_lock_shared(42)")
    await gateway.execute("SELECT pg_advisory_lock(42)")


async def test_a_request_that_waits_too_long_is_a_503_and_the_next_gets_the_answer(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(answer_timeout_seconds=0.2))
    await hold_counts(gateway)
    outcomes = await asyncio.gather(*(flow.stats.read(COUNTS) for _ in range(3)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StillComputing}
    await gateway.execute("SELECT pg_advisory_unlock(42)")
    await wait_for_background(flow.stats)
    answer = await flow.stats.read(COUNTS)
    assert (answer.state, answer.entry.method) == (CacheState.HIT, "rpc")


async def test_a_slow_answer_within_the_time_is_waited_for(flow: Flow, gateway: asyncpg.Connection) -> None:
    await hold_counts(gateway)
    reading = asyncio.create_task(flow.stats.read(COUNTS))
    await asyncio.sleep(2 * PROBE_SECONDS)
    await gateway.execute("SELECT pg_advisory_unlock(42)")
    answer = await reading
    assert (answer.state, answer.entry.method) == (CacheState.MISS, "rpc")


async def test_a_slow_answer_over_http_is_a_503_with_retry_after(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(answer_timeout_seconds=0.2))
    await hold_counts(gateway)
    for _ in range(2):  # by the route, and by the fast path
        response = await client.get("/chat-requests/counts")
        assert (response.status_code, response.json()["title"]) == (503, "Still computing")
        assert int(response.headers["retry-after"]) > 0


async def test_live_computations_are_capped(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(max_live_computations=2))
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(
                most,
                await gateway.fetchval(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE application_name = 'test' AND datname = current_database() AND state <> 'idle'"
                ),
            )

    watcher = asyncio.create_task(watch())
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ranges = [TimeRange(None, start + timedelta(days=day)) for day in range(60)]
    await asyncio.gather(*(flow.stats.read(Query("counts", range_)) for range_ in ranges))
    watcher.cancel()
    assert 1 <= most <= 2 + 1  # waiting requests probe the database


async def test_many_fallbacks_at_once_share_the_connections_and_all_succeed(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    await gateway.execute("DROP FUNCTION get_model_request_counts")
    await gateway.execute(
        "CREATE ROLE counter LOGIN PASSWORD 'counter';"
        "GRANT SELECT ON providers, models TO counter;"
        "GRANT SELECT (id, model_id, created_at) ON chat_completion_requests TO counter"
    )
    try:
        settings = settings_with(max_live_computations=8)
        url = httpx.URL(settings.database_url.get_secret_value()).copy_with(
            username="counter", password="counter"
        )
        flow = await another_flow(settings.model_copy(update={"database_url": SecretStr(str(url))}))
        start = datetime(2026, 1, 1, tzinfo=UTC)
        ranges = [TimeRange(None, start + timedelta(days=day)) for day in range(24)]
        answers = await asyncio.gather(*(flow.stats.read(Query("counts", range_)) for range_ in ranges))
        assert {answer.entry.method for answer in answers} == {"fallback_with_counts"}
        await flow.database.close()
    finally:
        await gateway.execute("DROP OWNED BY counter; DROP ROLE counter")


async def test_a_failing_computation_is_not_retried_with_each_request(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(settings_with(fresh_seconds=0.1))
    await flow.stats.read(COUNTS)
    await asyncio.sleep(0.15)
    await gateway.execute("ALTER TABLE models RENAME TO elsewhere")
    generations = flow.stats._computations._retries
    for _ in range(50):
        assert (await flow.stats.read(COUNTS)).state is CacheState.STALE
        await wait_for_background(flow.stats)
    assert generations._failures[COUNTS.key()][0] == 1


async def test_an_answer_from_the_future_is_stale(
    flow: Flow, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    entry = (await flow.stats.read(COUNTS)).entry
    ahead = replace(entry, computed_at=datetime.now(UTC) + timedelta(hours=1))
    await flow.cache.redis.set(flow.cache.entry_key(COUNTS.key()), encode(ahead))
    other = await another_flow(flow.settings)
    assert (await other.stats.read(COUNTS)).state is CacheState.STALE


async def test_answers_on_demand_are_kept_briefly(flow: Flow, gateway: asyncpg.Connection) -> None:
    made_up = [Query("counts", TimeRange("180d")), Query("summary", model_name="made up")]
    for query in [COUNTS, *made_up]:
        await flow.stats.read(query)
    lifetimes = [
        await flow.cache.redis.ttl(flow.cache.entry_key(query.key())) for query in [COUNTS, *made_up]
    ]
    assert lifetimes[0] > 86400
    assert max(lifetimes[1:]) <= flow.settings.fresh_seconds + 600


async def test_a_full_redis_fails_no_answer_and_its_log_line_holds_no_data(
    database_url: str,
    gateway: asyncpg.Connection,
    another_flow: OpenFlow,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = redis_server(tmp_path / "redis")
    full.options.update({"maxmemory": "1", "maxmemory-policy": "noeviction"})
    full.start()
    try:
        flow = await another_flow(make_settings(database_url, full.url))
        first, second = await flow.stats.read(COUNTS), await flow.stats.read(COUNTS)
        assert (first.state, first.stored) == (CacheState.MISS, False)
        assert (second.state, second.entry) == (CacheState.HIT, first.entry)  # this process's own copy
        await flow.stats.read(Query("providers"))
        assert caplog.text.count("Redis refuses to store answers") == 1
        assert "Alpha" not in caplog.text
        with pytest.raises(CacheUnavailable, match="has no memory left"):
            await flow.stats.refresh()
    finally:
        full.stop()


async def test_requests_for_unknown_models_leave_nothing_in_redis(
    flow: Flow, gateway: asyncpg.Connection
) -> None:
    for model_id in range(1000, 1020):
        with pytest.raises(NotFound):
            await flow.stats.read(Query("model", model_id=str(model_id)))
    assert flow.stats._computations._retries._failures == {}
    assert flow.stats._computations._flights._flights == {}
