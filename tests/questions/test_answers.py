"""Answers by any dimension equal those of counting the requests one by one."""

from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from chat_stats.service.catalogue.figures import FIGURES
from tests.questions.conftest import DAYS, START, Ask
from tests.questions.recount import HOSTILE, Request, between, figures, grouped, value

pytestmark = pytest.mark.every_postgres

ALL_FIGURES = ",".join(FIGURES)
RANGE = f"start_date={START:%Y-%m-%d}&end_date={START + timedelta(days=DAYS):%Y-%m-%d}"
NAMES = ("model_id", "provider_id", "status", "error_kind", "user_id", "key_id", "team")


def approximately(expected: dict[str, float]) -> dict[str, Any]:
    return {name: pytest.approx(number, rel=1e-9, abs=1e-12) for name, number in expected.items()}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in FIGURES}


@pytest.mark.parametrize(
    "dimensions",
    [(), *((name,) for name in NAMES), *combinations(NAMES, 2), ("user_id", "model_id", "error_kind")],
    ids=",".join,
)
async def test_every_figure_of_every_group_is_that_of_a_recount(
    ask: Ask, requests: list[Request], dimensions: tuple[str, ...]
) -> None:
    answer = await ask(f"group_by={','.join(dimensions)}&measures={ALL_FIGURES}&{RANGE}&limit=10000")
    expected = grouped(requests, dimensions)
    rows = {tuple(row[name] for name in dimensions): row for row in answer.data}
    assert len(answer.data) == len(rows)
    assert set(rows) == set(expected)
    for group, members in expected.items():
        assert shown(rows[group]) == approximately(figures(members)), group
    assert answer.totals["total"] == approximately(figures(requests))
    assert answer.totals["others"] == approximately(figures([]))
    assert answer.totals["total_groups"] == len(expected)
    assert answer.totals["next_cursor"] is None


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("sign", ["-", ""])
async def test_the_first_groups_by_a_figure_and_the_others_add_up_to_the_total(
    ask: Ask, requests: list[Request], name: str, sign: str
) -> None:
    answer = await ask(f"group_by=user_id&measures={ALL_FIGURES}&{RANGE}&order_by={sign}{name}&limit=7")
    groups = grouped(requests, ["user_id"])
    by_size = sorted((figures(members)[name] for members in groups.values()), reverse=sign == "-")
    assert [row[name] for row in answer.data] == pytest.approx(by_size[:7], rel=1e-9)
    chosen = {(row["user_id"],) for row in answer.data}
    others = [each for group, members in groups.items() if group not in chosen for each in members]
    assert answer.totals["others"] == approximately(figures(others))
    assert answer.totals["total"] == approximately(figures(requests))
    assert answer.totals["total_groups"] == len(groups)


async def test_the_first_by_a_figure_that_is_not_asked_for(ask: Ask, requests: list[Request]) -> None:
    answer = await ask(f"group_by=team&measures=total_requests&{RANGE}&order_by=-avg_cost_usd&limit=1")
    groups = grouped(requests, ["team"])
    most = max(groups, key=lambda group: figures(groups[group])["avg_cost_usd"])
    assert answer.data == [{"team": most[0], "total_requests": len(groups[most])}]


@pytest.mark.parametrize("sign", ["-", ""])
@pytest.mark.parametrize("name", ["user_id", "key_id", "model_id"])
async def test_groups_are_ordered_by_a_dimension_numbers_by_their_size_and_null_last(
    ask: Ask, requests: list[Request], name: str, sign: str
) -> None:
    answer = await ask(f"group_by={name}&{RANGE}&order_by={sign}{name}&key_id!=-3")
    found = [row[name] for row in answer.data]
    last = {"model_id": "unresolved"}.get(name)
    assert found[-1] == last
    known = [value(each, name) for each in requests if value(each, name) != last and each.key_id != -3]
    key = str if name == "user_id" else int
    assert found[:-1] == sorted(set(known), key=key, reverse=sign == "-")


async def test_pages_by_cursor_hold_each_group_once_and_each_adds_up(
    ask: Ask, requests: list[Request]
) -> None:
    asked = f"group_by=user_id,team&measures=total_requests,p95_processing_time_ms&{RANGE}&limit=100"
    groups = grouped(requests, ["user_id", "team"])
    seen: list[tuple[Any, ...]] = []
    cursor = ""
    while True:
        answer = await ask(asked + cursor)
        page = [(row["user_id"], row["team"]) for row in answer.data]
        seen += page
        others = [each for group, members in groups.items() if group not in page for each in members]
        assert answer.totals["others"]["total_requests"] == len(others)
        expected = figures(others)["p95_processing_time_ms"]
        assert answer.totals["others"]["p95_processing_time_ms"] == pytest.approx(expected)
        if answer.totals["next_cursor"] is None:
            break
        cursor = f"&cursor={answer.totals['next_cursor']}"
    assert len(seen) == len(set(seen)) == len(groups)
    sizes = [len(groups[group]) for group in seen]
    assert sizes == sorted(sizes, reverse=True)


