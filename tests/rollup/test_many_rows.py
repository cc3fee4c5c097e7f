"""Requests that one statement inserts are appended together where that takes less, and counted as exactly."""

import pytest
from asyncpg import Record

from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.rollup.exactness import DRIFT, assert_exact

pytestmark = pytest.mark.every_postgres

#: Of some models and statuses, also with values that are no numbers or too large. {apart}: how far apart.
INSERTED = """
INSERT INTO chat_completion_requests (
    model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at
)
SELECT
    NULLIF(n % 4, 0), NULLIF(n % 7, 0), n % 5,
    CASE n % 6 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN 1e16 ELSE n * 1.25 END,
    (ARRAY['ok', 'OK ', 'completed', 'pending', 'failed', NULL])[1 + n % 6],
    CASE WHEN n % 3 > 0 THEN n * 0.001 END,
    '2024-02-28 11:00Z'::timestamptz + n * interval '{apart}'
FROM generate_series(1, {rows}) AS n
"""
#: Deltas, and the requests and times that they stand for.
DELTAS = """
SELECT count(*) AS deltas, sum(requests)::bigint AS requests, sum(cardinality(times))::bigint AS times
FROM chat_stats_deltas
"""


async def deltas(connection: Connection) -> Record:
    [found] = await connection.fetch(DELTAS)
    return found


async def assert_counted(connection: Connection) -> None:
    """Compare with the requests before the fold and after it."""
    for _ in range(2):
        assert await connection.fetchval(DRIFT) == 0
        await assert_exact(connection, count=6)
        await Rollup(connection).fold()


async def test_requests_of_one_hour_are_appended_by_model_bucket_and_status(rolled_up: Connection) -> None:
    await rolled_up.execute(INSERTED.format(rows=3000, apart="1 second"))
    found = await deltas(rolled_up)
    assert found["requests"] == 3000
    assert found["deltas"] < 200
    assert found["times"] == 1500
    await assert_counted(rolled_up)


@pytest.mark.parametrize(("rows", "apart"), [(60, "1 second"), (300, "1 day")], ids=["few", "far apart"])
async def test_other_requests_are_appended_one_by_one(rolled_up: Connection, rows: int, apart: str) -> None:
    await rolled_up.execute(INSERTED.format(rows=rows, apart=apart))
    assert (await deltas(rolled_up))["deltas"] == rows
    await assert_counted(rolled_up)


async def test_single_requests_of_a_long_transaction_are_counted_each(rolled_up: Connection) -> None:
    async with rolled_up.transaction():
        for _ in range(70):
            await rolled_up.execute(INSERTED.format(rows=1, apart="1 second"))
        await rolled_up.execute(INSERTED.format(rows=100, apart="1 second"))
    found = await deltas(rolled_up)
    assert found["requests"] == 170
    assert found["deltas"] < 170
    await assert_counted(rolled_up)
