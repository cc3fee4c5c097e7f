"""A Redis with a replica, and three Sentinels that make the replica the master when the master is gone."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis, RedisError

from chat_stats.worker.local_servers import RedisServer, free_port, redis_program, redis_server
from tests.processes import until

PASSWORD = "of-the-servers"
SENTINEL_PASSWORD = "of-the-sentinels"


@dataclass
class Sentinels:
    servers: dict[int, RedisServer]
    ports: list[int]
    processes: "list[subprocess.Popen[bytes]]"

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/main/0?sentinel_password={SENTINEL_PASSWORD}"

    def master_port(self, sentinel: int = 0) -> int:
        with Redis(port=self.ports[sentinel], password=SENTINEL_PASSWORD) as client:
            return int(client.sentinel_get_master_addr_by_name("main")[1])

    def fail_over(self) -> float:
        """Kill the master; return the time at which all Sentinels name another."""
        old = self.master_port()
        self.servers[old].kill()
        until(
            lambda: all(self.master_port(number) != old for number in range(len(self.ports))),
            seconds=60,
            what=lambda: "another master",
        )
        return time.time()

    def heal(self) -> None:
        """Start the old master again, and wait until it follows the new one."""
        for server in self.servers.values():
            if server.process is None or server.process.poll() is not None:
                server.start()
        until(
            lambda: all(map(_knows_all, self.ports)),
            seconds=60,
            what=lambda: "a replica that follows the master",
        )


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    with ExitStack() as stack:
        servers: dict[int, RedisServer] = {}
        for name in ("first", "second"):
            server = redis_server(folder / name)
            server.options |= {
                "requirepass": PASSWORD,
                "masterauth": PASSWORD,
                "repl-diskless-sync-delay": "0",
            }
            if servers:
                server.options["replicaof"] = f"127.0.0.1 {next(iter(servers))}"
            servers[server.port] = server
        first, second = servers.values()
        for server in (first, second):
            server.start()
            stack.callback(server.stop)
        ports = [free_port() for _ in range(3)]
        processes = []
        for number, port in enumerate(ports):
            config = folder / f"sentinel-{number}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass {SENTINEL_PASSWORD}\n"
                f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
                f"sentinel monitor main 127.0.0.1 {first.port} 2\n"
                f"sentinel auth-pass main {PASSWORD}\n"
                "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n"
            )
            with (folder / f"sentinel-{number}.log").open("wb") as log:
                process = subprocess.Popen([redis_program(), config, "--sentinel"], stdout=log, stderr=log)
            processes.append(process)
            stack.callback(process.wait)
            stack.callback(process.kill)
        found = Sentinels(servers, ports, processes)
        until(lambda: all(map(_knows_all, ports)), seconds=60, what=lambda: "Sentinels that know each other")
        yield found


def _knows_all(port: int) -> bool:
    try:
        with Redis(port=port, password=SENTINEL_PASSWORD) as client:
            master = client.sentinel_masters()["main"]
            replicas = client.sentinel_slaves("main")
    except RedisError:
        return False
    healthy = [replica for replica in replicas if replica["master-link-status"] == "ok"]
    return master["num-other-sentinels"] == 2 and len(healthy) == 1
