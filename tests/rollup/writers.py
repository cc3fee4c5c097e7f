"""Writers at full speed, each on a connection of its own, until they are told to stop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import asyncpg

from tests.rollup.workload import ORDINARY

#: Changes that a gateway makes, and how often. Ids are taken in order, so that no two writers deadlock.
CHANGES: tuple[tuple[int, str], ...] = (
    (
        60,
        "INSERT INTO chat_completion_requests (model_id, input_tokens, processing_time_ms) VALUES (1, 5, 20)",
    ),
    (10, ORDINARY.replace("$1::int", "20")),
    (
        20,
        "UPDATE chat_completion_requests SET status = 'failed', model_id = model_id % 6 + 1, "
        "created_at = created_at - interval '20 minutes' WHERE id IN ("
        "SELECT id FROM chat_completion_requests WHERE id % 97 = $1 "
        "ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED)",
    ),
    (
        10,
        "DELETE FROM chat_completion_requests WHERE id IN ("
        "SELECT id FROM chat_completion_requests WHERE id % 89 = $1 "
        "ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED)",
    ),
)


@dataclass
class Written:
    """What the writers did so far."""

    statements: int = 0
    slowest_seconds: float = 0.0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


async def write(
    connection: asyncpg.Connection, seed: int, written: Written, pause_seconds: float = 0
) -> None:
    """Write until told to stop; some transactions have several statements, and some are rolled back."""
    random = Random(seed)  # noqa: S311
    weights, statements = zip(*CHANGES, strict=True)
    while not written.stopped.is_set():
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(random.choice((1, 1, 1, 3))):
            (statement,) = random.choices(statements, weights)
            started = time.monotonic()
            await connection.execute(statement, *([random.randrange(97)] if "$1" in statement else []))
            written.slowest_seconds = max(written.slowest_seconds, time.monotonic() - started)
            written.statements += 1
        await (transaction.rollback() if random.random() < 0.1 else transaction.commit())
        await asyncio.sleep(pause_seconds)


@asynccontextmanager
async def writing(url: str, count: int, pause_seconds: float = 0) -> AsyncIterator[Written]:
    """Keep so many writers writing, with pauses; an error of one is raised at the end."""
    written = Written()
    connections = [await asyncpg.connect(url) for _ in range(count)]
    tasks = [
        asyncio.create_task(write(connection, seed, written, pause_seconds))
        for seed, connection in enumerate(connections)
    ]
    try:
        yield written
    finally:
        written.stopped.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            connection.terminate()  # the server may be gone
    for result in results:
        if isinstance(result, BaseException):
            raise result
