"""A primary and its hot standby, made by pg_basebackup."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from chat_stats.worker.local_servers import (
    PostgresServer,
    embedded_postgres_binaries,
    free_port,
    postgres_server,
)
from tests.processes import until


@dataclass
class Pair:
    primary: PostgresServer
    standby: PostgresServer

    @property
    def either_url(self) -> str:
        """Return the URL of whichever is the primary."""
        both = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return self.primary.url().replace(f"127.0.0.1:{self.primary.port}", both)

    def pause(self) -> None:
        """Pause replay, once the standby has all."""
        wanted = execute(self.primary.url(), "SELECT pg_current_wal_flush_lsn()::text")
        until(
            lambda: execute(self.standby.url(), f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'::pg_lsn"),
            seconds=60,
            what=lambda: "replay",
        )
        execute(self.standby.url(), "SELECT pg_wal_replay_pause()")
        until(lambda: execute(self.standby.url(), "SELECT pg_get_wal_replay_pause_state() = 'paused'"))

    def resume(self) -> None:
        execute(self.standby.url(), "SELECT pg_wal_replay_resume()")

    def promote(self) -> float:
        """Kill the primary and promote the standby; return when it accepted writes."""
        self.primary.kill()
        data = self.standby.folder / "data"
        run(self.standby, "pg_ctl", "promote", "-w", "-D", str(data))
        return time.time()


def execute(url: str, *statements: str) -> Any:
    """Run statements; return the one value of the last. Not for a running event loop: that of `ask`."""
    return asyncio.run(ask(url, *statements))


async def ask(url: str, *statements: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def run(server: PostgresServer, program: str, *arguments: str) -> None:
    """Run a program of Postgres as the user of the server's data."""
    owner = (server.folder / "data").stat().st_uid if (server.folder / "data").exists() else None
    subprocess.run(
        [server.binaries / program, *arguments],
        env={**os.environ, "PGPASSWORD": server.password},
        user=owner if os.geteuid() == 0 else None,
        cwd=server.folder,
        check=True,
        capture_output=True,
        timeout=120,
    )


@contextmanager
def pair(folder: Path, **options: str) -> Iterator[Pair]:
    """Start both; `options` are further settings of the servers."""
    with ExitStack() as stack:
        primary = postgres_server(folder / "primary", binaries=embedded_postgres_binaries())
        primary.options |= {"fsync": "off", "wal_level": "replica", "hot_standby_feedback": "on", **options}
        primary.start()
        stack.callback(primary.kill)
        (folder / "standby").mkdir()
        standby = PostgresServer(
            folder / "standby", primary.binaries, free_port(), primary.password, dict(primary.options)
        )
        owner = (primary.folder / "data").stat().st_uid
        os.chown(standby.folder, owner, -1)
        (standby.folder / "data").mkdir(mode=0o700)
        os.chown(standby.folder / "data", owner, -1)
        address = f"host=127.0.0.1 port={primary.port} user=postgres password={primary.password}"
        data = str(standby.folder / "data")
        run(standby, "pg_basebackup", "-d", address, "-D", data, "-R", "-X", "stream", "--checkpoint=fast")
        standby.start()
        stack.callback(standby.kill)
        yield Pair(primary, standby)
