"""A question that only a scan answers says where requests are missing because they were purged."""

from datetime import timedelta

import asyncpg
import pytest

from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import START, Ask
from tests.questions.recount import Request

BEFORE = START + timedelta(days=4)


@pytest.fixture
async def purged(connection: asyncpg.Connection, requests: list[Request]) -> None:
    await Rollup(connection).enable(lambda _done: None)
    await Retention(connection).purge(BEFORE, lambda _done: None)


@pytest.mark.usefixtures("purged")
async def test_the_moment_before_which_requests_were_purged_is_stated(
    ask: Ask, requests: list[Request]
) -> None:
    answer = await ask("group_by=user_id&measures=total_requests")
    left = [request for request in requests if request.created_at >= BEFORE]
    assert answer.totals["total"] == {"total_requests": len(left)}
    assert answer.totals["incomplete_before"] == BEFORE.isoformat().replace("+00:00", "Z")


@pytest.mark.usefixtures("purged")
async def test_a_range_after_that_is_complete(ask: Ask, requests: list[Request]) -> None:
    answer = await ask(f"group_by=user_id&measures=total_requests&start_date={BEFORE:%Y-%m-%d}")
    assert answer.totals["incomplete_before"] is None


@pytest.mark.usefixtures("purged")
async def test_an_earlier_range_to_compare_with_counts_too(ask: Ask) -> None:
    day = BEFORE + timedelta(days=1)
    alone = f"user_id!=x&measures=total_requests&start_date={day:%Y-%m-%d}&end_date={day:%Y-%m-%d}"
    assert (await ask(alone)).totals["incomplete_before"] is None
    assert (await ask(f"{alone}&compare=previous")).totals["incomplete_before"] is None
    answer = await ask(f"{alone}&compare={START:%Y-%m-%d}")
    assert answer.totals["incomplete_before"] == f"{START + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.usefixtures("purged")
async def test_the_values_of_a_dimension_say_so_too(ask: Ask) -> None:
    answer = await ask("name=user_id&prefix=u", values=True)
    assert answer.totals["incomplete_before"] is not None
