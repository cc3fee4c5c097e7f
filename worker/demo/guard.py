"""Ends the demo's processes if the demo itself is killed and cannot end them."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Seconds that a process has to end after each signal.
GUARD_SECONDS = 2.0


@contextmanager
def guarded() -> Iterator[Callable[[int], None]]:
    """Fork a guard that ends the watched processes if this process dies without stopping them.

    Yields the function that adds a process to them.
    """
    reader, writer = os.pipe()
    guard = os.fork()
    if guard == 0:
        try:
            os.setsid()
            os.close(writer)
            with os.fdopen(reader) as lines:
                _end_all([int(line) for line in lines])  # reads until this process has closed the other end
        finally:
            os._exit(0)
    os.close(reader)

    def watch(pid: int) -> None:
        os.write(writer, b"%d\n" % pid)

    try:
        yield watch
    finally:
        os.kill(guard, signal.SIGKILL)
        os.waitpid(guard, 0)
        os.close(writer)


def _end_all(pids: list[int]) -> None:
    for pid in reversed(pids):
        for number in (signal.SIGINT, signal.SIGKILL):
            deadline = time.monotonic() + GUARD_SECONDS
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)
            while _runs(pid) and time.monotonic() < deadline:
                time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):  # without /proc, zombies count as running
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    return True
