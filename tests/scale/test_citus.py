"""On Citus, with the requests distributed by model: every answer is that of one Postgres with the same rows,
by scan and with the rollup, and a rollup that would miss writes is refused.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml
from asgi_lifespan import LifespanManager

from chat_stats.service.app import create_app
from chat_stats.service.errors import DatabaseBusy, SchemaError
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import _create_database, _drop_database, make_settings, run_migrations
from tests.integration.conftest import open_flow
from tests.processes import chat_stats, environment
from tests.questions import recount
from tests.questions.conftest import COLUMNS, DIMENSIONS, tags
from tests.scale.citus import DISTRIBUTE, TABLES, Cluster, run
from tests.scale.generations import GENERATIONS, SETTINGS, assert_adds_up, counted, writers

#: The first test may have to build Citus, on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
REQUESTS = 4000
DAYS = 9
_numbers = count(1)

#: Answers of functions, of which the metadata says so.
BY_RPC = (
    "/chat-requests/providers",
    "/chat-requests/models",
    "/chat-requests/models?provider_id=1",
    "/chat-requests/models/1",
    "/chat-requests/counts",
    "/chat-requests/counts?{range}",
    "/chat-requests/summary",
    "/chat-requests/summary?{range}",
    "/chat-requests/timeseries?bucket=1d&group_by=model&timezone=Asia/Kathmandu&{range}",
    "/chat-requests/timeseries?bucket=1h&{range}",
    "/chat-requests/timeseries?bucket=1w&group_by=provider&{range}",
)
BY_STATEMENT = (
    "/chat-requests/providers?status=failed",
    "/chat-requests/summary?status=completed&{range}",
    "/chat-requests/models?user_id=u1",
    "/chat-requests/timeseries?bucket=1d&user_id=u1&{range}",
    "/chat-requests?limit=50",
    "/chat-requests?status=failed&{range}",
    "/chat-requests?model_id=1&limit=5&offset=3",
    "/chat-requests?provider_id=2&order_by=created_at",
    "/chat-requests?model_name=a",
    "/chat-requests?model_id=unresolved&limit=2000",
    "/chat-requests?user_id=u1",
    "/chat-requests/plot-data?points=5000",
    "/chat-requests/plot-data?points=100",
    "/chat-requests/plot-data?points=50&model_id=1&{range}",
    "/chat-requests/plot-data?points=50&model_id=unresolved",
    "/chat-requests/plot-data?points=200&provider_id=1&status=completed",
    "/chat-requests/query?group_by=user_id&measures=total_requests,total_cost_usd,p95_processing_time_ms&limit=5",
    "/chat-requests/query?group_by=model_id,team&measures=total_requests,success_rate&bucket=1d&{range}",
    "/chat-requests/query?group_by=error_kind&measures=failed_requests,avg_processing_time_ms",
    "/chat-requests/query?group_by=provider_id&error_kind=rate_limited",
    "/chat-requests/query?group_by=key_id&compare=previous&{range}",
    "/chat-requests/dimensions",
    "/chat-requests/dimensions?name=user_id&prefix=u1",
)
#: Of the metadata, what the moment of the answer decides.
MOMENTARY = {"timestamp", "computed_at", "compute_ms", "generation", "cache_age_seconds", "next_cursor"}

#: What dashboards call without chat-stats.
CALLS = (
    "get_provider_request_stats()",
    "get_models_with_requests()",
    "get_models_with_requests_by_provider(1)",
    "get_model_request_stats(1)",
    "get_model_request_counts()",
    "get_chat_request_summary()",
    "get_chat_request_percentiles('model')",
    "get_chat_request_timeseries('1d', 'model', 'Europe/Berlin', '{start}', '{end}')",
    "get_chat_request_stats('{{model_id}}', '{{\"model_id\": [1, 2]}}', '{start}')",
    "get_chat_request_stats('{{error_kind,model_id}}')",
    "get_chat_request_stats('{{status}}', '{{}}', '{start}', '{end}', '1d')",
)


@pytest.fixture
async def alone(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of the same on one Postgres."""
    name = await _create_database(postgres)
    await run(postgres.url(name), TABLES)
    await run_migrations(postgres.url(name))
    yield postgres.url(name)
    await _drop_database(postgres, name)


