"""Where test servers keep their data: in memory where there is room. A new database is hundreds of small
files, and on a disk creating it takes ten times as long.
"""

import shutil
import tempfile
from pathlib import Path

import psutil

#: A file system in memory, on Linux.
MEMORY = Path("/dev/shm")  # noqa: S108
#: Free bytes that it must have; the servers of one process use a tenth.
ROOM_BYTES = 4_000_000_000


def server_parent() -> Path:
    """Return the folder in which to make the servers' folder."""
    free = shutil.disk_usage(MEMORY).free if MEMORY.is_dir() else 0
    in_memory = min(free, psutil.virtual_memory().available) >= ROOM_BYTES
    return MEMORY if in_memory else Path(tempfile.gettempdir())
