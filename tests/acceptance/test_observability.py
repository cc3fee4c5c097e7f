"""Metrics, logs and traces of real processes."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from chat_stats.worker.local_servers import RedisServer, free_port
from tests.processes import ROOT, Process, answers, chat_stats, environment, running, until

#: Addresses without a server: endpoints that need neither Postgres nor Redis still answer.
NOWHERE = ("postgresql://user@127.0.0.1:1/none", "redis://127.0.0.1:1/0")


def total(client: httpx.Client | str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    url = client if isinstance(client, str) else str(client.base_url.copy_with(path="/metrics"))
    text = httpx.get(url).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"chat_stats_{name}" and labels.items() <= sample.labels.items()
    )


@contextmanager
def serving(env: dict[str, str], log: Path, *options: str) -> Iterator[tuple[httpx.Client, Process]]:
    port = free_port()
    with (
        running("serve", "--port", str(port), *options, env=env, log=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/monitoring/chat-requests") as client,
    ):
        until(lambda: answers(client), what=lambda: f"the service to start: {process.output()}")
        try:
            yield client, process
        finally:  # by SIGTERM, so that its child processes end too
            process.popen.terminate()
            process.wait()


def ask(client: httpx.Client, times: int) -> None:
    """Send each request over its own connection, so that every process gets some."""
    url = client.base_url.copy_with(path="/nowhere")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: httpx.get(url), range(times)))


def answered(client: httpx.Client) -> float:
    try:
        return total(client, "requests_total", endpoint="unmatched")
    except httpx.TransportError:  # the connection reached the process that is being killed
        return 0


@pytest.mark.slow
def test_any_process_answers_for_all_and_no_counter_falls_when_one_dies(tmp_path: Path) -> None:
    env = environment(*NOWHERE)
    with serving(env, tmp_path / "log", "--workers", "2") as (client, process):
        until(lambda: total(client, "processes") == 2, seconds=60, what=process.output)
        ask(client, 30)
        until(lambda: answered(client) == 30, what=lambda: f"30, not {answered(client)}")
        seen = [total(client, "requests_total") for _ in range(10)]
        assert seen == sorted(seen)
        killed, *_ = [
            child
            for child in psutil.Process(process.popen.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        killed.kill()
        until(
            lambda: answered(client) >= 30 and total(client, "processes") == 2,
            seconds=60,
            what=process.output,
        )
        assert answered(client) == 30


def test_the_worker_serves_its_own_counts_if_it_has_a_port(
    database_url: str, redis: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    env = environment(database_url, redis.url, cache_prefix=tmp_path.name, worker_metrics_port=port)
    url = f"http://127.0.0.1:{port}/metrics"
    with running("worker", env=env, log=tmp_path / "log") as process:
        until(lambda: "refreshed" in process.output(), what=process.output)
        assert total(url, "refresh_duration_seconds_count") >= 1
        assert total(url, "computations_total", aggregation="models", method="rpc") >= 1
        assert total(url, "refresh_failures_total") == 0
        second = chat_stats("worker", env=env)
        assert second.returncode == 2
        assert "CHAT_STATS_WORKER_METRICS_PORT" in second.stderr


@pytest.mark.slow
def test_every_line_of_the_service_is_json_with_the_json_format(tmp_path: Path) -> None:
    env = environment(*NOWHERE, log_format="json", access_log="true")
    with serving(env, tmp_path / "log") as (client, process):
        client.get("counts", headers={"X-Request-ID": "from-outside"})
    lines = [json.loads(line) for line in process.output().splitlines()]
    assert {"uvicorn.error", "chat_stats.service.http.access_log"} <= {line["logger"] for line in lines}
    assert not any("color_message" in line for line in lines)
    (line,) = [
        line
        for line in lines
        if line["logger"] == "chat_stats.service.http.access_log" and line.get("request_id") == "from-outside"
    ]
    assert (line["status"], line["target"]) == (503, "/api/monitoring/chat-requests/counts")


class Collector:
    """An OTLP receiver over HTTP: keeps the spans that it is sent."""

    def __init__(self) -> None:
        spans: list[tuple[str, str, str]] = []
        self.spans = spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sent = ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    names = {each.key: each.value.string_value for each in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        spans.extend(
                            (names["service.name"], span.name, span.trace_id.hex()) for span in scope.spans
                        )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


@pytest.mark.slow
def test_a_request_is_traced_down_to_its_statements_when_an_endpoint_is_set(
    database_url: str, redis: RedisServer, tmp_path: Path
) -> None:
    settings = environment(database_url, redis.url, cache_prefix=tmp_path.name)
    with collecting() as collector:
        env = {**settings, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        parent = "0af7651916cd43dd8448eb211c80319c"
        with serving(env, tmp_path / "log") as (client, _):
            client.get("summary", headers={"traceparent": f"00-{parent}-b7ad6b7169203331-01"})
        names = {name for service, name, trace in collector.spans if trace == parent}
        assert {service for service, _, _ in collector.spans} == {"chat-stats service"}
    assert "GET /api/monitoring/chat-requests/summary" in names
    assert "GET" in names, "the look into Redis"
    assert any("SELECT" in name or "get_chat_request_summary" in name for name in names), names


def test_nothing_of_the_tracing_packages_is_imported_when_no_endpoint_is_set() -> None:
    code = (
        "import sys, chat_stats.service.app\n"
        "from chat_stats.service.settings import Settings\n"
        "chat_stats.service.app.create_app(Settings(database_url='postgresql://nowhere', _env_file=None))\n"
        "chat_stats.service.app.tracing.start('test')\n"
        "print([name for name in sys.modules if name.startswith(\n"
        "    ('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.instrumentation'))])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"
