"""Refreshes beside writers: what a generation says adds up, on one Postgres and on Citus."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import orjson

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.timerange import TimeRange
from tests.integration.conftest import Flow

#: Refreshes beside writers, at least.
GENERATIONS = int(os.environ.get("CHAT_STATS_TESTS_GENERATIONS", "20"))
WINDOWS = "all,24h"
#: Nothing is recomputed between refreshes.
SETTINGS = {"windows": WINDOWS, "fresh_seconds": 36_000}
WRITERS = 4
#: Between a writer's statements, so that scans stay short however many generations there are.
PAUSE_SECONDS = 0.02
#: Two of them are not resolved: a model without a provider, and none.
MODELS = [1, 2, 3, 4, 10, 77]


@asynccontextmanager
async def writers(url: str) -> AsyncIterator[Counter[int]]:
    """Insert requests of several models a statement until the block ends; yield their number by model."""
    written = Counter[int]()
    stopped = False

    async def write(number: int) -> None:
        rng = random.Random(number)  # noqa: S311
        connection = await asyncpg.connect(url)
        try:
            while not stopped:
                models = [rng.choice(MODELS) for _ in range(rng.randrange(1, 9))]
                await connection.execute(
                    "INSERT INTO chat_completion_requests (model_id, processing_time_ms) "
                    "SELECT m, 10 FROM unnest($1::bigint[]) AS m",
                    models,
                )
                written.update(models)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(WRITERS):
            tasks.create_task(write(number))
        yield written
        stopped = True


async def assert_adds_up(flow: Flow) -> None:
    """Compare the answers of a generation."""
    for window in WINDOWS.split(","):
        entries = {
            name: (await flow.stats.read(Query(name, TimeRange(window)))).entry
            for name in ("summary", "models", "providers", "counts")
        }
        assert len({entry.generation for entry in entries.values()}) == 1
        rows = {name: orjson.loads(entry.body) for name, entry in entries.items()}
        sums = {
            "models": sum(row["stats"]["total_requests"] for row in rows["models"]),
            "providers": sum(row["total_requests"] for row in rows["providers"]),
            "counts": sum(row["request_count"] for row in rows["counts"]),
        }
        for name, found in sums.items():
            total = found + entries[name].totals["unresolved_requests"]
            assert total == rows["summary"]["total_requests"], (window, name)


async def counted(flow: Flow) -> dict[int, int]:
    counts = await flow.stats.read(Query("counts", TimeRange("all")))
    return {row["model_id"]: row["request_count"] for row in orjson.loads(counts.entry.body)}
