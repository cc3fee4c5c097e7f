"""The stack that a drill breaks: Postgres, Redis, a worker and services as processes, and a writer."""

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import redis

from chat_stats.worker.local_servers import (
    PostgresServer,
    RedisServer,
    free_port,
    postgres_server,
    redis_server,
)
from tests.drills.load import Reply, at_once
from tests.drills.writer import Writer
from tests.processes import Process, chat_stats, environment, running, until

SERVICES = 4
REFRESH_SECONDS = 1.0
FRESH_SECONDS = 1.5
#: Time-out of the first method; the time-outs of all methods add up to twice that.
QUERY_SECONDS = 0.8
#: Longest wait for an answer that is not cached: the client then has its 503 within two seconds.
ANSWER_SECONDS = 1.9
BASE = "/api/monitoring/chat-requests"
#: Targets that the worker keeps computed.
KNOWN = [f"{BASE}/{name}?window={window}" for name in ("counts", "summary") for window in ("24h", "all")]
CONTROL = "/health"
#: Seconds by which a snapshot may be younger than it says.
SNAPSHOT_SECONDS = 1.5

FILL = """
INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
INSERT INTO models (id, provider_id, model_name)
    VALUES (1, 1, 'Alpha'), (2, 1, 'Beta'), (3, 2, 'Gamma');
CREATE ROLE chat_stats LOGIN PASSWORD 'chat-stats';
GRANT SELECT ON providers, models, chat_completion_requests TO chat_stats;
SELECT chat_stats_grant_read('chat_stats');
"""


