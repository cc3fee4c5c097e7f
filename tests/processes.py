"""Starts chat-stats' own commands as real processes."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from chat_stats.worker.local_servers import free_port

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "chat_stats")


def environment(database_url: str, redis_url: str, **settings: object) -> dict[str, str]:
    """Return the environment of a command: this process's without its settings, and these settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_STATS_")}
    # A busy machine must not cause a 503, unless a test is about that.
    patient = {"answer_timeout_seconds": 60}
    chosen = {"database_url": database_url, "redis_url": redis_url, **patient, **settings}
    return {**kept, **{f"CHAT_STATS_{name.upper()}": str(value) for name, value in chosen.items()}}


def chat_stats(
    *arguments: str,
    env: dict[str, str],
    seconds: float = 60,
    project: Path = ROOT,
    command: tuple[str, ...] = COMMAND,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends."""
    return subprocess.run(
        [*command, *arguments],
        env={**env, "COLUMNS": "200"},
        cwd=project,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def on_a_terminal(*arguments: str, env: dict[str, str], exit_code: int = 0) -> str:
    """Run a command on a terminal of its own; return all that it wrote there."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, *arguments]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env={**env, "COLUMNS": "150", "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # the command has ended, and with it the terminal
                break
            if not more:
                break
            written += more
        assert process.wait(timeout=60) == exit_code, written.decode()
    os.close(ours)
    return written.decode()


class Process:
    """A command that keeps running; its output goes to a file."""

    def __init__(
        self,
        *arguments: str,
        env: dict[str, str],
        log: Path,
        project: Path = ROOT,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [*command, *arguments],
                env=env,
                cwd=project,
                stdout=output,
                stderr=output,
            )

    def output(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        return self.popen.wait(seconds)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()


@contextmanager
def running(
    *arguments: str,
    env: dict[str, str],
    log: Path,
    project: Path = ROOT,
    command: tuple[str, ...] = COMMAND,
) -> Iterator[Process]:
    process = Process(*arguments, env=env, log=log, project=project, command=command)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def serving(env: dict[str, str], log: Path, project: Path = ROOT) -> Iterator[httpx.Client]:
    """Run the service; once it answers, yield a client."""
    port = free_port()
    with (
        running("serve", "--port", str(port), env=env, log=log, project=project) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/monitoring/chat-requests") as client,
    ):
        until(lambda: answers(client), what=lambda: f"the service to start: {process.output()}")
        yield client


def answers(client: httpx.Client) -> bool:
    try:
        return client.get(client.base_url.copy_with(path="/health")).status_code == 200
    except httpx.TransportError:
        return False


def until(
    condition: Callable[[], object], *, seconds: float = 20, what: Callable[[], str] = lambda: "it"
) -> None:
    """Wait until the condition holds; fail after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what()}")
        time.sleep(0.05)
