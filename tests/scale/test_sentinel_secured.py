"""Redis and its Sentinel with users of few rights, and over TLS: worker and commands reach both."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import free_port, redis_program
from tests.processes import chat_stats, environment, running, until
from tests.tools import REDIS_TLS, need

pytestmark = pytest.mark.slow

RIGHTS = "+@read +@write +@connection +@transaction +@pubsub +@scripting +info"
REDIS = f"""\
user default off
user admin on >admin ~* &* +@all
user stats on >secret ~chat-stats:* ~arq:* &chat-stats:* {RIGHTS}
"""
SENTINEL = """\
user default off
user asks on >who -@all +@connection +sentinel|masters
dir {folder}
sentinel monitor main 127.0.0.1 {port} 1
sentinel auth-user main admin
sentinel auth-pass main admin
"""


@contextmanager
def server(folder: Path, name: str, program: Path, text: str, *arguments: str) -> Iterator[None]:
    file = folder / f"{name}.conf"
    file.write_text(text)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([program, file, *arguments], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_refresh_by_the_queue_reaches_redis_with_few_rights(
    tmp_path: Path, database_url: str, tls: bool
) -> None:
    program = need(REDIS_TLS) if tls else redis_program()
    port, sentinel_port = free_port(), free_port()
    listening = "bind 127.0.0.1\nport {port}\n"
    url = (
        f"redis+sentinel://stats:secret@127.0.0.1:{sentinel_port}/main/0"
        "?sentinel_username=asks&sentinel_password=who"
    )
    if tls:
        listening = f"{_tls(tmp_path)}bind 127.0.0.1\nport 0\ntls-port {{port}}\n"
        url = url.replace("redis+", "rediss+") + f"&ssl_ca_certs={tmp_path}/cert.pem"
    env = environment(database_url, url, redis_timeout_seconds=10)
    of_sentinel = SENTINEL.format(folder=tmp_path, port=port)
    with (
        server(tmp_path, "redis", program, listening.format(port=port) + REDIS),
        server(
            tmp_path, "sentinel", program, listening.format(port=sentinel_port) + of_sentinel, "--sentinel"
        ),
        running("worker", env=env, log=tmp_path / "worker.log") as worker,
    ):
        until(lambda: "refreshed" in worker.output(), seconds=60, what=worker.output)
        done = chat_stats("refresh", env=env)
        status = chat_stats("status", env=env)
    assert done.returncode == 0, done.stderr
    assert status.returncode == 0, status.stdout
    assert "Traceback" not in worker.output()


def _tls(folder: Path) -> str:
    """Make a certificate that is its own authority; return the lines of its configuration."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return (
        f"tls-cert-file {folder}/cert.pem\ntls-key-file {folder}/key.pem\n"
        f"tls-ca-cert-file {folder}/cert.pem\ntls-auth-clients no\ntls-replication yes\n"
    )
