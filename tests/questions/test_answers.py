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
