"""Settings, commands, options, metrics, endpoints, alerts and tables are all documented."""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml

from chat_stats.service.app import create_app
from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import filter_names
from chat_stats.service.database.rendering import RENDERED
from chat_stats.service.rollup import audit
from chat_stats.service.settings import PREFIX, Settings
from chat_stats.worker.cli.app import app
from tests.declared_metrics import DECLARED
from tests.docs.documents import DOCUMENTS, ROOT, sections, text

DOCS = ROOT / "docs"
OPENAPI = create_app(Settings(database_url="postgresql://x@localhost/x", _env_file=None)).openapi()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in OPENAPI["paths"].items()
    for method, operation in methods.items()
]
TIME = {"window", "start_date", "end_date"}
FILTERS = set(filter_names(known_dimensions()))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{PREFIX}{name.upper()}`" in text()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    # Variables of docker compose, of the tests and of `chat-stats mcp`.
    known |= {
        f"{PREFIX}{name}"
        for name in ("BIND", "CITUS", "EXTRAS", "SCREENSHOTS", "TESTS_GENERATIONS", "URL", "KEY")
    }
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", text())) <= known


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command with all its options."""
    waiting = [("chat-stats", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        options = [
            option
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        ]
        yield name, options
        waiting += [(f"{name} {sub.name}", sub) for sub in getattr(command, "commands", {}).values()]


@pytest.mark.parametrize(("command", "options"), list(commands()), ids=lambda value: str(value)[:40])
def test_every_command_is_documented_with_its_options(command: str, options: list[str]) -> None:
    document = DOCS / "command-line.md"
    about = [line for line in document.read_text().splitlines() if line.startswith(f"| `{command}")]
    assert about
    if command == "chat-stats":
        about = [sections(document)["The command line"]]
    elif command == "chat-stats import":
        about = [sections(document)["Logs in a file"]]
    documented = set(re.findall(r"`(--[\w-]+)`", "\n".join(about)))
    assert set(options) <= documented


@pytest.mark.parametrize("name", DECLARED)
def test_every_metric_is_documented(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "metrics.md").read_text()


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=lambda value: str(value)[:60])
def test_every_endpoint_is_documented_with_its_parameters(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    chapters = sections(DOCS / "http-api.md")
    (chapter,) = [chapter for chapter in chapters.values() if f"`{method} {path}`" in chapter]
    documented = set(re.findall(r"`(\w+)`", chapter)) | set(re.findall(r"\{(\w+)\}", path))
    parameters = {parameter["name"] for parameter in operation.get("parameters", ())}
    assert parameters - TIME - FILTERS <= documented
    if parameters >= {"status", "not_status"}:
        assert "#filters-by-dimension" in chapter
        assert set(re.findall(r"`(\w+)`", chapters["Filters by dimension"])) >= FILTERS
    if parameters & TIME and "statistics" in operation["tags"]:
        assert set(re.findall(r"`(\w+)`", chapters["Parameters of time"])) >= TIME


def test_every_status_of_an_error_is_documented() -> None:
    documented = set(re.findall(r"\b[45]\d\d\b", sections(DOCS / "http-api.md")["Errors"]))
    answered = {status for _, _, operation in OPERATIONS for status in operation["responses"]}
    assert {status for status in answered if status >= "400"} <= documented


def test_every_field_of_the_metadata_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", (DOCS / "http-api.md").read_text()))
    for name, schema in OPENAPI["components"]["schemas"].items():
        if name.endswith("Metadata"):
            assert set(schema["properties"]) <= documented, name


def test_every_alert_has_a_chapter_of_its_own() -> None:
    (group,) = yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for rule in group["rules"]}
    chapters = {title for title in sections(DOCS / "operations.md") if title.startswith("ChatStats")}
    assert chapters == alerts


def test_every_table_of_ours_is_among_what_to_back_up() -> None:
    tables = set(
        re.findall(r"CREATE TABLE IF NOT EXISTS stats_schema\.(chat_stats_\w+)", RENDERED.read_text())
    )
    assert len(tables) >= 8
    backups = sections(DOCS / "operations.md")["Backups"]
    for table in tables:
        assert table in backups or table.startswith("chat_stats_rollup_"), table


def test_the_figures_of_audits_are_those_of_the_code() -> None:
    chapter = sections(DOCS / "operations.md")["Audits"]
    assert f"{audit.RANGE_REQUESTS:,} requests" in chapter
    assert f"{audit.RANGE_ROWS:,} rows" in chapter
    assert f"requests / {audit.SWEEP_REQUESTS:,} + rows / {audit.RANGE_ROWS:,}   audits" in chapter
    seconds = {"minutes": 60, "hours": 3600, "days": 86400}
    rows = re.findall(
        r"^\| ([\d,]+) million \| ([\d,]+) \| ([\d.]+) (\w+) \| ([\d.]+) (\w+) \|$", chapter, re.MULTILINE
    )
    assert len(rows) == 4
    for millions, audits, *times in rows:
        requests = int(millions.replace(",", "")) * 1_000_000
        expected = math.ceil(requests / audit.SWEEP_REQUESTS + 365 * 50 / audit.RANGE_ROWS)
        assert int(audits.replace(",", "")) == expected
        assert float(times[0]) * seconds[times[1]] == pytest.approx(expected * 300, rel=0.03)
        assert float(times[2]) * seconds[times[3]] == pytest.approx(expected * 60, rel=0.03)


def test_every_document_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    for document in DOCUMENTS:
        assert document.name == "README.md" or f"{document.name})" in index, document.name