class World:
    def __init__(self, postgres: PostgresServer, redis_server: RedisServer, env: dict[str, str]) -> None:
        self.postgres = postgres
        self.redis_server = redis_server
        self.redis = redis.Redis.from_url(redis_server.url)
        self.env = env
        self.services: list[Process] = []
        self.ports: list[int] = []
        self.worker: Process | None = None
        self.writer = Writer(postgres.url(), per_second=20)
        self._numbers = itertools.count()
        self._seen: dict[Path, int] = {}

    @property
    def old_dump(self) -> Path:
        """Redis' dump from when everything was first cached, under a name that Redis does not load."""
        return self.redis_server.folder / "old.rdb"

    @property
    def prefix(self) -> str:
        return self.env["CHAT_STATS_CACHE_PREFIX"]

    def next_request(self) -> tuple[int, str]:
        """Return the next port and target: mostly known ones, sometimes /health, rarely a new one."""
        number = next(self._numbers)
        port = self.ports[number % len(self.ports)]
        if number % 50 == 0:
            return port, self.new_target()
        if number % 5 == 0:
            return port, CONTROL
        return port, KNOWN[number // len(self.ports) % len(KNOWN)]

    def new_target(self) -> str:
        """Return a target that was never requested."""
        start = datetime(2000, 1, 1) + timedelta(minutes=next(self._numbers))  # noqa: DTZ001  it means UTC
        return f"{BASE}/counts?start_date={start.isoformat()}"

    def execute(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(
                self.postgres.url(), server_settings={"default_transaction_read_only": "off"}
            )
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    def query(self, statement: str) -> Any:
        async def run() -> Any:
            connection = await asyncpg.connect(self.postgres.url())
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(run())

    def signal_postgres(self, number: signal.Signals) -> None:
        """Send the signal to the server and to all its processes: each has a group of its own."""
        assert self.postgres.process is not None
        server = psutil.Process(self.postgres.process.pid)
        for process in (server, *server.children(recursive=True)):
            process.send_signal(number)

    def signal_redis(self, number: signal.Signals) -> None:
        assert self.redis_server.process is not None
        os.kill(self.redis_server.process.pid, number)

    def end_worker(self) -> None:
        if self.worker is not None:
            self.worker.end()

    def stored(self, key: bytes | str) -> bytes:
        """Return what Redis has under the key."""
        value = self.redis.get(key)
        assert isinstance(value, bytes)
        return value

    def computations(self, start_date: str) -> int:
        """Return how often the counts were computed for the range from `start_date` on."""
        wanted = start_date.replace("T", " ")
        lines = (self.postgres.folder / "postgres.log").read_text(errors="replace").splitlines()
        # The parameters of a statement are logged in the line below it.
        return sum(
            wanted in parameters and "chat_stats_usage(" in statement
            for statement, parameters in pairwise(lines)
        )

    def memory(self) -> list[int]:
        """Return the resident bytes of each service."""
        return [psutil.Process(service.popen.pid).memory_info().rss for service in self.services]

    def wrong_numbers(self, replies: list[Reply]) -> list[str]:
        """Return the errors of the answers: numbers that do not match the moment of their computation."""
        found = []
        for reply in replies:
            if reply.status != 200 or reply.target == CONTROL:
                continue
            body = reply.json
            metadata = body["metadata"]
            computed_at = datetime.fromisoformat(metadata["computed_at"]).timestamp()
            age = datetime.fromisoformat(metadata["timestamp"]).timestamp() - computed_at
            if age < -5:  # from before the clock was set back
                if metadata["cache"] != "stale":
                    found.append(f"{metadata['cache']} although from the future: {reply.target}")
                continue
            if abs(max(0, age) - metadata["cache_age_seconds"]) > 0.05:
                found.append(f"age {metadata['cache_age_seconds']} of {age}: {reply.target}")
            total = metadata.get("total_requests")
            if total is None:
                total = body["data"]["total_requests"]
            least = self.writer.at_least(computed_at)
            most = self.writer.at_most(computed_at + SNAPSHOT_SECONDS)
            if not least <= total <= most:
                found.append(f"{total} requests, not {least} to {most}, {age:.3f} s ago: {reply.target}")
        return found

    def start_worker(self, log: Path) -> None:
        self.worker = Process("worker", env=self.env, log=log)

    def logs(self) -> str:
        return "".join(process.output() for process in (*self.services, self.worker) if process)

    def tracebacks(self) -> list[str]:
        """Return the tracebacks that were logged since the last call, each with some lines before it."""
        found = []
        for process in filter(None, (*self.services, self.worker)):
            lines = process.output().splitlines()
            seen = self._seen.get(process.log, 0)
            self._seen[process.log] = len(lines)
            for number, line in enumerate(lines[seen:], seen):
                if line.startswith("Traceback"):
                    found.append("\n".join(lines[max(0, number - 3) : number + 60]))
        return found

    def answers(self) -> bool:
        """Return whether each service answers all known targets from the cache."""
        replies = asyncio.run(at_once([(port, target) for port in self.ports for target in KNOWN]))
        return all(reply.status == 200 and reply.metadata["cache"] == "hit" for reply in replies)


@contextmanager
def world(folder: Path, *, services: int = SERVICES, **settings: object) -> Iterator[World]:
    """Run everything in `folder`, which other users can enter, until all answers are cached."""
    with ExitStack() as stack:
        postgres = postgres_server(folder / "postgres")
        postgres.options |= {"fsync": "off", "log_statement": "all", "log_parameter_max_length": "100"}
        postgres.start()
        stack.callback(postgres.stop)
        redis = redis_server(folder / "redis")
        redis.start()
        stack.callback(redis.stop)
        env = environment(
            postgres.url().replace(f"postgres:{postgres.password}", "chat_stats:chat-stats"),
            redis.url,
            **{
                "cache_prefix": "drills",
                "windows": "24h,all",
                "refresh_interval_seconds": REFRESH_SECONDS,
                "fresh_seconds": FRESH_SECONDS,
                "local_cache_seconds": 0.3,
                "query_timeout_seconds": QUERY_SECONDS,
                "answer_timeout_seconds": ANSWER_SECONDS,
                "refresh_timeout_seconds": QUERY_SECONDS,
                "admin_token": "let-me-in",
                **settings,
            },
        )
        world = World(postgres, redis, env)
        stack.callback(world.redis.close)
        migrated = chat_stats("migrate", env={**env, "CHAT_STATS_DATABASE_URL": postgres.url()})
        assert migrated.returncode == 0, migrated.stderr
        world.execute(FILL)
        for number in range(services):
            port = free_port()
            log = folder / f"service-{number}.log"
            world.services.append(
                stack.enter_context(running("serve", "--port", str(port), env=env, log=log))
            )
            world.ports.append(port)
        world.start_worker(folder / "worker.log")
        stack.callback(world.end_worker)
        world.writer.start()
        stack.callback(world.writer.stop)
        until(world.answers, seconds=40, what=lambda: f"all answers: {world.logs()}")
        world.redis.save()
        (world.redis_server.folder / "dump.rdb").rename(world.old_dump)
        yield world
