"""Documentation, alerts and dashboard match the metrics."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chat_stats.service.compute.methods import Method
from chat_stats.service.observability.exposition import expose
from chat_stats.service.observability.known_labels import METHODS
from chat_stats.service.observability.metrics import Counts
from chat_stats.service.observability.usage_metrics import USAGE_METRICS
from chat_stats.worker.metrics import REGISTRY
from tests.declared_metrics import DECLARED
from tests.tools import PROMTOOL, need

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/metrics.md").read_text()
MONITORING = ROOT / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
ALERT_TESTS = ["alerts_test.yml", "usage_alerts_test.yml"]
DASHBOARDS = {
    path.stem: json.loads(path.read_text()) for path in (MONITORING / "grafana/dashboards").glob("*.json")
}
DASHBOARD = DASHBOARDS["chat-stats"]
PANELS = DASHBOARD["panels"]

#: Metrics of Prometheus and its client.
FOREIGN = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def expressions() -> list[str]:
    targets = [target for panel in PANELS for target in panel.get("targets", ())]
    return [rule["expr"] for rule in ALERTS] + [target["expr"] for target in targets]


def sample_names() -> set[str]:
    """The names of the series that Prometheus gets."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    return {
        f"{metric.name}{suffix}"
        for metric in DECLARED.values()
        for suffix in suffixes.get(metric.kind, ("",))
    }


def selectors(expression: str) -> list[tuple[str, list[str]]]:
    """Each series of the expression, with the labels of its selector."""
    found = re.findall(r"\b((?:chat_stats|process)_\w+|up\b)(?:\{([^}]*)\})?", expression)
    return [(name, re.findall(r"(\w+)\s*[=!]~?=?\s*\"", inner)) for name, inner in found]


def test_exactly_the_declared_metrics_are_documented() -> None:
    rows = re.findall(r"^\| `(chat_stats_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", DOCS, re.MULTILINE)
    documented = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning) for name, kind, labels, meaning in rows
    }
    assert documented == {
        metric.name: (metric.kind, metric.labels, metric.meaning) for metric in DECLARED.values()
    }


def test_names_follow_the_conventions() -> None:
    for metric in DECLARED.values():
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")
            assert list(metric.bounds) == sorted(set(metric.bounds))


@pytest.mark.parametrize("expression", expressions())
def test_alerts_and_dashboard_use_existing_metrics_and_labels(expression: str) -> None:
    found = selectors(expression)
    assert found
    for name, labels in found:
        assert name in sample_names() | FOREIGN, name
        metric = DECLARED.get(name) or DECLARED.get(re.sub("_(bucket|count|sum)$", "", name))
        known = {"job", "instance", *(metric.labels if metric else ())}
        assert set(labels) <= known, (name, labels)


def test_every_label_to_group_by_is_one_of_the_metric() -> None:
    for expression in expressions():
        for grouped, name in re.findall(r"by \(([^)]*)\) \((?:\w+\()?(chat_stats_\w+)", expression):
            metric = DECLARED.get(name) or DECLARED[re.sub("_(bucket|count|sum)$", "", name)]
            known = {"le", "job", "instance", *metric.labels}
            assert {label.strip() for label in grouped.split(",")} <= known, expression


def test_every_alert_says_what_to_do() -> None:
    documented = set(re.findall(r"^\| `(ChatStats\w+)` \|", DOCS, re.MULTILINE))
    assert documented == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_says_what_it_shows(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    described = [panel.get("description", "") for panel in panels if panel["type"] != "row"]
    assert all(len(text) > 20 and text.endswith(".") for text in described), described


def test_the_data_source_and_the_jobs_are_variables() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job"]
    text = json.dumps(DASHBOARD)
    sources = re.findall(r'"uid": "([^"]+)"', text)
    assert set(sources) == {"chat-stats", "${datasource}"}
    for panel in PANELS:
        for target in panel.get("targets", ()):
            for name, labels in selectors(target["expr"]):
                assert "job" in labels, (panel["title"], name)
    assert "chat-stats-service" not in text, "jobs may have any name"


def test_counters_with_labels_have_them_from_the_start() -> None:
    text, _ = expose(Counts(), {}, accept="", process=False)
    there = {
        sample.name
        for family in text_string_to_metric_families(text.decode() + generate_latest(REGISTRY).decode())
        for sample in family.samples
    }
    counters = {metric.name for metric in DECLARED.values() if metric.kind == "counter"}
    assert counters - set(USAGE_METRICS) <= there
    assert set(METHODS) == set(Method)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("what", [["check", "config", "prometheus.yml"], ["test", "rules", *ALERT_TESTS]])
def test_prometheus_accepts_the_rules_and_they_fire_when_they_should(what: list[str]) -> None:
    ran = subprocess.run([need(PROMTOOL), *what], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_prometheus_parses_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    promtool = need(PROMTOOL)
    asked = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(expressions())
    ]
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": asked}]}))
    ran = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    files = [yaml.safe_load((MONITORING / name).read_text()) for name in ALERT_TESTS]
    cases = [case for file in files for group in file["tests"] for case in group["alert_rule_test"]]
    alerts = {rule["alert"] for rule in ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts
