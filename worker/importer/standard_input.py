"""`chat-stats import -`: standard input, kept in a temporary file, since a log is read more than once."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chat_stats.service.errors import InvalidParameter

STANDARD_INPUT = Path("-")


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Yield a file with what is to be imported."""
    if path != STANDARD_INPUT:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="chat-stats-import-") as folder:
        copy = Path(folder) / "stdin"
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
        except OSError as error:
            raise InvalidParameter(
                "file", f"standard input cannot be kept in {folder}: {error.strerror}"
            ) from None
        yield copy
