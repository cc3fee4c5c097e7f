"""A Postgres and its hot standby under Patroni, which promotes the standby when the primary is gone.

Patroni's members agree by its own Raft, with an arbiter as the third vote: no other store is needed.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg

from chat_stats.worker.local_servers import (
    PostgresServer,
    embedded_postgres_binaries,
    free_port,
    server_user,
)
from tests.processes import until
from tests.scale.standby import Pair, execute
from tests.tools import PATRONI, need

#: Seconds after which the primary's vote ends; Patroni takes no less.
LEASE_SECONDS = 20


@dataclass
class Member:
    """A Postgres, and the Patroni that runs it."""

    server: PostgresServer
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """Kill both at once, as when a machine fails."""
        self.process.kill()
        self.process.wait()
        pid_file = self.server.folder / "data" / "postmaster.pid"
        if pid_file.exists():
            with suppress(ProcessLookupError):
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)


class PatroniPair(Pair):
    def __init__(self, primary: Member, standby: Member) -> None:
        super().__init__(primary.server, standby.server)
        self._leader = primary

    def promote(self) -> float:
        """Kill the primary's machine; return when Patroni has made the standby accept writes."""
        self._leader.kill()
        until(
            lambda: not execute(self.standby.url(), "SELECT pg_is_in_recovery()"),
            seconds=3 * LEASE_SECONDS,
            what=(self.standby.folder / "patroni.log").read_text,
        )
        return time.time()


@contextmanager
def patroni_pair(folder: Path) -> Iterator[PatroniPair]:
    program = need(PATRONI)
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        members = []
        for number in range(2):
            server = PostgresServer(
                _folder(folder / f"member-{number}"),
                embedded_postgres_binaries(),
                free_port(),
                "of-the-tests",
            )
            member = _start(program, server, ports, number)
            stack.callback(member.kill)
            members.append(member)
            if number == 0:
                arbiter = _folder(folder / "arbiter")
                process = _run(
                    program.with_name("patroni_raft_controller"), arbiter, {"raft": _raft(arbiter, ports, 2)}
                )
                stack.callback(process.wait)
                stack.callback(process.kill)
            until(partial(_runs, member), seconds=120, what=(server.folder / "patroni.log").read_text)
        yield PatroniPair(*members)


def _start(program: Path, server: PostgresServer, ports: list[int], number: int) -> Member:
    address = f"127.0.0.1:{server.port}"
    rest = f"127.0.0.1:{free_port()}"
    users = {
        "superuser": {"username": "postgres", "password": server.password},
        "replication": {"username": "replicator", "password": server.password},
    }
    settings = {
        "scope": "chat-stats",
        "name": server.folder.name,
        "restapi": {"listen": rest, "connect_address": rest},
        "raft": _raft(server.folder, ports, number),
        "bootstrap": {
            "dcs": {
                "ttl": LEASE_SECONDS,
                "loop_wait": 1,
                "retry_timeout": 3,
                "postgresql": {"parameters": {"fsync": "off", "hot_standby_feedback": "on"}},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
        },
        "postgresql": {
            "listen": address,
            "connect_address": address,
            "data_dir": str(server.folder / "data"),
            "bin_dir": str(server.binaries),
            "pgpass": str(server.folder / "pgpass"),
            "authentication": users,
            "parameters": {"unix_socket_directories": ""},
            "pg_hba": [f"host {what} all 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")],
        },
    }
    return Member(server, _run(program, server.folder, settings))


def _raft(folder: Path, ports: list[int], number: int) -> dict[str, object]:
    addresses = [f"127.0.0.1:{port}" for port in ports]
    own = addresses.pop(number)
    return {"data_dir": str(folder / "raft"), "self_addr": own, "partner_addrs": addresses}


def _run(program: Path, folder: Path, settings: Mapping[str, object]) -> "subprocess.Popen[bytes]":
    file = folder / "patroni.yml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "patroni.log").open("wb") as log:
        return subprocess.Popen(
            [program, file], stdout=log, stderr=log, user=server_user(), cwd=folder, start_new_session=True
        )


def _folder(path: Path) -> Path:
    path.mkdir()
    if (user := server_user()) is not None:
        os.chown(path, user, -1)
    return path


def _runs(member: Member) -> bool:
    try:
        return bool(execute(member.server.url(), "SELECT true"))
    except (OSError, asyncpg.PostgresError):  # not yet, or without its password yet
        return False
