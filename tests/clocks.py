"""Processes whose clock is wrong, by libfaketime."""

import shutil
from pathlib import Path

import psutil

from tests.tools import FAKETIME, need

HOUR = 3600

#: Where libfaketime shares its settings among a process's children.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def wrong_clock(seconds: int, folder: Path) -> dict[str, str]:
    """Return the environment variables that set a process's clock `seconds` ahead.

    Its monotonic clock stays right, as on a machine whose time is wrong. The library is copied into `folder`,
    where the user that Postgres runs as can read it.
    """
    library = folder / "libfaketime.so.1"
    if not library.exists():
        shutil.copy(need(FAKETIME), library)
        library.chmod(0o755)
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{seconds:+d}", "DONT_FAKE_MONOTONIC": "1"}


def tidy_up() -> None:
    """Remove the shared memory of processes with a wrong clock that were killed."""
    for path in SHARED_MEMORY.glob("*faketime_*_*"):
        if not psutil.pid_exists(int(path.name.rpartition("_")[2])):
            path.unlink(missing_ok=True)
