"""Aggregations with filters by any dimension equal those of counting the requests one by one."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import parse_filters
from chat_stats.service.catalogue.schemas import Stats
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import parse_series
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import DAYS, DIMENSIONS, START, Compute
from tests.questions.recount import MODELS, PROVIDERS, Request, between, figures, grouped, value
from tests.questions.test_answers import FILTERS, approximately
from tests.questions.test_own_rollups import add

pytestmark = pytest.mark.every_postgres

KNOWN = known_dimensions(DIMENSIONS)
RANGE = TimeRange(None, START, START + timedelta(days=DAYS))
BEFORE = START + timedelta(days=4)
POINT = [name for name in AGGREGATIONS["timeseries"].fields if name in figures([])]


def query(name: str, text: str, **parts: Any) -> Query:
    where = parse_filters(parse_qsl(text, keep_blank_values=True), KNOWN)
    return Query(name, RANGE, where=where, **parts)


def stats(requests: list[Request]) -> dict[str, Any]:
    found = figures(requests)
    return approximately({name: found[name] for name in Stats.model_fields})


def stated(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in Stats.model_fields}


def of_models(requests: list[Request]) -> dict[Any, list[Request]]:
    """Return the requests of each model that exists, and those of none under None."""
    groups = {None: list[Request]()} | {
        model: each for (model,), each in grouped(requests, ["model_id"]).items()
    }
    return {None: groups.pop("unresolved", []), **{model: each for model, each in groups.items() if model}}


def check_rows(computed: dict[str, Any], requests: list[Request]) -> None:
    """Hold the answers to `models`, `providers`, `counts` and `summary` to a recount."""
    models = of_models(requests)
    unresolved = models.pop(None)
    assert stated(computed["summary"].data) == stats(requests)
    rows = computed["models"].data
    assert [row["model_id"] for row in rows] == sorted(models, key=lambda id_: (-len(models[id_]), id_))
    for row in rows:
        name, provider = MODELS[row["model_id"]]
        assert row["stats"] == stats(models[row["model_id"]])
        assert (row["model_name"], row["provider"]["id"]) == (name, provider)
    assert [(row["model_id"], row["request_count"]) for row in computed["counts"].data] == [
        (row["model_id"], row["stats"]["total_requests"]) for row in rows
    ]
    providers = [(row["provider_id"], row["models_with_requests"]) for row in computed["providers"].data]
    kept = [each for members in models.values() for each in members]
    by_provider = {provider: each for (provider,), each in grouped(kept, ["provider_id"]).items()}
    assert providers == [
        (provider, len({each.model_id for each in by_provider[provider]}))
        for provider in sorted(by_provider, key=lambda id_: (-len(by_provider[id_]), id_))
    ]
    for row in computed["providers"].data:
        assert stated(row) == stats(by_provider[row["provider_id"]])
        assert row["name"] == PROVIDERS[row["provider_id"]]
    for name in ("models", "providers", "counts"):
        failed = figures(unresolved)["failed_requests"]
        assert computed[name].totals["unresolved_requests"] == len(unresolved), name
        assert computed[name].totals["unresolved_failed_requests"] == failed, name


ROWS = ("summary", "models", "providers", "counts")


async def test_each_statistic_is_of_the_requests_that_a_filter_wants(
    compute_all: Compute, requests: list[Request]
) -> None:
    by_team = parse_series("1w", "team", None, KNOWN)
    for text, wanted in FILTERS[::2]:  # the statement that they become is tested with all
        expected = [each for each in requests if wanted(each)]
        rows = [query(name, text) for name in ROWS]
        one, series = query("model", text, model_id="1"), query("timeseries", text, series=by_team)
        computed = await compute_all([*rows, one, series])
        check_rows({each.aggregation: computed[each] for each in rows}, expected)
        data: Any = computed[one].data
        assert data["model_id"] == 1
        assert data["stats"] == stats([each for each in expected if each.model_id == 1])
        assert computed[series].totals["group_by"] == "team"
        check_series(computed[series].data, expected, "team", timedelta(weeks=1))
        of_models_alone = all(each.dimension.is_id for each in rows[0].where)
        for each, found in computed.items():
            assert found.totals["source"] == "scan"
            assert found.method == ("rpc" if of_models_alone and each is not series else "query")


def check_series(points: Any, requests: list[Request], dimension: str | None, length: timedelta) -> None:
    groups = grouped(requests, [] if dimension is None else [dimension])
    assert {point["group_id"] for point in points} == {key[0] if key else None for key in groups}
    starts = sorted({point["bucket_start"] for point in points})
    for point in points:
        members = groups[(point["group_id"],) if dimension else ()]
        start = START.fromisoformat(point["bucket_start"])
        expected = figures(between(members, start, start + length))
        assert {name: point[name] for name in POINT} == approximately(
            {name: expected[name] for name in POINT}
        )
    assert len(points) == len(groups) * len(starts)


async def test_a_series_has_each_value_of_a_dimension(compute_all: Compute, requests: list[Request]) -> None:
    names = ("status", "error_kind", "user_id", "key_id", "team")
    asked = {name: Query("timeseries", RANGE, series=parse_series("1d", name, None, KNOWN)) for name in names}
    computed = await compute_all(list(asked.values()))
    for name, series in asked.items():
        found: Any = computed[series]
        check_series(found.data, requests, name, timedelta(days=1))
        assert (found.totals["source"], found.method) == ("scan", "query")
        assert all(point["group_name"] == point["group_id"] for point in found.data)


async def test_a_part_of_a_models_name_holds_beside_other_filters(
    compute_all: Compute, requests: list[Request]
) -> None:
    rows = [query(name, "team=red", model_name="ETA") for name in ROWS]  # Beta
    none = query("summary", "team=red", model_name="no such name")
    computed = await compute_all([*rows, none])
    wanted = [each for each in requests if each.team == "red" and each.model_id == 2]
    check_rows({each.aggregation: computed[each] for each in rows}, wanted)
    data: Any = computed[none].data
    assert data["total_requests"] == 0


@pytest.fixture
async def purged(connection: asyncpg.Connection, requests: list[Request]) -> None:
    await Rollup(connection).enable(lambda _done: None)
    await Retention(connection).purge(BEFORE, lambda _done: None)


@pytest.mark.usefixtures("purged")
async def test_filters_by_models_come_from_the_rollup_with_purged_requests(
    compute_all: Compute, requests: list[Request]
) -> None:
    text = "model_id!=1&model_id!=10"
    rows = [query(name, text) for name in ROWS]
    series = query("timeseries", text, series=parse_series("1d", "provider_id", None, KNOWN))
    computed = await compute_all([*rows, series])
    wanted = [each for each in requests if value(each, "model_id") not in (1, 10)]
    check_rows({each.aggregation: computed[each] for each in rows}, wanted)
    check_series(computed[series].data, wanted, "provider_id", timedelta(days=1))
    for each in computed.values():
        assert (each.method, each.totals["source"]) == ("rpc", "rollup:model")
        assert each.totals["incomplete_before"] is None
        assert each.totals["suggested_rollup"] is None


@pytest.mark.usefixtures("purged")
async def test_a_scan_says_before_when_its_requests_were_purged(
    compute_all: Compute, requests: list[Request]
) -> None:
    rows = [query(name, "team=red") for name in ROWS]
    series = query("timeseries", "team=red")
    computed = await compute_all([*rows, series])
    wanted = [each for each in requests if each.team == "red" and each.created_at >= BEFORE]
    check_rows({each.aggregation: computed[each] for each in rows}, wanted)
    for each in computed.values():
        assert each.totals["incomplete_before"] == f"{BEFORE:%Y-%m-%dT%H:%M:%SZ}"
        assert (each.method, each.totals["source"]) == ("query", "scan")


async def test_filters_are_answered_from_a_rollup_that_has_them(
    compute_all: Compute, requests: list[Request], connection: asyncpg.Connection
) -> None:
    await Rollup(connection).enable(lambda _done: None)
    await add(connection, "teams", "team")
    await add(connection, "counts", "team", "model_id", percentiles=False)
    rows = [query(name, "team=red") for name in ROWS]
    series = query("timeseries", "team!=red", series=parse_series("1d", "team", None, KNOWN))
    computed = await compute_all([*rows, series])
    red = [each for each in requests if each.team == "red"]
    check_rows({each.aggregation: computed[each] for each in rows}, red)
    others = [each for each in requests if each.team != "red"]
    check_series(computed[series].data, others, "team", timedelta(days=1))
    sources = [computed[each].totals["source"] for each in (*rows, series)]
    # Of models and providers, the rollup lacks the percentiles.
    assert sources == ["rollup:teams", "scan", "scan", "rollup:counts", "rollup:teams"]
    await add(connection, "models", "team", "model_id", "status")
    computed = await compute_all(rows)
    check_rows({each.aggregation: computed[each] for each in rows}, red)
    assert {computed[each].totals["source"] for each in rows[1:3]} == {"rollup:models"}