def parameters(name: str, values: list[str | None], *, negated: bool = False) -> str:
    written = {"__null__": "\\__null__", "\\__null__": "\\\\__null__", None: "__null__"}
    return "&".join(
        f"{name}{'!' if negated else ''}={quote(written.get(text, text or ''), safe='')}" for text in values
    )


@pytest.mark.parametrize("text", [text for text in (*HOSTILE, None) if text is None or len(text) <= 500])
async def test_a_filter_means_exactly_the_value_however_hostile(
    ask: Ask, requests: list[Request], text: str | None
) -> None:
    asked = parameters("user_id", [text])
    answer = await ask(f"group_by=user_id&measures=total_requests&{RANGE}&{asked}")
    members = [each for each in requests if each.user_id == text]
    assert members
    assert answer.data == [{"user_id": text, "total_requests": len(members)}]
    assert answer.totals["filters"] == {"user_id": [asked_value(text)]}
    negated = await ask(f"measures=total_requests&{RANGE}&{parameters('user_id', [text], negated=True)}")
    assert negated.data == [{"total_requests": len(requests) - len(members)}]


def asked_value(text: str | None) -> str:
    return {"__null__": "\\__null__", "\\__null__": "\\\\__null__", None: "__null__"}.get(text, text or "")


FILTERS: list[tuple[str, Any]] = [
    ("status=failed", lambda r: value(r, "status") == "failed"),
    ("status=failed&status=error&status=__null__", lambda r: value(r, "status") in ("failed", "error", None)),
    ("status!=completed", lambda r: value(r, "status") != "completed"),
    ("status=success", lambda r: value(r, "status") == "success"),  # with a blank at its end in the column
    ("error_kind=timeout", lambda r: value(r, "error_kind") == "timeout"),
    ("error_kind!=timeout&error_kind!=__null__", lambda r: value(r, "error_kind") not in ("timeout", None)),
    ("key_id=1&key_id=11", lambda r: r.key_id in (1, 11)),
    ("key_id=-3", lambda r: r.key_id == -3),
    ("key_id=01&key_id=x&key_id=99999999999999999999", lambda _: False),
    ("key_id!=x", lambda _: True),
    ("key_id!=1&key_id!=2", lambda r: r.key_id not in (1, 2)),
    ("key_id=1&key_id=2&key_id!=2", lambda r: r.key_id == 1),
    ("key=10", lambda r: r.key_id == 10),
    ("team=red&user_id=u1", lambda r: r.team == "red" and r.user_id == "u1"),
    ("team=__null__", lambda r: r.team is None),
    ("team=", lambda r: r.team == ""),
    ("model_id=1", lambda r: r.model_id == 1),
    ("model_id=1&model_id=10", lambda r: r.model_id in (1, 10)),
    ("model_id=unresolved", lambda r: value(r, "model_id") == "unresolved"),
    ("model_id=unresolved&model_id=2", lambda r: value(r, "model_id") in ("unresolved", 2)),
    ("model_id!=unresolved", lambda r: value(r, "model_id") != "unresolved"),
    ("model_id!=1&model_id!=2", lambda r: value(r, "model_id") not in (1, 2)),
    ("model_id=4", lambda _: False),  # it has no provider
    ("model_id=123456", lambda _: False),
    ("provider_id=1", lambda r: value(r, "provider_id") == 1),
    ("provider_id=1&model_id=3", lambda _: False),
    ("provider_id!=1", lambda r: value(r, "provider_id") != 1),
    ("provider_id=unresolved", lambda r: value(r, "provider_id") == "unresolved"),
]


@pytest.mark.parametrize(("text", "wanted"), FILTERS, ids=lambda part: part if isinstance(part, str) else "")
async def test_a_filter_means_the_requests_that_it_says(
    ask: Ask, requests: list[Request], text: str, wanted: Any
) -> None:
    answer = await ask(f"group_by=team&measures={ALL_FIGURES}&{RANGE}&{text}")
    expected = [each for each in requests if wanted(each)]
    groups = grouped(expected, ["team"])
    assert {row["team"] for row in answer.data} == {group for (group,) in groups}
    for row in answer.data:
        assert shown(row) == approximately(figures(groups[row["team"],]))
    assert answer.totals["total"] == approximately(figures(expected))


@pytest.mark.parametrize("bucket", ["1h", "1d", "1w", "1mo"])
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
async def test_a_series_has_each_interval_of_each_group(
    ask: Ask, requests: list[Request], bucket: str, timezone: str
) -> None:
    # On March 29 the clock of Berlin goes forward.
    answer = await ask(
        f"group_by=team&measures={ALL_FIGURES}&{RANGE}&bucket={bucket}&timezone={timezone}&limit=2"
    )
    zone = ZoneInfo(timezone)
    groups = grouped(requests, ["team"])
    first = sorted(groups, key=lambda group: -len(groups[group]))[:2]
    assert list(dict.fromkeys(row["team"] for row in answer.data)) == [team for (team,) in first]
    for (team,) in first:
        rows = [row for row in answer.data if row["team"] == team]
        starts = [datetime.fromisoformat(row["bucket_start"]) for row in rows]
        assert starts == sorted(set(starts))
        assert starts[0] <= START
        for row, start, end in zip(
            rows, starts, [*starts[1:], datetime.max.replace(tzinfo=UTC)], strict=True
        ):
            assert shown(row) == approximately(figures(between(groups[team,], start, end)))
            assert (start.astimezone(zone).minute, start.astimezone(zone).second) == (0, 0)
    others = [each for group, members in groups.items() if group not in first for each in members]
    assert answer.totals["others"] == approximately(figures(others))
    assert answer.totals["total"] == approximately(figures(requests))