@pytest.fixture(params=["scan", "rollup"])
async def pair(distributed: str, alone: str, request: pytest.FixtureRequest) -> list[str]:
    """Both, with the same requests: by scan, or with the rollup on and some of it in batches and in none."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    made = recount.random_requests(random.Random(11), REQUESTS, end - timedelta(days=DAYS), DAYS)  # noqa: S311
    for url in (distributed, alone):
        requests = [replace(each, model_id=each.model_id or 77) for each in made]
        await fill(url, requests[: REQUESTS // 2])
        if request.param == "rollup":
            async with open_rollup(make_settings(url, "redis://127.0.0.1:1/0")) as rollup:
                await rollup.enable(lambda _requests: None)
                await add_requests(url, REQUESTS // 2, requests[REQUESTS // 2 : -REQUESTS // 4])
                await rollup.fold()
                await add_requests(url, REQUESTS * 3 // 4, requests[-REQUESTS // 4 :])
        else:
            await add_requests(url, REQUESTS // 2, requests[REQUESTS // 2 :])
    return [distributed, alone]


async def fill(url: str, requests: list[recount.Request]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.executemany(
            "INSERT INTO providers (id, name, slug) VALUES ($1, $2, $3)",
            [(id_, name, name.lower()) for id_, name in recount.PROVIDERS.items()],
        )
        await connection.executemany(
            "INSERT INTO models (id, model_name, provider_id) VALUES ($1, $2, $3)",
            [
                (id_, name, provider if provider in recount.PROVIDERS else None)
                for id_, (name, provider) in recount.MODELS.items()
            ],
        )
    finally:
        await connection.close()
    await add_requests(url, 0, requests)


async def add_requests(url: str, first: int, requests: list[recount.Request]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.copy_records_to_table(
            "chat_completion_requests",
            columns=("id", *COLUMNS),
            records=[
                (
                    number,
                    *(
                        {"number": each.key_id, "tags": tags(each)}.get(name) or getattr(each, name, None)
                        for name in COLUMNS
                    ),
                )
                for number, each in enumerate(requests, first + 1)
            ],
        )
    finally:
        await connection.close()


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        app = create_app(settings)
        await stack.enter_async_context(LifespanManager(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://test/api/monitoring", timeout=120)
        )


async def answers(url: str, redis: RedisServer, paths: list[str]) -> dict[str, Any]:
    async with client_of(make_settings(url, redis.url, dimensions=DIMENSIONS)) as client:
        found = {}
        for path in paths:
            response = await client.get(path)
            assert response.status_code == 200, (path, response.text)
            answer = response.json()
            answer["metadata"] = {
                name: value for name, value in answer["metadata"].items() if name not in MOMENTARY
            }
            found[path] = answer
        return found


async def requests_counted(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        total: int = await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()")
        return total
    finally:
        await connection.close()


async def test_every_endpoint_answers_as_on_one_postgres(pair: list[str], redis: RedisServer) -> None:
    end = datetime.now(UTC)
    start = end - timedelta(days=6, minutes=7)
    bounds = f"start_date={start:%Y-%m-%dT%H:%M:%SZ}&end_date={end:%Y-%m-%dT%H:%M:%SZ}"
    paths = [path.format(range=bounds) for path in (*BY_RPC, *BY_STATEMENT)]
    on_citus, on_one = [await answers(url, redis, paths) for url in pair]
    for path in paths:
        on_one[path]["metadata"].pop("suggested_rollup", None)
        # (`rollup add` is refused there.)
        assert on_citus[path]["metadata"].pop("suggested_rollup", None) is None, path
        assert on_citus[path]["metadata"].pop("consistency") == "shard", path
        assert on_citus[path] == on_one[path], path
    assert {on_citus[path]["metadata"]["method"] for path in paths[: len(BY_RPC)]} == {"rpc"}


async def test_a_refresh_computes_all_by_rpc(pair: list[str], redis: RedisServer) -> None:
    async with open_flow(make_settings(pair[0], redis.url)) as flow:
        report = await flow.refresh()
    assert report.failed == []
    assert {result.method for result in report.results} == {"rpc"}


async def test_functions_return_to_direct_callers_what_they_do_on_one_postgres(pair: list[str]) -> None:
    end = datetime.now(UTC)
    rows = []
    for url in pair:
        connection = await asyncpg.connect(url)
        try:
            rows.append(
                [
                    await connection.fetch(
                        f"SELECT * FROM {call.format(start=end - timedelta(days=5), end=end)}"
                    )
                    for call in CALLS
                ]
            )
        finally:
            await connection.close()
    for call, on_citus, on_one in zip(CALLS, *rows, strict=True):
        assert on_one, call
        assert on_citus == on_one, call


@pytest.mark.parametrize("with_rollup", [False, True])
async def test_generations_add_up_beside_writers_while_nodes_are_added_and_shards_moved(
    citus: Cluster, distributed: str, redis: RedisServer, with_rollup: bool
) -> None:
    await fill(distributed, [])
    settings = make_settings(distributed, redis.url, **SETTINGS)
    if with_rollup:
        async with open_rollup(settings) as rollup:
            await rollup.enable(lambda _requests: None)
    stopped = False

    async def fold() -> None:
        async with open_rollup(settings) as rollup:
            while with_rollup and not stopped:
                with suppress(DatabaseBusy):  # a shard is on its way
                    await rollup.fold()
                await asyncio.sleep(0.1)

    async with open_flow(settings) as flow:
        generations = 0
        async with asyncio.TaskGroup() as tasks, writers(distributed) as written:
            tasks.create_task(fold())
            moving = tasks.create_task(citus.grow(distributed))
            while not moving.done() or generations < GENERATIONS:
                report = await flow.refresh()
                assert report.failed == []
                await assert_adds_up(flow)
                generations += 1
            stopped = True
        await flow.refresh()
        await assert_adds_up(flow)
        assert await counted(flow) == {model: written[model] for model in (1, 2, 3, 10)}
    assert await requests_counted(distributed) == written.total()
    connection = await asyncpg.connect(distributed)
    nodes = await connection.fetchval(
        "SELECT count(DISTINCT nodeport) FROM citus_shards WHERE citus_table_type = 'distributed'"
    )
    await connection.close()
    assert nodes == 4
    if with_rollup:
        async with open_rollup(settings) as rollup:
            assert (await rollup.state()).state == "on"
            assert await rollup.verify(lambda _requests: None) == 0
            await run(distributed, "TRUNCATE chat_completion_requests")
            assert await rollup.verify(lambda _requests: None) == 0
            assert (await rollup.state()).state == "on"
            assert await requests_counted(distributed) == 0


async def test_enable_refuses_what_is_not_distributed_by_model_and_says_why(
    citus: Cluster, redis: RedisServer
) -> None:
    url = await citus.create_database(f"by_user_{next(_numbers)}")
    await run(
        url,
        TABLES.replace("PRIMARY KEY (model_id, id)", "PRIMARY KEY (user_id, id)"),
        "SELECT create_distributed_table('chat_completion_requests', 'user_id')",
    )
    await run_migrations(url)
    env = environment(url, redis.url)
    done = await asyncio.to_thread(chat_stats, "rollup", "enable", env=env)
    assert done.returncode == SchemaError.exit_code
    assert "chat_completion_requests is distributed by user_id in Citus" in done.stderr
    await run(
        url,
        "INSERT INTO chat_completion_requests (user_id, model_id) "
        "SELECT concat('u', i), 1 FROM generate_series(1, 7) AS i",
    )
    assert await requests_counted(url) == 7
    shown = await asyncio.to_thread(chat_stats, "rollup", "status", "--json", env=env)
    assert '"state": "off"' in shown.stdout
    assert "distributed by user_id" in shown.stdout


async def test_enable_refuses_until_migrate_has_distributed_the_rollup(
    citus: Cluster, redis: RedisServer
) -> None:
    url = await citus.create_database(f"undistributed_{next(_numbers)}")
    await run(url, TABLES)
    await run_migrations(url)
    await run(url, *DISTRIBUTE)
    env = environment(url, redis.url)
    done = await asyncio.to_thread(chat_stats, "rollup", "enable", env=env)
    assert done.returncode == SchemaError.exit_code
    assert "run: chat-stats migrate" in done.stderr
    insert = "INSERT INTO chat_completion_requests (model_id) SELECT m FROM generate_series(1, 7) AS m"
    await run(url, insert)
    assert await requests_counted(url) == 7
    await run_migrations(url)
    done = await asyncio.to_thread(chat_stats, "rollup", "enable", env=env)
    assert done.returncode == 0, done.stderr
    await run(url, insert)
    assert await requests_counted(url) == 14


async def test_a_rollup_whose_table_is_distributed_later_is_not_read(
    citus: Cluster, redis: RedisServer
) -> None:
    url = await citus.create_database(f"later_{next(_numbers)}")
    await run(
        url, TABLES, "INSERT INTO chat_completion_requests (model_id) SELECT 1 FROM generate_series(1, 5)"
    )
    await run_migrations(url)
    settings = make_settings(url, redis.url)
    async with open_rollup(settings) as rollup:
        await rollup.enable(lambda _requests: None)
        await run(url, "SET citus.enable_unsafe_triggers = on", *DISTRIBUTE)
        await run(url, "INSERT INTO chat_completion_requests (model_id) SELECT 1 FROM generate_series(1, 5)")
        assert await requests_counted(url) == 10
        state = await rollup.state()
        assert (state.state, state.trouble) == ("damaged", "distributed")
        with pytest.raises(SchemaError, match="distributed by model_id"):
            await rollup.repair(lambda _requests: None)
        with pytest.raises(SchemaError, match="distributed by model_id"):
            await rollup.verify(lambda _requests: None)
        await rollup.disable()
        assert (await rollup.state()).state == "off"
    await run(url, "INSERT INTO chat_completion_requests (model_id) SELECT 1 FROM generate_series(1, 5)")
    assert await requests_counted(url) == 15


@pytest.mark.parametrize(
    "held", ["SELECT create_reference_table('{}')", "SELECT citus_add_local_table_to_metadata('{}')"]
)
async def test_enable_refuses_whatever_citus_holds(citus: Cluster, redis: RedisServer, held: str) -> None:
    url = await citus.create_database(f"held_{next(_numbers)}")
    await run(url, TABLES, held.format("chat_completion_requests"))
    await run_migrations(url)
    async with open_rollup(make_settings(url, redis.url)) as rollup:
        with pytest.raises(SchemaError, match="in Citus: triggers fire on its shards"):
            await rollup.enable(lambda _requests: None)
    await run(url, "INSERT INTO chat_completion_requests (model_id) SELECT 1 FROM generate_series(1, 3)")
    assert await requests_counted(url) == 3


async def test_what_docker_compose_sets_up_can_have_the_rollup(citus: Cluster, redis: RedisServer) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.citus.yml").read_text())["services"]
    [script] = services["citus"]["command"]
    script = script.replace("$$", "$")
    nodes = zip(("postgres", "node-one", "node-two"), (citus.coordinator, *citus.workers), strict=True)
    for name, server in nodes:
        assert f"'{name}', 5432" in script
        script = script.replace(f"'{name}', 5432", f"'127.0.0.1', {server.port}")
    url = await citus.create_database(f"composed_{next(_numbers)}", owner="postgres")
    await run(url, script, script)
    await run_migrations(url)
    async with open_rollup(make_settings(url, redis.url)) as rollup:
        await rollup.enable(lambda _requests: None)
        await run(url, "INSERT INTO chat_completion_requests (model_id) SELECT generate_series(1, 7)")
        assert await rollup.verify(lambda _requests: None) == 0
    assert await requests_counted(url) == 7


async def test_migrate_refuses_a_schema_that_is_sharded_as_a_whole(citus: Cluster) -> None:
    url = await citus.create_database(f"tenants_{next(_numbers)}", owner="postgres")
    await run(
        url,
        "SET citus.enable_schema_based_sharding = on",
        "CREATE SCHEMA tenant",
        f"SET search_path = tenant; {TABLES}",
        f"ALTER DATABASE {url.rpartition('/')[2]} SET search_path = tenant",
    )
    with pytest.raises(SchemaError, match='Citus shards the schema "tenant" as a whole'):
        await run_migrations(url)
