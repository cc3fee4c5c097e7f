"""Questions about models and providers come from the rollup when it is ready, with the same figures."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.database.pool import STATUSES
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import DAYS, DIMENSIONS, START, Ask, asking
from tests.questions.recount import Request, between, figures, grouped
from tests.questions.test_answers import approximately, shown

pytestmark = pytest.mark.every_postgres

ALL_FIGURES = ",".join(FIGURES)
BEFORE = START + timedelta(days=4)
RANGE = f"start_date={START:%Y-%m-%d}&end_date={START + timedelta(days=DAYS):%Y-%m-%d}"


@pytest.fixture
async def rolled_up(connection: asyncpg.Connection, requests: list[Request]) -> asyncpg.Connection:
    await Rollup(connection).enable(lambda _done: None)
    return connection


@pytest.fixture
async def purged(rolled_up: asyncpg.Connection) -> asyncpg.Connection:
    await Retention(rolled_up).purge(BEFORE, lambda _done: None)
    return rolled_up


@pytest.mark.usefixtures("rolled_up")
@pytest.mark.parametrize(
    ("dimensions", "source"),
    [((), "rollup:total"), (("model_id",), "rollup:model"), (("provider_id", "model_id"), "rollup:model")],
)
async def test_the_rollup_gives_the_figures_of_a_recount(
    ask: Ask, requests: list[Request], dimensions: tuple[str, ...], source: str
) -> None:
    answer = await ask(f"group_by={','.join(dimensions)}&measures={ALL_FIGURES}&{RANGE}")
    assert (answer.totals["source"], answer.method) == (source, "rpc")
    expected = grouped(requests, dimensions)
    assert len(answer.data) == len(expected)
    for row in answer.data:
        group = tuple(row[name] for name in dimensions)
        assert shown(row) == approximately(figures(expected[group]))
    assert answer.totals["total"] == approximately(figures(requests))


@pytest.mark.usefixtures("purged")
async def test_the_rollup_still_has_purged_requests(ask: Ask, requests: list[Request]) -> None:
    answer = await ask(f"group_by=model_id&measures={ALL_FIGURES}&limit=2&order_by=-p90_processing_time_ms")
    groups = grouped(requests, ["model_id"])
    assert answer.totals["incomplete_before"] is None
    for row in answer.data:
        assert shown(row) == approximately(figures(groups[row["model_id"],]))
    chosen = [(row["model_id"],) for row in answer.data]
    others = [each for group, members in groups.items() if group not in chosen for each in members]
    assert answer.totals["others"] == approximately(figures(others))


@pytest.mark.usefixtures("purged")
async def test_a_series_of_the_rollup_is_compared_with_purged_days(ask: Ask, requests: list[Request]) -> None:
    middle = START + timedelta(days=5)
    answer = await ask(
        f"bucket=1d&group_by=provider_id&model_id!=2&measures={ALL_FIGURES}&compare=previous"
        f"&start_date={middle:%Y-%m-%d}&end_date={middle + timedelta(days=4):%Y-%m-%d}"
    )
    assert answer.totals["source"] == "rollup:model"
    groups = grouped([each for each in requests if each.model_id != 2], ["provider_id"])
    for (provider,), members in groups.items():
        rows = [row for row in answer.data if row["provider_id"] == provider]
        assert len(rows) == 5
        for day, row in enumerate(rows):
            moment = middle + timedelta(days=day)
            assert shown(row) == approximately(figures(between(members, moment, moment + timedelta(days=1))))
            moment -= timedelta(days=5)
            earlier = between(members, moment, moment + timedelta(days=1))
            assert row["previous"] == approximately(figures(earlier))


@pytest.mark.usefixtures("rolled_up")
async def test_the_rollup_answers_about_models_and_providers_that_are_named(
    ask: Ask, requests: list[Request]
) -> None:
    for text, wanted in (
        ("model_id=1&model_id=10", lambda each: each.model_id in (1, 10)),
        ("provider_id=1", lambda each: each.model_id in (1, 2)),
    ):
        answer = await ask(f"{text}&measures={ALL_FIGURES}")
        assert (answer.totals["source"], answer.method) == ("rollup:model", "rpc")
        assert shown(answer.data[0]) == approximately(figures(filter(wanted, requests)))


@pytest.mark.usefixtures("rolled_up")
async def test_another_dimension_is_scanned(ask: Ask) -> None:
    for text in ("group_by=model_id,user_id", "status=failed", "group_by=model_id&error_kind=timeout"):
        answer = await ask(text)
        assert (answer.totals["source"], answer.method) == ("scan", "query")


async def test_without_a_rollup_the_functions_scan(ask: Ask) -> None:
    answer = await ask("group_by=model_id")
    assert (answer.totals["source"], answer.method) == ("scan", "rpc")


async def test_without_its_function_the_requests_are_read_directly(
    ask: Ask, requests: list[Request], rolled_up: asyncpg.Connection
) -> None:
    await rolled_up.execute("DROP FUNCTION chat_stats_totals")
    answer = await ask(f"group_by=model_id&measures={ALL_FIGURES}&model_id=1&model_id=unresolved")
    assert (answer.totals["source"], answer.method) == ("scan", "fallback_optimized")
    groups = grouped(requests, ["model_id"])
    assert {row["model_id"] for row in answer.data} == {1, "unresolved"}
    for row in answer.data:
        assert shown(row) == approximately(figures(groups[row["model_id"],]))


async def test_without_its_function_purged_requests_are_known_to_be_missing(
    ask: Ask, purged: asyncpg.Connection
) -> None:
    await purged.execute("DROP FUNCTION chat_stats_totals")
    answer = await ask("group_by=model_id")
    assert answer.totals["incomplete_before"] == f"{BEFORE:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.usefixtures("rolled_up")
async def test_names_are_those_that_models_and_providers_have_now(
    ask: Ask, connection: asyncpg.Connection
) -> None:
    question = "group_by=model_id,provider_id&measures=total_requests"
    for name in ("first name", "second name"):
        await connection.execute("UPDATE models SET model_name = $1 WHERE id = 1", name)
        await connection.execute("UPDATE providers SET name = $1 WHERE id = 1", f"{name} too")
        rows = {row["model_id"]: row for row in (await ask(question)).data}
        assert (rows[1]["model_name"], rows[1]["provider_name"]) == (name, f"{name} too")
        assert rows["unresolved"]["model_name"] == rows["unresolved"]["provider_name"] == "unresolved"


async def test_a_question_takes_few_statements(
    database_url: str, rolled_up: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs three round trips to Postgres."""
    known = known_dimensions(DIMENSIONS)
    rollups = OwnRollups(Rollup(rolled_up), known)
    await rollups.add(await rollups.declare("users", ["user_id"], percentiles=True), lambda _done: None)
    sent: list[str] = []
    fetch = Snapshot.fetch

    async def counted(self: Snapshot, sql: str, *args: Any, **options: Any) -> list[asyncpg.Record]:
        sent.append(sql)
        return await fetch(self, sql, *args, **options)

    ask = asking(database_url)
    monkeypatch.setattr(Snapshot, "fetch", counted)
    for text, statements in (
        ("group_by=user_id&user_id=u1&measures=total_cost_usd,p95_processing_time_ms", 3),
        (f"bucket=1d&user_id=u1&{RANGE}", 3),
        (f"bucket=1d&{RANGE}", 3),
        ("group_by=model_id", 4),
    ):
        sent.clear()
        assert (await ask(text)).totals["source"].startswith("rollup:")
        # (The first snapshot compares what statuses mean.)
        assert len([sql for sql in sent if sql != STATUSES]) == statements, text