async def test_a_series_of_nothing_has_an_interval_of_zeros(ask: Ask) -> None:
    answer = await ask("bucket=1d&start_date=2020-01-01&end_date=2020-01-03&measures=total_requests")
    assert [row["total_requests"] for row in answer.data] == [0, 0, 0]
    assert answer.data[0]["bucket_start"] == "2020-01-01T00:00:00+00:00"


MIDDLE = START + timedelta(days=DAYS / 2)


@pytest.mark.parametrize(
    ("compare", "start"), [("previous", START), ("2026-03-26", datetime(2026, 3, 26, tzinfo=UTC))]
)
async def test_each_row_has_the_figures_of_the_earlier_range_and_the_change(
    ask: Ask, requests: list[Request], compare: str, start: datetime
) -> None:
    end = START + timedelta(days=DAYS)
    answer = await ask(
        f"group_by=user_id&measures={ALL_FIGURES}&limit=9&compare={compare}"
        f"&start_date={MIDDLE:%Y-%m-%d}&end_date={end:%Y-%m-%dT%H:%M:%SZ}"
    )
    now = grouped(between(requests, MIDDLE, end), ["user_id"])
    before = grouped(between(requests, start, start + (end - MIDDLE)), ["user_id"])
    assert len(answer.data) == 9
    for row in answer.data:
        group = (row["user_id"],)
        assert shown(row) == approximately(figures(now[group]))
        assert row["previous"] == approximately(figures(before.get(group, [])))
        for name, change in row["change"].items():
            was = row["previous"][name]
            assert change == (pytest.approx((row[name] - was) / was, abs=1e-4) if was else None)
    chosen = {(row["user_id"],) for row in answer.data}
    total, others = answer.totals["total"], answer.totals["others"]
    assert total["previous"] == approximately(
        figures(each for members in before.values() for each in members)
    )
    assert others["previous"] == approximately(
        figures(each for group, members in before.items() if group not in chosen for each in members)
    )


async def test_a_series_is_compared_interval_by_interval(ask: Ask, requests: list[Request]) -> None:
    end = START + timedelta(days=DAYS)
    answer = await ask(
        f"bucket=1d&measures=total_requests&compare=previous&start_date={MIDDLE:%Y-%m-%d}"
        f"&end_date={end:%Y-%m-%dT%H:%M:%SZ}"
    )
    assert len(answer.data) == 5
    for day, row in enumerate(answer.data):
        moment = START + timedelta(days=day)
        expected = len(between(requests, moment, moment + timedelta(days=1)))
        assert row["previous"] == {"total_requests": expected}


async def test_models_and_providers_come_with_their_names(ask: Ask) -> None:
    answer = await ask(f"group_by=provider_id,model_id&measures=total_requests&{RANGE}&order_by=model_id")
    rows = [
        (row["provider_id"], row["provider_name"], row["model_id"], row["model_name"]) for row in answer.data
    ]
    assert rows == [
        (1, "One", 1, "Alpha"),
        (1, "One", 2, "Beta"),
        (2, "Two", 3, "Gamma"),
        (2, "Two", 10, "Delta"),
        ("unresolved", "unresolved", "unresolved", "unresolved"),
    ]
    assert list(answer.data[0]) == [
        "provider_id",
        "provider_name",
        "model_id",
        "model_name",
        "total_requests",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name=user_id&prefix=u1", lambda r: r.user_id is not None and r.user_id.startswith("u1")),
        ("name=user_id&prefix=%25", lambda r: r.user_id == "%"),
        ("name=user_id", lambda _: True),
        ("name=team&prefix=r", lambda r: r.team == "red"),
    ],
)
async def test_the_values_of_a_dimension_come_most_requests_first(
    ask: Ask, requests: list[Request], text: str, wanted: Any
) -> None:
    answer = await ask(text, values=True)
    name = text.partition("&")[0].removeprefix("name=")
    groups = grouped([each for each in requests if wanted(each)], [name])
    assert {row["value"]: row["total_requests"] for row in answer.data} == {
        group: len(members) for (group,), members in groups.items()
    }
    counts = [row["total_requests"] for row in answer.data]
    assert counts == sorted(counts, reverse=True)


async def test_models_are_found_by_the_beginning_of_their_name_in_any_case(ask: Ask) -> None:
    answer = await ask("name=model_id&prefix=al", values=True)
    assert [(row["value"], row["name"]) for row in answer.data] == [(1, "Alpha")]
