"""Purging old requests: they are gone, and no statistic has changed."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from service import retention as purging
from service.retention import Retention
from service.rollup import Rollup
from tests.conftest import Connection
from tests.rollup.conftest import ignored
from tests.rollup.exactness import DRIFT, assert_exact


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


async def test_first(rolled_up: Connection, monkeypatch) -> None:
    monkeypatch.setattr(purging, "BATCH_REQUESTS", 200)
    before = await rolled_up.fetch("SELECT * FROM get_models_with_requests()")
    n = await rolled_up.fetchval("SELECT count(*) FROM chat_completion_requests")
    purge = await Retention(rolled_up).purge(days_ago(50), ignored)
    print(purge, await Retention(rolled_up).estimate_requests(days_ago(50)))
    assert purge.requests > 1000
    assert await rolled_up.fetchval("SELECT count(*) FROM chat_completion_requests") == n - purge.requests
    assert before == await rolled_up.fetch("SELECT * FROM get_models_with_requests()")
    await assert_exact(rolled_up)
    assert await Rollup(rolled_up).verify(ignored) == 0
    assert await Rollup(rolled_up).repair(ignored) == 0
