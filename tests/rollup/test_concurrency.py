"""Eight writers at full speed beside folds, repairs and readers: no reader ever sees a wrong number."""

import asyncio
import os
from random import Random

import asyncpg
import pytest

from chat_stats.service.rollup import chunks
from chat_stats.service.rollup.upkeep import Rollup
from chat_stats.worker.local_servers import PostgresServer
from tests.conftest import Connection
from tests.rollup.conftest import Connect, ignored
from tests.rollup.exactness import assert_exact, differences, some_questions
from tests.rollup.writers import Written, writing

SECONDS = float(os.environ.get("CHAT_STATS_CONCURRENCY_SECONDS", "8"))

pytestmark = pytest.mark.timeout(SECONDS + 300)


async def read(connection: Connection, written: Written, seed: int) -> int:
    """Compare until the writers are told to stop; return how often."""
    random = Random(seed)  # noqa: S311
    comparisons = 0
    while not written.stopped.is_set():
        assert await differences(connection, some_questions(random, 3)) == []
        comparisons += 1
    return comparisons


async def fold(connection: Connection, written: Written) -> int:
    folded = 0
    while not written.stopped.is_set():
        folded += await Rollup(connection).fold()
        await asyncio.sleep(0.01)
    return folded


async def repair_and_verify(connection: Connection, written: Written) -> int:
    """Nothing is ever to be repaired, in whatever chunks."""
    while not written.stopped.is_set():
        assert await Rollup(connection).repair(ignored) == 0
        assert await Rollup(connection).verify(ignored) == 0
        assert await Rollup(connection).audit() == 0
    return 0


async def change_settings(connection: Connection, written: Written) -> int:
    """Let deletes keep their statistics, and not; delete a model, and create it again."""
    while not written.stopped.is_set():
        for age in ("'60 days'", "NULL", "'1 day'"):
            await connection.execute(f"UPDATE chat_stats_rollup_state SET retain_older_than = {age}")
            await connection.execute("DELETE FROM models WHERE id = 5")
            await asyncio.sleep(0.2)
            await connection.execute("INSERT INTO models (id, provider_id, model_name) VALUES (5, 2, 'm5')")
            await asyncio.sleep(0.2)
    return 0


@pytest.mark.slow
async def test_no_reader_sees_a_number_that_a_scan_in_its_snapshot_would_not_give(
    rolled_up: Connection,
    database_url: str,
    postgres: PostgresServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 1000)
    log = postgres.folder / "postgres.log"
    logged = log.stat().st_size
    async with writing(database_url, 8) as written:
        tasks = [
            asyncio.create_task(read(await connect(), written, 1)),
            asyncio.create_task(read(await connect(), written, 2)),
            asyncio.create_task(fold(await connect(), written)),
            asyncio.create_task(fold(await connect(), written)),
            asyncio.create_task(repair_and_verify(await connect(), written)),
            asyncio.create_task(change_settings(await connect(), written)),
        ]
        await asyncio.wait(tasks, timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        written.stopped.set()
        results = await asyncio.gather(*tasks)
    await assert_exact(rolled_up)
    status = await Rollup(rolled_up).status()
    assert status.state == "on"
    assert status.retained_requests > 0
    compared, compared_too, *_ = results
    print(f"{written.statements} statements written, {compared + compared_too} comparisons")  # noqa: T201
    assert compared > 0
    assert compared_too > 0
    assert "deadlock" not in log.read_text()[logged:]


async def test_folds_at_once_move_each_delta_once(rolled_up: Connection, connect: Connect) -> None:
    folders: list[asyncpg.Connection] = [await connect() for _ in range(4)]
    for _ in range(10):
        await rolled_up.execute(
            "INSERT INTO chat_completion_requests (model_id) SELECT 1 FROM generate_series(1, 5)"
        )
        folded = await asyncio.gather(*(Rollup(folder).fold() for folder in folders))
        assert sum(folded) <= 5
    await assert_exact(rolled_up)
