"""The script that compares a gateway's own statistics with those of chat-stats, as it is printed."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import orjson
import pytest

from chat_stats.worker.local_servers import PostgresServer
from tests.docs.conftest import Run
from tests.docs.documents import ROOT, blocks

DOCUMENT = ROOT / "docs" / "replacing-your-own-endpoints.md"
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

#: What a gateway's own endpoint sends to its database.
OWN = """
    SELECT m.id, count(*) AS requests, 100.0 * avg((r.status = 'completed')::int)::float8 AS success_percent,
           sum(r.input_tokens)::bigint AS prompt_tokens, sum(r.output_tokens)::bigint AS completion_tokens,
           round(avg(r.processing_time_ms))::float8 AS avg_latency_ms
    FROM chat_completion_requests AS r JOIN models AS m ON m.id = r.model_id
    WHERE r.created_at >= $1 AND r.created_at < $2
    GROUP BY m.id
"""


@contextmanager
def gateway(url: str, statement: str) -> Iterator[str]:
    """Serve `/stats/models` as a gateway does that computes it for each call."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            body = orjson.dumps({"models": asyncio.run(self._rows(asked["from"][0], asked["to"][0]))})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        async def _rows(self, start: str, end: str) -> list[dict[str, Any]]:
            connection = await asyncpg.connect(url)
            try:
                bounds = (datetime.fromisoformat(start), datetime.fromisoformat(end))
                return [dict(row) for row in await connection.fetch(statement, *bounds)]
            finally:
                await connection.close()

        def log_message(self, *_args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def compare(run: Run, url: str, folder: Path, statement: str) -> tuple[int, str]:
    (script,) = blocks(DOCUMENT, "python")
    (folder / "compare.py").write_text(script)
    address = run("echo http://localhost:8000").strip()
    with gateway(url, statement) as own:
        done = subprocess.run(
            [
                *(sys.executable, folder / "compare.py", own, address),
                *((MIDNIGHT - timedelta(days=30)).isoformat(), (MIDNIGHT - timedelta(days=1)).isoformat()),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url(f"documentation_{os.getpid()}")


def test_a_gateway_that_counts_alike_has_no_differences(run: Run, url: str, tmp_path: Path) -> None:
    status, output = compare(run, url, tmp_path, OWN)
    assert re.fullmatch(r"\d\d+ models, \d{3,} requests, 0 of no model that exists: 0 differences\n", output)
    assert status == 0


def test_a_gateway_that_counts_otherwise_is_told_where(run: Run, url: str, tmp_path: Path) -> None:
    status, output = compare(run, url, tmp_path, OWN.replace("'completed'", "'done'"))
    assert status == 1
    assert re.search(r"^model \d+: success rate: yours 0\.0, chat-stats [\d.]+$", output, re.MULTILINE)
    assert "requests: yours" not in output
    status, output = compare(run, url, tmp_path, OWN.replace("r.created_at < $2", "r.id % 2 = 0 AND $2 > $1"))
    assert status == 1
    assert re.search(r"^model \d+: requests: yours \d+, chat-stats \d+$", output, re.MULTILINE)
