"""Fills an empty database with the sample, with a progress bar: for the demo, and for `chat-stats sample`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chat_stats.service.database.errors import ERRORS, loading_error
from chat_stats.worker.demo import sample

CONNECT_SECONDS = 10.0


async def load_sample(console: Console, url: str, requests: int) -> bool:
    """Load that many requests of the last 90 days and return True; return False if the database has rows.

    Raises `SchemaError` when the tables cannot take them, and `Unavailable`. Then nothing was loaded.
    """
    columns = (TextColumn("Sample   "), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    try:
        async with connected(url) as connection:
            with bar as progress:
                task = progress.add_task("", total=requests)
                return await sample.load(
                    connection,
                    count=requests,
                    end=end,
                    loaded=lambda count: progress.update(task, completed=count),
                )
    except ERRORS as error:
        raise loading_error(error, "the sample") from error


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[sample.Connection]:
    """Connect for the sample: statements may take as long as a load does."""
    connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, command_timeout=sample.LOAD_SECONDS, statement_cache_size=0
    )
    try:
        await connection.execute("SET statement_timeout = 0")
        yield connection
    finally:
        with suppress(*ERRORS):
            await connection.close(timeout=CONNECT_SECONDS)
