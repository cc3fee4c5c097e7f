"""The demo's folder: one that Postgres can enter, used by one demo at a time."""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from chat_stats.service.errors import ChatStatsError
from chat_stats.worker.local_servers import blocking_folder

#: Seconds to wait while another demo that is stopping still holds the folder.
LOCK_SECONDS = 3.0


class DemoError(ChatStatsError):
    """The demo cannot start, or one of its processes ended."""


def usable_folder(folder: Path, console: Console) -> Path:
    """Return the folder, created if missing; another one if Postgres cannot enter this one."""
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if os.geteuid() == 0 and (blocked := blocking_folder(there / "data")):
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:10]
        folder = Path("/var/tmp") / f"chat-stats-demo-{digest}"  # noqa: S108
        console.print(
            f"Postgres does not run as root, and other users cannot enter {blocked}: using {folder}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
        raise DemoError(f"{folder} belongs to another user: choose another one with --folder")
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which keeps other demos out."""
    with (folder / "lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DemoError(f"another demo runs in {folder}") from None
                time.sleep(0.1)
        yield
