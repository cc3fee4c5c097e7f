"""The servers that a benchmark measures against: its own in a temporary folder, and the web service."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx

from chat_stats.service.settings import PREFIX, Settings
from chat_stats.worker.local_servers import (
    embedded_postgres_binaries,
    free_port,
    postgres_server,
    redis_server,
)

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Servers:
    folder: Path
    #: The server, by a database on it that exists already.
    admin_url: str
    redis_url: str


@contextmanager
def own_servers(database_url: str | None = None) -> Iterator[Servers]:
    """Run Redis, and Postgres unless `database_url` names one; both with their default settings."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-stats-bench-")))
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        if database_url is None:
            # The embedded one even if another is on PATH, so that all machines measure the same version.
            postgres = postgres_server(folder / "postgres", binaries=embedded_postgres_binaries())
            postgres.start()
            stack.callback(postgres.stop)
            database_url = postgres.url()
        redis = redis_server(folder / "redis")
        redis.start()
        stack.callback(redis.stop)
        yield Servers(folder, database_url, redis.url)


async def create_database(admin_url: str) -> str:
    """Create a database for this run, and return its URL."""
    name = f"chat_stats_bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
    finally:
        await admin.close()
    return urlsplit(admin_url)._replace(path=f"/{name}").geturl()


async def drop_database(admin_url: str, url: str) -> None:
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")
    finally:
        await admin.close()


def settings_for(database_url: str, redis_url: str) -> Settings:
    """Return default settings, ignoring the environment and `.env`."""
    forget_settings()
    return Settings(database_url=database_url, redis_url=redis_url, _env_file=None)


def forget_settings() -> None:
    """Drop the user's settings from the environment: a benchmark measures the defaults."""
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        del os.environ[name]


@contextmanager
def web_service(servers: Servers, database_url: str) -> Iterator[str]:
    """Run the web service in one uvicorn process, and yield its URL."""
    port = free_port()
    forget_settings()
    environment = {
        **os.environ,
        f"{PREFIX}DATABASE_URL": database_url,
        f"{PREFIX}REDIS_URL": servers.redis_url,
    }
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "chat_stats:create_app"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"),
        *("--app-dir", str(Path(__file__).parent.parent)),
    ]
    # In the temporary folder there is no .env to read.
    process = subprocess.Popen(command, env=environment, cwd=servers.folder)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(process, f"{url}/health")
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=1).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the web service did not start")
