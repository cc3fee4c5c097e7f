"""Keeps inserting requests, and records how many there were at any time, to check answers against."""

import asyncio
import bisect
import threading
import time
from contextlib import suppress

import asyncpg

INSERT = "INSERT INTO chat_completion_requests (model_id, input_tokens) VALUES (1 + floor(random() * 3), 10)"


class Writer:
    """Inserts some rows per second from a thread of its own, whenever the database accepts them."""

    def __init__(self, url: str, *, per_second: float) -> None:
        self._url = url
        self._pause = 1 / per_second
        self._stopping = threading.Event()
        #: Unix times at which an insert began that may have committed, and at which one was known to have.
        self._begun: list[float] = []
        self._done: list[float] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def at_least(self, moment: float) -> int:
        """Return how many rows a snapshot that was taken after `moment` must have."""
        return bisect.bisect_left(self._done, moment)

    def at_most(self, moment: float) -> int:
        """Return how many rows a snapshot that was taken before `moment` may have."""
        return bisect.bisect_right(self._begun, moment)

    async def _run(self) -> None:
        connection = None
        while not self._stopping.is_set():
            try:
                if connection is None:
                    connection = await asyncpg.connect(self._url, timeout=1)
                begun = time.time()
                await connection.execute(INSERT, timeout=5)
            except asyncpg.PostgresError as error:
                if isinstance(error, asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError):
                    self._begun.append(begun)  # it may have committed
                    connection = None
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError):
                if connection is not None:
                    self._begun.append(begun)
                    with suppress(asyncpg.InterfaceError):
                        connection.terminate()
                connection = None
            else:
                self._begun.append(begun)
                self._done.append(time.time())
            await asyncio.sleep(self._pause)
        if connection is not None:
            connection.terminate()
