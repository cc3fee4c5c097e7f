"""How many different values of a dimension there are: of each group, of the others, and of all."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import DAYS, START, Ask
from tests.questions.recount import Request, between, grouped, value
from tests.questions.test_own_rollups import add

pytestmark = pytest.mark.every_postgres

RANGE = f"start_date={START:%Y-%m-%d}&end_date={START + timedelta(days=DAYS):%Y-%m-%d}"
NAMES = ("provider_id", "model_id", "status", "error_kind", "user_id", "key_id", "team")


def numbers(requests: list[Request], names: tuple[str, ...] = NAMES) -> dict[str, int]:
    """Count the different values; what is null or unresolved is none."""
    none = {name: "unresolved" if name in ("provider_id", "model_id") else None for name in names}
    return {
        f"distinct_{name}": len({value(each, name) for each in requests} - {none[name]}) for name in names
    }


def counted(row: dict[str, Any], names: tuple[str, ...] = NAMES) -> dict[str, int]:
    return {f"distinct_{name}": row[f"distinct_{name}"] for name in names}


MEASURES = ",".join(f"distinct_{name}" for name in NAMES)


async def test_each_group_the_others_and_the_total_have_their_different_values(
    ask: Ask, requests: list[Request]
) -> None:
    answer = await ask(f"group_by=team,status&measures={MEASURES},total_requests&{RANGE}&limit=4")
    groups = grouped(requests, ["team", "status"])
    assert len(answer.data) == 4
    for row in answer.data:
        assert counted(row) == numbers(groups.pop((row["team"], row["status"])))
    assert counted(answer.totals["others"]) == numbers([each for its in groups.values() for each in its])
    assert counted(answer.totals["total"]) == numbers(requests)
    assert (await ask(f"measures={MEASURES}&start_date=2040-01-01")).data == [numbers([])]


async def test_groups_are_ordered_and_compared_by_their_different_values(
    ask: Ask, requests: list[Request]
) -> None:
    middle = START + timedelta(days=DAYS / 2)
    answer = await ask(
        f"group_by=user_id&measures=total_requests&order_by=-distinct_key_id&{RANGE}&limit=1000"
    )
    groups = grouped(requests, ["user_id"])
    found = [numbers(groups[row["user_id"],], ("key_id",))["distinct_key_id"] for row in answer.data]
    assert found == sorted(found, reverse=True)
    assert len(found) == len(groups)
    assert "distinct_key_id" not in answer.data[0]
    answer = await ask(
        f"measures=distinct_user_id&compare=previous&start_date={middle:%Y-%m-%dT%H:%M:%SZ}"
        f"&end_date={START + timedelta(days=DAYS):%Y-%m-%dT%H:%M:%SZ}"
    )
    [row] = answer.data
    assert counted(row, ("user_id",)) == numbers(
        between(requests, middle, START + timedelta(days=DAYS)), ("user_id",)
    )
    assert row["previous"] == numbers(between(requests, START, middle), ("user_id",))


async def test_a_series_has_the_different_values_of_each_interval(ask: Ask, requests: list[Request]) -> None:
    answer = await ask(f"bucket=1d&team=red&measures=distinct_user_id,p50_processing_time_ms&{RANGE}")
    red = [each for each in requests if each.team == "red"]
    assert len(answer.data) == DAYS + 1
    for day, row in enumerate(answer.data):
        start = START + timedelta(days=day)
        its = between(red, start, start + timedelta(days=1))
        assert counted(row, ("user_id",)) == numbers(its, ("user_id",))
    assert counted(answer.totals["total"], ("user_id",)) == numbers(red, ("user_id",))


async def test_different_models_are_counted_from_the_rollup(
    ask: Ask, requests: list[Request], connection: asyncpg.Connection
) -> None:
    await Rollup(connection).enable(lambda _done: None)
    of = ("provider_id", "model_id")
    for text in ("group_by=provider_id", "bucket=1d", "", "group_by=provider_id&order_by=distinct_model_id"):
        answer = await ask(f"{text}&measures=distinct_provider_id,distinct_model_id&{RANGE}")
        assert (answer.totals["source"], answer.method) == ("rollup:model", "rpc")
        assert counted(answer.totals["total"], of) == numbers(requests, of)
    groups = grouped(requests, ["provider_id"])
    for row in answer.data:
        assert counted(row, of) == numbers(groups[row["provider_id"],], of)
    answer = await ask(f"group_by=model_id&measures=distinct_user_id&{RANGE}")
    assert (answer.totals["source"], answer.method) == ("scan", "query")


async def test_different_values_are_counted_from_a_rollup_that_has_them(
    ask: Ask, requests: list[Request], connection: asyncpg.Connection
) -> None:
    await Rollup(connection).enable(lambda _done: None)
    await add(connection, "teams", "team", "status", "user_id", percentiles=False)
    await connection.execute("UPDATE chat_completion_requests SET input_tokens = 1 WHERE user_id = 'u1'")
    of = ("team", "status", "user_id")
    measures = ",".join(f"distinct_{name}" for name in of)
    for text in ("", "&bucket=1d", "&order_by=-distinct_user_id&limit=3"):
        answer = await ask(f"group_by=team{text}&measures={measures}&{RANGE}")
        assert answer.totals["source"] == "rollup:teams"
        assert counted(answer.totals["total"], of) == numbers(requests, of)
    groups = grouped(requests, ["team"])
    for row in answer.data:
        assert counted(row, of) == numbers(groups.pop((row["team"],)), of)
    others = [each for its in groups.values() for each in its]
    assert counted(answer.totals["others"], of) == numbers(others, of)
    scan = await ask(f"group_by=team&measures=distinct_key_id&{RANGE}")
    assert scan.totals["source"] == "scan"
