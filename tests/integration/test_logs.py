"""Ids of requests, the access log, and the log's two formats."""

import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from chat_stats.service.observability.logs import configure_logging
from chat_stats.service.observability.request_id import request_id
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient


@pytest.fixture
def log(settings_with: SettingsFactory) -> Iterator[io.StringIO]:
    """The log in JSON; the root logger is restored afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    token = request_id.set(None)
    root.handlers[:] = []
    configure_logging(settings_with(log_format="json"))
    written = io.StringIO()
    root.handlers[0].setStream(written)  # type: ignore[attr-defined]
    yield written
    root.handlers[:], root.level = before
    request_id.reset(token)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.getvalue().splitlines()]


async def test_a_valid_id_of_the_client_is_returned(client: httpx.AsyncClient) -> None:
    response = await client.get("http://test/health", headers={"X-Request-ID": "a-1/b=2"})
    assert response.headers["x-request-id"] == "a-1/b=2"


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, "caf\xe9", "tab\there"])
async def test_an_invalid_id_is_replaced(client: httpx.AsyncClient, sent: str) -> None:
    headers = [(b"X-Request-ID", sent.encode("latin-1"))]
    response = await client.get("http://test/health", headers=headers)
    assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])


async def test_every_request_has_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    made = {(await client.get("http://test/health")).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


async def test_an_error_names_the_id_so_that_a_user_can_report_it(client: httpx.AsyncClient) -> None:
    response = await client.get("/chat-requests/models?window=x", headers={"X-Request-ID": "report-me"})
    assert (response.status_code, response.json()["request_id"]) == (422, "report-me")


async def test_an_unexpected_error_names_the_id_too(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("chat_stats.service.stats.Stats.read", fail)
    response = await client.get("/chat-requests/models", headers={"X-Request-ID": "bug-1"})
    assert (response.status_code, response.json()["request_id"]) == (500, "bug-1")
    assert response.headers["x-request-id"] == "bug-1"


async def test_lines_logged_during_a_request_have_its_id(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, log: io.StringIO
) -> None:
    await gateway.execute("DROP FUNCTION get_model_request_counts CASCADE")
    await client.get("/chat-requests/counts", headers={"X-Request-ID": "slow-one"})
    (line,) = [line for line in lines(log) if "fallback_optimized" in line["message"]]
    assert (line["request_id"], line["level"], line["logger"]) == (
        "slow-one",
        "WARNING",
        "chat_stats.service.compute.methods",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00|.*Z", line["time"])


async def test_the_access_log_is_off_by_default(
    client_of: OpenClient, settings_with: SettingsFactory, log: io.StringIO, gateway: asyncpg.Connection
) -> None:
    await (await client_of(settings_with())).get("/chat-requests/counts")
    assert not [line for line in lines(log) if line["logger"] == "chat_stats.service.http.access_log"]
    client = await client_of(settings_with(access_log=True))
    await client.get("/chat-requests/models?window=24h", headers={"X-Request-ID": "one"})
    (line,) = [line for line in lines(log) if line["logger"] == "chat_stats.service.http.access_log"]
    assert line["duration_ms"] > 0
    assert {name: line[name] for name in ("http_method", "target", "status", "cache", "method")} == {
        "http_method": "GET",
        "target": "/api/monitoring/chat-requests/models?window=24h",
        "status": 200,
        "cache": "miss",
        "method": "rpc",
    }
    assert line["request_id"] == "one"


async def test_no_target_can_forge_a_line_of_the_log(
    client_of: OpenClient, settings_with: SettingsFactory, log: io.StringIO
) -> None:
    client = await client_of(settings_with(access_log=True))
    logging.getLogger().handlers[0].setFormatter(logging.Formatter("%(message)s"))
    await client.get("http://test/x%0aforged%1b[31m?y=%0d%0aforged")
    ours = [line for line in log.getvalue().splitlines() if not line.startswith("HTTP Request:")]
    assert len(ours) == 1
    assert "\x1b" not in log.getvalue()


def test_an_error_is_one_line_of_json_with_its_traceback(log: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("somewhere").exception("it failed")
    (line,) = lines(log)
    assert line["message"] == "it failed"
    assert "ValueError: two\nlines" in line["exception"]


def test_the_text_format_is_readable(
    settings_with: SettingsFactory, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings_with())
    logging.getLogger().handlers[0].setStream(log)  # type: ignore[attr-defined]
    logging.getLogger("place").warning("plain")
    token = request_id.set("an-id")
    logging.getLogger("place").warning("in a request")
    request_id.reset(token)
    first, second = log.getvalue().splitlines()
    assert first.endswith("WARNING place: plain")
    assert second.endswith("WARNING place: in a request [an-id]")
