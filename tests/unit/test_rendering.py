"""The templates of `sql/`: what is rendered, and what is refused."""

from pathlib import Path

import pytest

from chat_stats.service.catalogue.measures import MEASURES, Column, Measure
from chat_stats.service.catalogue.rollups import MODEL, ROLLUPS, TOTAL, Rollup, fold_sources
from chat_stats.service.catalogue.statuses import Statuses
from chat_stats.service.database import rendering
from chat_stats.service.database.names import Names
from chat_stats.service.database.rendering import QUERIES, RENDERED, Renderer, declared
from chat_stats.service.errors import SchemaError

CACHED_TOKENS = Measure("cached_tokens", "total_cached_tokens", "sum", Column("cached_tokens"))


def test_the_checked_in_file_is_what_the_templates_say() -> None:
    assert RENDERED.read_text() == declared().in_one_file(), f"{RENDERED.name} is out of date; run: make sql"


def test_the_file_has_plain_statements_alone() -> None:
    for line in RENDERED.read_text().splitlines():
        assert not line.startswith("\\"), line
        assert "{{" not in line, line
        assert "{%" not in line, line


def test_a_template_that_changed_makes_the_file_stale(tmp_path: Path) -> None:
    changed = tmp_path / "functions" / "values"
    changed.mkdir(parents=True)
    (changed / "chat_stats_one.sql").write_text("SELECT 1;\n")
    assert Renderer(sql=tmp_path).in_one_file() != RENDERED.read_text()


def test_every_template_renders() -> None:
    names = declared().sql()
    assert len(names) > 60
    assert all(declared().render(name).strip() for name in names)
    assert all(text.strip() for text in declared().statements().values())


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("SELECT {{ measure('colour').name }}", "unknown measure colour; known: requests, successful,"),
        ("SELECT {{ rollup('weeks').table }}", "unknown rollup weeks; known: model, total"),
        ("SELECT {{ each('sum({colour})') }}", "a measure has no colour; it has name, total"),
        ("SELECT {{ colour }}", "'colour' is undefined"),
        ("SELECT {{ measures[0].colour }}", "has no attribute 'colour'"),
        ("SELECT 1\n{% if %}", ", line 2: "),
    ],
)
def test_a_name_that_is_not_known_is_an_error_that_names_it_and_the_template(
    tmp_path: Path, text: str, trouble: str
) -> None:
    (tmp_path / "functions" / "values").mkdir(parents=True)
    (tmp_path / "functions" / "values" / "wrong.sql").write_text(text)
    with pytest.raises(SchemaError) as raised:
        Renderer(sql=tmp_path).in_one_file()
    assert "functions/values/wrong.sql" in str(raised.value)
    assert trouble in str(raised.value)


def test_a_plain_statement_that_cannot_be_rendered_is_found_before_any_runs(tmp_path: Path) -> None:
    (tmp_path / "wrong.sql").write_text("SELECT {{ measure('colour').name }}")
    with pytest.raises(SchemaError, match=r"wrong\.sql: unknown measure colour"):
        Renderer(queries=tmp_path).statements()


@pytest.mark.parametrize(
    ("measures", "rollups", "trouble"),
    [
        (
            MEASURES,
            [*ROLLUPS, Rollup("hours", ("hour",))],
            "rollup hours: unknown dimension hour; known: model_id",
        ),
        (MEASURES, [*ROLLUPS, Rollup("total")], "rollup total: the name is declared twice"),
        (MEASURES, [*ROLLUPS, Rollup("by model")], "rollup by model: a name has lower-case letters"),
        (MEASURES, [*ROLLUPS, Rollup("m" * 40)], "the name is too long"),
        (MEASURES, [MODEL], "the rollup total is missing"),
        ([*MEASURES, MEASURES[0]], ROLLUPS, "measure requests: the name is declared twice"),
        (
            [*MEASURES, Measure("cached", "total_requests", "sum", Column("cached"))],
            ROLLUPS,
            "measure total_requests: the name is declared twice",
        ),
        (
            [Measure("day", "total_day", "requests")],
            ROLLUPS,
            "measure day: our statements have another use",
        ),
        (
            [Measure("cached tokens", "total_cached", "requests")],
            ROLLUPS,
            "measure cached tokens: a name has lower-case letters, digits and _",
        ),
        ([Measure("cached", "total_cached", "sum")], ROLLUPS, "measure cached: a sum is made from a column"),
        (MEASURES[1:], ROLLUPS, "the measure requests is missing"),
    ],
)
def test_what_no_table_could_hold_is_an_error_that_names_it(
    measures: list[Measure], rollups: list[Rollup], trouble: str
) -> None:
    with pytest.raises(SchemaError) as raised:
        Renderer(measures, rollups)
    assert trouble in str(raised.value)


