"""nginx as a caching proxy in front of the service behaves as the headers say."""

import gzip
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chat_stats.worker.local_servers import free_port
from tests.conftest import SettingsFactory
from tests.processes import answers, chat_stats, environment, running, until
from tests.tools import NGINX, need

PATH = "/api/monitoring/chat-requests/models"

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=answers:1m use_temp_path=off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{service_port};
            proxy_http_version 1.1;
            proxy_cache answers;
            proxy_cache_revalidate on;
            proxy_cache_background_update on;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Run nginx as the current user; yield its URL and the port on which it expects the service."""
    program = need(NGINX)
    port, service_port = free_port(), free_port()
    file = tmp_path / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=tmp_path, port=port, service_port=service_port))
    process = subprocess.Popen(
        [program, "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(file)],
        stderr=subprocess.DEVNULL,
    )
    try:
        until(
            lambda: (tmp_path / "nginx.pid").exists(),
            what=lambda: f"nginx to start: {(tmp_path / 'error.log').read_text()}",
        )
        yield f"http://127.0.0.1:{port}", service_port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.mark.slow
def test_nginx_caches_revalidates_varies_and_serves_stale_answers(
    nginx: tuple[str, int], settings_with: SettingsFactory, tmp_path: Path, database_url: str
) -> None:
    url, service_port = nginx
    settings = settings_with()
    env = environment(
        database_url,
        settings.redis_url.get_secret_value(),
        cache_prefix=settings.cache_prefix,
        refresh_interval_seconds=1,
        fresh_seconds=2,
    )
    loaded = chat_stats("import", str(_log(tmp_path)), "--provider", "One", env=env)
    assert loaded.returncode == 0, loaded.stderr
    with (
        httpx.Client(base_url=url, headers={"Accept-Encoding": "identity"}) as client,
        running("serve", "--port", str(service_port), env=env, log=tmp_path / "serve.log") as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service_port}") as direct,
    ):
        until(lambda: answers(direct), what=service.output)

        first, second = client.get(PATH), client.get(PATH)
        assert [first.headers["x-cache"], second.headers["x-cache"]] == ["MISS", "HIT"]
        assert first.content == second.content
        assert len(first.json()["data"]) == 40

        # From its cache nginx also answers If-None-Match with a 304.
        etag = first.headers["etag"]
        known = client.get(PATH, headers={"If-None-Match": etag})
        assert (known.status_code, known.headers["x-cache"], known.headers["etag"]) == (304, "HIT", etag)

        # Vary: clients that accept gzip get a copy of their own, the others the plain one.
        (headers, _), (headers_again, body) = _gzip(client), _gzip(client)
        assert [headers["x-cache"], headers_again["x-cache"]] == ["MISS", "HIT"]
        assert headers_again["content-encoding"] == "gzip"
        assert gzip.decompress(body).startswith(b'{"success":true,"data":[')
        plain = client.get(PATH)
        assert (plain.headers["x-cache"], plain.headers.get("content-encoding")) == ("HIT", None)

        # Errors and answers that are not cacheable are not stored.
        assert client.get(f"{PATH}?window=1y").status_code == 422
        assert client.get(f"{PATH}?window=1y").headers["x-cache"] == "MISS"

        # After max-age, within stale-while-revalidate: the old answer at once, and a 304 in the background.
        seen: list[str] = []

        def ask() -> list[str]:
            answer = client.get(PATH)
            assert (answer.status_code, answer.headers["etag"]) == (200, etag)
            seen.append(answer.headers["x-cache"])
            return seen

        until(lambda: ask()[-1] == "STALE")
        until(lambda: ask()[-1] == "HIT")
        assert set(seen) <= {"HIT", "STALE", "UPDATING"}  # no request waited

        # stale-if-error: when the service is down, nginx serves stale answers.
        service.end()
        until(lambda: ask()[-1] == "STALE")
        for _ in range(5):
            ask()
        assert "HIT" not in seen[-5:]
        assert client.get(PATH).json()["data"] == first.json()["data"]
        assert client.get(f"{PATH}?window=90d").status_code == 502  # not in its cache


def _gzip(client: httpx.Client) -> tuple[httpx.Headers, bytes]:
    """Ask for gzip; return the headers, and the body as it was sent."""
    with client.stream("GET", PATH, headers={"Accept-Encoding": "gzip"}) as response:
        return response.headers, b"".join(response.iter_raw())


def _log(folder: Path) -> Path:
    """Write a log of one request to each of 40 models."""
    file = folder / "requests.csv"
    lines = [f"2026-01-01T00:00:{n:02},model-{n},{n},1,completed" for n in range(40)]
    file.write_text("\n".join(["created_at,model,input_tokens,output_tokens,status", *lines]))
    return file
