"""On one Postgres all answers of a generation add up, beside writers and folds."""

import asyncio

import asyncpg
import pytest

from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.worker.local_servers import RedisServer
from tests.conftest import make_settings
from tests.integration.conftest import open_flow
from tests.scale.generations import GENERATIONS, SETTINGS, assert_adds_up, counted, writers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(300, 5 * GENERATIONS))]


@pytest.mark.every_postgres
@pytest.mark.parametrize("with_rollup", [False, True])
async def test_generations_add_up_beside_writers(
    database_url: str, redis: RedisServer, with_rollup: bool
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');"
        "INSERT INTO models (id, provider_id, model_name) "
        "VALUES (1, 1, 'A'), (2, 1, 'B'), (3, 2, 'C'), (10, 2, 'D'), (4, NULL, 'Stray')"
    )
    settings = make_settings(database_url, redis.url, **SETTINGS)
    async with open_rollup(settings) as rollup, open_flow(settings) as flow:
        if with_rollup:
            await rollup.enable(lambda _requests: None)

        async def fold() -> None:
            while with_rollup:
                await rollup.fold()
                await asyncio.sleep(0.1)

        folding = asyncio.create_task(fold())
        async with writers(database_url) as written:
            for _ in range(GENERATIONS):
                report = await flow.refresh()
                assert report.failed == []
                await assert_adds_up(flow)
        folding.cancel()
        await asyncio.wait([folding])
        assert folding.cancelled() or folding.exception() is None
        await flow.refresh()
        await assert_adds_up(flow)
        assert await counted(flow) == {model: written[model] for model in (1, 2, 3, 10)}
        total = await connection.fetchval("SELECT total_requests FROM get_chat_request_summary()")
        assert total == written.total()
        if with_rollup:
            assert await rollup.verify(lambda _requests: None) == 0
            assert (await rollup.state()).state == "on"
    await connection.close()
