"""Another ASGI server than ours runs the application: hits are answered by the ASGI layer."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from backports import zstd

from chat_stats.worker.local_servers import free_port
from tests.processes import ROOT, answers, chat_stats, until

#: The commands of servers, but for the port.
SERVERS = {
    "granian": [
        *("--interface", "asgi", "--factory", "chat_stats:create_app", "--working-dir", str(ROOT)),
        *("--port", "{port}"),
    ],
    "hypercorn": ["chat_stats.service.app:create_app()", "--bind", "127.0.0.1:{port}"],
    "gunicorn": [
        *("chat_stats:create_app()", "--bind", "127.0.0.1:{port}"),
        *("--worker-class", "uvicorn_worker.UvicornWorker"),
    ],
}
#: Where a server is not its own module.
MODULES = {"gunicorn": "gunicorn.app.wsgiapp"}


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    "server", ["granian", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gunicorn", "hypercorn"))]
)
def test_another_server_serves_hits_misses_errors_and_compressed_answers(
    env: dict[str, str], tmp_path: Path, server: str
) -> None:
    env["CHAT_STATS_CONNECT_TIMEOUT_SECONDS"] = "10"  # the miss must not be a 503 on a busy machine
    assert chat_stats("refresh", "--local", env=env).returncode == 0
    port = free_port()
    command = [sys.executable, "-m", MODULES.get(server, server)]
    command += [argument.format(port=port) for argument in SERVERS[server]]
    with (tmp_path / server).open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/monitoring/chat-requests") as client:
            until(lambda: answers(client), what=lambda: (tmp_path / server).read_text())
            responses = [client.get("/models", headers={"Accept-Encoding": "identity"}) for _ in range(3)]
            assert [response.status_code for response in responses] == [200] * 3
            assert all("chat-stats; hit" in response.headers["cache-status"] for response in responses)
            again = client.get("/models", headers={"If-None-Match": responses[0].headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert client.head("/models").headers["etag"] == responses[0].headers["etag"]
            # Hourly buckets of a month: large enough for zstd, after a computation.
            target = "/timeseries?bucket=1h&window=30d"
            for state in ("miss", "hit"):
                with client.stream("GET", target, headers={"Accept-Encoding": "zstd"}) as response:
                    raw = b"".join(response.iter_raw())
                assert response.status_code == 200, raw
                assert response.headers["content-encoding"] == "zstd"
                assert state in response.headers["cache-status"]
                assert zstd.decompress(raw).startswith(b'{"success":true,"data":[')
            assert client.get("/models?window=1y").status_code == 422
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
