"""The demo: Postgres, Redis, worker and service on this machine, with sample data and a trickle of requests.

All data are in one folder, and all processes end with this one: in order on Ctrl-C, and through a guard
process if this one is killed.
"""

import asyncio
import http.client
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import asyncpg
from pydantic import SecretStr
from pydantic_settings import BaseSettings
from rich.console import Console

from chat_stats.service.database.errors import ERRORS
from chat_stats.service.database.migrations import migrate
from chat_stats.service.database.rendering import declared
from chat_stats.service.errors import ChatStatsError
from chat_stats.service.settings import PREFIX, Settings, load_settings
from chat_stats.worker.demo import sample
from chat_stats.worker.demo.folder import DemoError, locked, usable_folder
from chat_stats.worker.demo.guard import guarded
from chat_stats.worker.demo.loading import connected, load_sample
from chat_stats.worker.demo.rollups import keep_rollups
from chat_stats.worker.demo.servers import Servers, find_servers
from chat_stats.worker.local_servers import free_port, stop_process

#: File in the demo's folder, for a shell: the settings with which other commands reach the demo.
ENVIRONMENT_FILE = "environment"

#: Seconds to wait for the service's first answer.
START_SECONDS = 30.0
#: Seconds between two refreshes by the demo's worker.
REFRESH_SECONDS = 10
STATEMENT_SECONDS = 10.0
#: Requests that arrive, on average.
TRICKLE_PER_SECOND = 2.0

#: Exit code when the demo was stopped before it was up.
INTERRUPTED = 130


class _Given(BaseSettings):
    """Reads whether a database is configured, without requiring one."""

    model_config = Settings.model_config
    database_url: SecretStr | None = None


class _Part(NamedTuple):
    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


def run_demo(*, folder: Path, port: int | None, requests: int) -> int:
    """Run until SIGINT or SIGTERM and return the exit code. Nothing is left running, whatever happens.

    Without `port` the service listens on that of the settings.

    Raises `DemoError`, `ServerError` and all other errors of a start.
    """
    os.umask(0o022)  # for root, Postgres runs as another user, who must be able to enter our folders
    console = Console(highlight=False, soft_wrap=True)
    folder = usable_folder(folder, console)
    with locked(folder), guarded() as guard:
        return asyncio.run(_Demo(console, folder, guard).run(port, requests))


