"""All expressions of the dashboard and all alerts, in a real Prometheus over a real service and worker."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml

from chat_stats.worker.local_servers import free_port, stop_process
from tests.acceptance.test_observability import serving
from tests.processes import ROOT, chat_stats, running, until
from tests.rollup.workload import fill
from tests.tools import PROMETHEUS, need

pytestmark = pytest.mark.slow

MONITORING = ROOT / "monitoring"
PANELS: list[dict[str, Any]] = json.loads((MONITORING / "grafana/dashboards/chat-stats.json").read_text())[
    "panels"
]

#: Names that no file of ours has: the dashboard must not depend on them.
SERVICE_JOB, WORKER_JOB = "gateway-stats", "gateway-stats-worker"


class Prometheus:
    """A server that scrapes two targets every second, and evaluates our alerts."""

    def __init__(self, url: str) -> None:
        self.url = url

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["result"]

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=20).raise_for_status().json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def scraping(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    port = free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(MONITORING / "alerts.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            for job, target in targets.items()
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    command = [
        str(need(PROMETHEUS)),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        until(server.is_ready, seconds=60, what=(folder / "prometheus.log").read_text)
        yield server
    finally:
        stop_process(process, signal.SIGTERM)


def asked(expression: str, job: str = ".+") -> str:
    """The expression as Grafana sends it: with the values of its variables."""
    return expression.replace("$__rate_interval", "30s").replace("$job", job)


def queries() -> list[tuple[str, str]]:
    """(Title of the panel, expression) of all that must have a value on a healthy system."""
    return [
        (panel["title"], target["expr"])
        for panel in PANELS
        for target in panel.get("targets", ())
        if panel["fieldConfig"]["defaults"].get("noValue") != "none"
    ]


async def test_on_a_healthy_system_every_panel_has_values_and_no_alert_is_raised(
    connection: asyncpg.Connection, env: dict[str, str], tmp_path: Path
) -> None:
    await fill(connection, 500)
    for command in ("enable", "verify"):  # the worker's first audit takes place some minutes later
        done = chat_stats("rollup", command, env=env)
        assert done.returncode == 0, done.stderr
    worker_port = free_port()
    # Patient: a machine that is busy is healthy too.
    env |= {"CHAT_STATS_CONNECT_TIMEOUT_SECONDS": "10", "CHAT_STATS_REFRESH_INTERVAL_SECONDS": "5"}
    env |= {"CHAT_STATS_WORKER_METRICS_PORT": str(worker_port)}
    with (
        serving(env, tmp_path / "service.log") as (client, _service),
        running("worker", env=env, log=tmp_path / "worker.log"),
        scraping(tmp_path, {SERVICE_JOB: client.base_url.port or 0, WORKER_JOB: worker_port}) as prometheus,
    ):
        unanswered = dict(enumerate(queries()))

        def ask() -> bool:
            """Be a client, and strike off each expression that has values now."""
            end = f"2026-01-01T00:00:{len(unanswered) % 60:02}Z"
            for path in ("providers?window=24h", "models?window=all", f"summary?end_date={end}"):
                client.get(path).raise_for_status()
            for number, (_title, expression) in list(unanswered.items()):
                if prometheus.query(asked(expression)):
                    del unanswered[number]
            return not unanswered

        until(ask, seconds=120, what=lambda: f"values of {list(unanswered.values())}")
        found = {rule["name"]: rule for rule in prometheus.rules()}
        assert len(found) == len(
            yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
        )
        assert {rule["health"] for rule in found.values()} == {"ok"}

        def raised() -> list[str]:
            return [rule["name"] for rule in prometheus.rules() if rule["state"] != "inactive"]

        until(lambda: not raised(), seconds=60, what=lambda: f"no alert, not {raised()}")
        names = {metric["metric"]["job"] for metric in prometheus.query("chat_stats_build_info")}
        assert names == {SERVICE_JOB, WORKER_JOB}, "the variable lists them"
        of_no_job = [expr for _, expr in queries() if prometheus.query(asked(expr, job="other"))]
        assert of_no_job == [], "the variable selects in every expression"


async def test_the_first_event_of_a_counter_is_seen_to_increase_it(
    connection: asyncpg.Connection, env: dict[str, str], tmp_path: Path
) -> None:
    fallbacks = 'sum(increase(chat_stats_fallbacks_total{aggregation="providers"}[5m]))'
    env |= {"CHAT_STATS_CONNECT_TIMEOUT_SECONDS": "10"}
    with (
        serving(env, tmp_path / "service.log") as (client, _service),
        scraping(tmp_path, {SERVICE_JOB: client.base_url.port or 0}) as prometheus,
    ):

        def scraped_twice() -> bool:
            counted = prometheus.query("max(count_over_time(chat_stats_build_info[5m]))")
            return bool(counted) and float(counted[0]["value"][1]) >= 2

        until(scraped_twice, seconds=60, what=lambda: "two scrapes")
        await connection.execute("DROP FUNCTION get_provider_request_stats")
        client.get("providers?window=24h").raise_for_status()

        def increased() -> bool:
            found = prometheus.query(fallbacks)
            return bool(found) and float(found[0]["value"][1]) > 0

        until(increased, seconds=60, what=lambda: f"an increase, not {prometheus.query(fallbacks)}")