def test_statuses_are_rendered_into_the_functions_and_put_into_plain_statements_by_the_settings() -> None:
    renderer = Renderer(statuses=Statuses(success=("fertig", "it's 100%"), pending=()))
    function = renderer.render("functions/values/chat_stats_is_success.sql")
    assert "IN ('fertig', E'it\\U00000027s\\U00000020100\\U00000025')" in function
    assert "IN (NULL)" in renderer.render("functions/values/chat_stats_is_pending.sql")
    statement = renderer.statements()["usage_by_model"]
    assert "fertig" not in statement
    assert "IN ('done')" in Names({}, None, statuses=Statuses(success=("done",))).fill(statement)


def test_a_status_with_two_meanings_is_refused() -> None:
    with pytest.raises(ValueError, match="the status 'ok' cannot mean both"):
        Statuses(success=("ok",), pending=("ok",))


def test_a_rollup_is_in_everything_that_repeats_by_rollup() -> None:
    def places(renderer: Renderer, word: str) -> set[str]:
        return {name for name in renderer.sql() if word in renderer.render(name)}

    further = Renderer(rollups=[MODEL, Rollup("again", ("model_id",)), TOTAL])
    assert places(further, "again_slot_sums") == places(declared(), "total_slot_sums")
    assert places(further, "chat_stats_purged_again") >= {
        "functions/retention/chat_stats_purged_add.sql",
        "functions/rollup/chat_stats_rollup_changes.sql",
        "migrations/0008_purged_requests.sql",
    }


def test_a_fold_makes_a_rollup_from_the_coarsest_that_has_its_dimensions() -> None:
    users = Rollup("users", ("by_user_id",))
    pairs = Rollup("pairs", ("by_user_id", "model_id"), histograms=False)
    keys = Rollup("keys", ("by_key_id", "by_user_id", "model_id"))
    kinds = Rollup("kinds", ("by_error_kind",))
    assert fold_sources([MODEL, TOTAL, users, pairs, keys, kinds]) == [
        (keys, None, None),
        (pairs, keys, keys),
        (MODEL, pairs, keys),
        (users, pairs, keys),
        (kinds, None, None),
        (TOTAL, MODEL, MODEL),
    ]


def test_a_measure_is_in_everything_that_repeats_by_measure() -> None:
    def places(renderer: Renderer, word: str) -> set[str]:
        names = [*renderer.sql(), *(path.name for path in QUERIES.glob("*.sql"))]
        return {name for name in names if word in renderer.render(name)}

    assert places(Renderer([*MEASURES, CACHED_TOKENS]), "cached_tokens") >= {
        name for name in places(declared(), "output_tokens") if "/answers/" not in name
    } - {
        "migrations/0001_gateway_tables.sql",
        "plot_slots.sql",
        "plot_slots_citus.sql",
        "requests_timed.sql",
        "requests_untimed.sql",
    }


def test_a_statement_is_rendered_once_for_each_context(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer()

    def labels(name: str) -> str:
        return renderer.statement("asked/labels.sql", (), table="models", name=name)

    first = labels("model_name")
    assert labels("model_name") is first
    assert labels("id") != first
    monkeypatch.setattr(rendering, "MOST_RENDERED", 2)
    labels("created_at")
    assert labels("model_name") == first
    assert labels("model_name") is not first  # it was the one that was used longest ago


def test_a_statement_is_filled_by_the_names_that_are_given() -> None:
    text = "SELECT readable.cost_usd, stats_schema.f() FROM gateway_schema.models"
    for schema in ("one", "two", "one"):
        names = Names({"models": schema}, schema)
        assert names.fill(text) == f'SELECT cost_usd, "{schema}".f() FROM "{schema}".models'
    assert "absent.cost_usd" in Names({"models": "one"}, "one", ["cost_usd"]).fill(text)