class _Demo:
    def __init__(self, console: Console, folder: Path, guard: Callable[[int], None]) -> None:
        self.console = console
        self.folder = folder
        self.guard = guard
        self.given_database = bool(_Given().database_url)
        self.settings = load_settings(
            **({} if self.given_database else {"database_url": "postgresql://made.in.a.moment"})
        )
        self.parts: list[_Part] = []
        self.stack = AsyncExitStack()

    async def run(self, port: int | None, requests: int) -> int:
        _cancel_on_signals()
        exit_code = INTERRUPTED
        try:
            async with self.stack:
                self._start_servers(
                    await find_servers(self.folder, self.settings, given_database=self.given_database)
                )
                if not self.given_database:
                    await self._add_columns()
                await self._migrate()
                loaded = await self._load(requests)
                await self._start_children(self.settings.port if port is None else port)
                if loaded or not self.given_database:
                    trickle = asyncio.create_task(_trickle(self._database_url))
                    self.stack.push_async_callback(_cancel, trickle)
                if not self.given_database:
                    rollups = asyncio.create_task(self._keep_rollups())
                    self.stack.push_async_callback(_cancel, rollups)
                exit_code = 0
                while True:
                    self._check_parts()
                    await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            with suppress(OSError):  # the terminal may be gone
                self.console.print("Stopped.")
        return exit_code

    @property
    def _database_url(self) -> str:
        return self.settings.database_url.get_secret_value()

    def _start_servers(self, servers: Servers) -> None:
        # Started without a thread, so that a signal is handled only when there is a server to stop.
        changes: dict[str, str | float] = {}
        if (postgres := servers.postgres) is None:
            self.console.print("Postgres  the one of CHAT_STATS_DATABASE_URL")
        else:
            self.stack.callback(postgres.stop)
            postgres.start()
            self._register("Postgres", postgres.process, postgres.folder / "postgres.log")
            self.console.print(f"Postgres  {postgres.url()}")
            # A prefix of its own: with the user's Redis, the sample must not mix with the user's cache.
            changes["database_url"] = postgres.url()
            changes["cache_prefix"] = f"{self.settings.cache_prefix}-demo"
            if not self.settings.dimensions:
                changes["dimensions"] = sample.DIMENSIONS
        if (redis := servers.redis) is None:
            self.console.print("Redis     the one of CHAT_STATS_REDIS_URL")
        else:
            self.stack.callback(redis.stop)
            redis.start()
            self._register("Redis", redis.process, redis.folder / "redis.log")
            self.console.print(f"Redis     {redis.url}")
            changes["redis_url"] = redis.url
        if "refresh_interval_seconds" not in self.settings.model_fields_set:
            changes["refresh_interval_seconds"] = REFRESH_SECONDS
        if self.settings.admin_token is None:
            changes["admin_token"] = secrets.token_urlsafe(12)
        self.settings = load_settings(**changes)
        given = {f"{PREFIX}{name.upper()}": str(value) for name, value in changes.items()}
        self.environment = {**os.environ, **given}
        self._write_environment(given)
        self.token = changes.get("admin_token")

    def _write_environment(self, variables: dict[str, str]) -> None:
        """Write the variables with which another terminal reaches this demo; only its user can read them."""
        file = self.folder / ENVIRONMENT_FILE
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text("".join(f"export {name}={quote(value)}\n" for name, value in variables.items()))

    async def _add_columns(self) -> None:
        """Give the demo's own table, if an earlier version made it, the columns of the demo's dimensions."""
        connection = await asyncpg.connect(self._database_url)
        try:
            await connection.execute(
                "ALTER TABLE IF EXISTS chat_completion_requests "
                "ADD COLUMN IF NOT EXISTS key_id text, ADD COLUMN IF NOT EXISTS labels jsonb"
            )
        finally:
            await connection.close()

    async def _migrate(self) -> None:
        def warned(message: str) -> None:
            self.console.print("warning:", message, style="yellow", markup=False)

        await migrate(self.settings, create_tables=False, started=lambda _file: None, warned=warned)
        self.console.print(f"Schema    {len(declared().sql())} files ran")

    async def _load(self, requests: int) -> bool:
        """Load the sample and return True; return False if the database has rows."""
        started = time.monotonic()
        loaded = await load_sample(self.console, self._database_url, requests)
        if loaded:
            seconds = time.monotonic() - started
            self.console.print(f"Sample    {requests:,} requests loaded in {seconds:.1f} s")
        elif self.given_database:
            self.console.print(
                "Sample    none, and no new requests: the database has rows, which stay as they are"
            )
        else:
            self.console.print("Sample    kept from an earlier start")
        return loaded

    async def _keep_rollups(self) -> None:
        """Add the demo's rollups while all runs, as a gateway's operator would."""
        started = time.monotonic()
        try:
            names = await keep_rollups(self.settings)
        except ChatStatsError as error:  # the demo shows what there is without them, too
            self.console.print("Rollups  ", str(error), style="yellow", markup=False)
        else:
            self.console.print(f"Rollups   {', '.join(names)}, in {time.monotonic() - started:.1f} s")

    async def _start_children(self, wanted_port: int) -> None:
        self._start_child("worker", "worker")
        port = free_port(wanted_port)
        if wanted_port not in (0, port):
            self.console.print(f"Port {wanted_port} is taken: using {port}", style="yellow")
        self._start_child("service", "serve", "--port", str(port))
        host = self.settings.host if self.settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
        deadline = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(_healthy, host, port):
            self._check_parts()
            if time.monotonic() > deadline:
                raise DemoError(f"the service does not answer; see {self.folder / 'service.log'}")
            await asyncio.sleep(0.1)
        self._check_parts()
        self._print_urls(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def _start_child(self, name: str, *arguments: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "chat_stats", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops them in order
            )
        self.stack.callback(stop_process, process, signal.SIGTERM)
        self._register(name, process, log)

    def _register(self, name: str, process: "subprocess.Popen[bytes] | None", log: Path) -> None:
        assert process is not None
        self.parts.append(_Part(name, process, log))
        self.guard(process.pid)

    def _check_parts(self) -> None:
        for name, process, log in self.parts:
            if (code := process.poll()) is not None:
                tail = log.read_text(errors="replace").splitlines()[-15:]
                self.console.print(*tail, sep="\n", style="dim", markup=False)
                raise DemoError(f"{name} ended with exit code {code}; the lines above are the end of {log}")

    def _print_urls(self, url: str) -> None:
        key = ' -H "X-API-Key: $KEY"' if self.settings.api_keys else ""
        api = f"{url}/api/monitoring"
        lines = [
            f"Page      {url}/" if self.settings.web_page else "",
            f"API       {api}",
            f"Docs      {url}/docs",
            f"Health    {url}/health/ready",
            f"Logs      {self.folder}",
            f"Token     {self.token}  (for POST {api}/refresh)" if self.token else "",
            f"Commands  . {quote(str(self.folder / ENVIRONMENT_FILE))}; {quote(_command())} status",
            "",
            f"  curl{key} '{api}/chat-requests/providers'",
            f"  curl{key} '{api}/chat-requests/models?window=24h'",
            f"  curl{key} '{api}/chat-requests/summary'",
            "",
            "Ctrl-C stops everything; the data stays for the next start.",
        ]
        self.console.print(*lines, sep="\n", markup=False)


def _command() -> str:
    """Return the command of this installation: its name if PATH finds it, otherwise its path."""
    beside = Path(sys.executable).with_name("chat-stats")
    return "chat-stats" if shutil.which("chat-stats") == str(beside) else str(beside)


def _cancel_on_signals() -> None:
    """Make the first signal cancel the current task; further ones change nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signals.append(signal.SIGHUP)

    def interrupted() -> None:
        if not task.cancelling():
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, interrupted)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task], timeout=STATEMENT_SECONDS)


async def _trickle(url: str) -> None:
    """Insert requests at random moments; when the database goes, come back to it."""
    rng = random.Random()  # noqa: S311
    while True:
        with suppress(*ERRORS):
            async with connected(url) as connection:
                ids = await sample.model_ids(connection)
                while True:
                    await asyncio.sleep(rng.expovariate(TRICKLE_PER_SECOND))
                    request = sample.one_request(rng, datetime.now(UTC))
                    await sample.insert(connection, request, ids, timeout=STATEMENT_SECONDS)
        await asyncio.sleep(1)


def _healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
