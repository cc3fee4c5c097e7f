"""Counts of several processes of one service, so that `/metrics` is right whichever of them answers.

Each process owns a slot in a folder that they share: a file with its counts, and a lock that ends with the
process, however it ends. A new process takes the first slot without an owner and goes on from its counts, so
no counter ever falls and there are no more files than there were processes at a time.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

import orjson

from chat_stats.service.errors import SettingsError
from chat_stats.service.observability import metrics
from chat_stats.service.observability.metrics import Counts
from chat_stats.service.settings import PREFIX

logger = logging.getLogger(__name__)

#: Seconds between two writes of a process's counts; a process that is killed loses those of the last ones.
WRITE_SECONDS = 1.0

#: Where the parent of several processes tells them the folder.
FOLDER_VARIABLE = f"{PREFIX}METRICS_FOLDER"

#: Memory, which is there and writable also where the file system is read-only.
_MEMORY = "/dev/shm"  # noqa: S108


class SharedCounts:
    """The slot of this process, and those of the others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Take a slot, and go on from the counts in it."""
        for number in count():
            self._file = self._folder / f"{number}.json"
            lock = (self._folder / f"{number}.lock").open("w")
            if _lock(lock):
                self._lock = lock  # held as long as it is open
                break
            lock.close()
        metrics.resume(_read(self._file))

    def total(self) -> Counts:
        """Return the counts of all processes; the gauges of those that still run."""
        total = self.write()
        for file in sorted(self._folder.glob("*.json")):
            if file != self._file:
                total.add(_read(file), gauges=self._is_running(file))
        return total

    def write(self) -> Counts:
        """Write what this process counted, and return it."""
        counts = metrics.counts()
        new = self._file.with_suffix(".new")
        new.write_bytes(orjson.dumps(counts.encode()))
        new.replace(self._file)
        return counts

    async def keep_writing(self) -> None:
        while True:
            try:
                self.write()
            except OSError as error:
                logger.warning("the counts for /metrics could not be written: %s", error)
            await asyncio.sleep(WRITE_SECONDS)

    def close(self) -> None:
        """Write a last time and give the slot free."""
        try:
            self.write()
        finally:
            self._lock.close()

    def _is_running(self, file: Path) -> bool:
        with file.with_suffix(".lock").open("w") as lock:
            return not _lock(lock)


@contextmanager
def shared_folder(processes: int) -> Iterator[None]:
    """Where there are several processes, have those that start now share a folder until the end."""
    if processes < 2 or FOLDER_VARIABLE in os.environ:
        yield
        return
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    try:
        folder = tempfile.mkdtemp(prefix="chat-stats-metrics-", dir=parent)
    except OSError as error:
        raise SettingsError(
            f"no folder for the counts of several processes: {error}; name one in {FOLDER_VARIABLE}"
        ) from None
    os.environ[FOLDER_VARIABLE] = folder
    try:
        yield
    finally:
        del os.environ[FOLDER_VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: Path) -> Counts:
    try:
        return Counts.decode(orjson.loads(file.read_bytes()))
    except FileNotFoundError:
        return Counts()
    except (ValueError, KeyError, TypeError, OSError) as error:
        logger.warning("ignored the counts in %s (%s)", file.name, type(error).__name__)
        return Counts()
