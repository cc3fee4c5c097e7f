"""Ways to compute the statistics of each model over all requests. Each runs in a process of its own."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from statistics import quantiles
from typing import Any

import asyncpg
import httpx
import orjson

from bench.measure import Cost, measured
from bench.servers import settings_for
from chat_stats.service.catalogue.aggregations import MODELS, Query
from chat_stats.service.catalogue.rows import Row
from chat_stats.service.compute.answers import answer
from chat_stats.service.compute.ladder import find_by
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.pool import Database

#: Rows per page of a hosted Postgres' REST interface, by default.
PAGE_ROWS = 1_000
#: Pages that are fetched, spread evenly over all pages.
SAMPLED_PAGES = 20

PATH = "/api/monitoring/chat-requests/models"
WARM_UP_REQUESTS = 200
STATEMENT_SECONDS = 600

ALL_ROWS = """
SELECT
    m.id AS model_id, m.model_id AS model_identifier, m.model_name, m.provider_model_id,
    p.id AS provider_id, p.name, p.slug,
    r.input_tokens, r.output_tokens, r.processing_time_ms
FROM chat_completion_requests AS r
JOIN models AS m ON m.id = r.model_id
JOIN providers AS p ON p.id = m.provider_id
"""

# Both work as a REST interface on Postgres: the database itself writes the JSON of a page. The first leaves
# the look-up of models to the client. The second nests the model and its provider in every row; LIMIT then
# also builds them for the rows that OFFSET skips.
PAGE = """
SELECT coalesce(json_agg(page), '[]')::text FROM (
    SELECT model_id, input_tokens, output_tokens, processing_time_ms
    FROM chat_completion_requests
    ORDER BY id
    LIMIT $1 OFFSET $2
) AS page
"""
NESTED_PAGE = """
SELECT coalesce(json_agg(page), '[]')::text FROM (
    SELECT
        r.input_tokens, r.output_tokens, r.processing_time_ms,
        json_build_object(
            'id', m.id, 'model_id', m.model_id, 'model_name', m.model_name,
            'provider_model_id', m.provider_model_id,
            'providers', json_build_object('id', p.id, 'name', p.name, 'slug', p.slug)
        ) AS models
    FROM chat_completion_requests AS r
    JOIN models AS m ON m.id = r.model_id
    JOIN providers AS p ON p.id = m.provider_id
    ORDER BY r.id
    LIMIT $1 OFFSET $2
) AS page
"""


@dataclass(slots=True)
class Run:
    """The cost of one run of a contender, and the rows that it returned."""

    cost: Cost
    rows: list[Row] = field(default_factory=list)
    #: For a contender of many requests: the 99th percentile; `cost.seconds` is then the median.
    p99_seconds: float | None = None


def fetch_all_rows(database_url: str) -> Run:
    """Read every request with its model and provider, and aggregate in the client: the usual start."""

    async def run() -> Run:
        connection = await asyncpg.connect(database_url)
        try:
            with measured() as cost:
                rows = _aggregate(await connection.fetch(ALL_ROWS))
            return Run(cost, rows)
        finally:
            await connection.close()

    return asyncio.run(run())


def fetch_pages(statement: str, database_url: str, requests: int) -> Run:
    """Read a sample of the pages of a REST client, keep their rows, and extrapolate to all pages."""

    async def run() -> Run:
        connection = await asyncpg.connect(database_url)
        pages = -(-requests // PAGE_ROWS)
        sample = min(SAMPLED_PAGES, pages)
        kept: list[Row] = []
        try:
            with measured() as cost:
                for number in range(sample):
                    page = int((number + 0.5) * pages / sample)
                    kept += orjson.loads(await connection.fetchval(statement, PAGE_ROWS, page * PAGE_ROWS))
        finally:
            await connection.close()
        cost.process_bytes += cost.peak_bytes * (pages - sample) // sample
        cost.seconds *= pages / sample
        cost.peak_bytes = cost.peak_bytes * pages // sample
        return Run(cost)

    return asyncio.run(run())


def method(name: str, database_url: str, redis_url: str) -> Run:
    """Compute the same by one method of the ladder, over open connections."""

    async def run() -> Run:
        database = Database(settings_for(database_url, redis_url), application_name="chat-stats bench")
        await database.open()
        try:
            async with database.transaction():
                pass
            with measured() as cost:
                async with database.snapshot(wait_seconds=1) as snapshot:
                    found = await find_by(
                        Method(name), snapshot, Query(MODELS.name), (), timeout=8 * STATEMENT_SECONDS
                    )
                    rows, *_ = await answer(snapshot, Query(MODELS.name), found, timeout=STATEMENT_SECONDS)
            assert isinstance(rows, list)
            return Run(cost, rows)
        finally:
            await database.close()

    return asyncio.run(run())


def cache_hits(service_url: str, requests: int) -> Run:
    """Request the answer repeatedly over one connection, with a warm cache."""
    seconds = []
    with httpx.Client(base_url=service_url, timeout=60) as client:
        while _state(client.get(PATH)) != "hit":
            time.sleep(0.1)
        for _ in range(WARM_UP_REQUESTS):
            client.get(PATH)
        with measured() as cost:
            for _ in range(requests):
                started = time.perf_counter()
                response = client.get(PATH)
                seconds.append(time.perf_counter() - started)
        assert _state(response) == "hit", "the entry went stale while it was measured"
    percentiles = quantiles(seconds, n=100)
    cost.seconds = percentiles[49]
    return Run(cost, response.json()["data"], percentiles[98])


def _state(response: httpx.Response) -> str:
    response.raise_for_status()
    return str(response.json()["metadata"]["cache"])


def _aggregate(records: Iterable[asyncpg.Record]) -> list[Row]:
    rows: dict[Any, Row] = {}
    times: dict[Any, list[Any]] = {}
    for record in records:
        model_id = record["model_id"]
        row = rows.get(model_id)
        if row is None:
            row = rows[model_id] = _empty_row(record)
            times[model_id] = [Decimal(0), 0]
        stats = row["stats"]
        stats["total_requests"] += 1
        stats["total_input_tokens"] += record["input_tokens"] or 0
        stats["total_output_tokens"] += record["output_tokens"] or 0
        if record["processing_time_ms"] is not None:
            times[model_id][0] += record["processing_time_ms"]
            times[model_id][1] += 1
    for model_id, row in rows.items():
        total, count = times[model_id]
        stats = row["stats"]
        stats["total_tokens"] = stats["total_input_tokens"] + stats["total_output_tokens"]
        if count:
            mean = (total / count).quantize(Decimal("0.01"), ROUND_HALF_UP)
            stats["avg_processing_time_ms"] = float(mean)
    return sorted(rows.values(), key=lambda row: (-row["stats"]["total_requests"], row["model_id"]))


def _empty_row(record: asyncpg.Record) -> Row:
    return {
        **{
            name: record[name] for name in ("model_id", "model_identifier", "model_name", "provider_model_id")
        },
        "provider": {"id": record["provider_id"], "name": record["name"], "slug": record["slug"]},
        "stats": {
            "total_requests": 0,
            "total_input_tokens": 0,
            "total_output_tokens": 0,
            "total_tokens": 0,
            "avg_processing_time_ms": 0.0,
        },
    }
