"""Requests that wait for the same answer: the first one takes the ordinary way, and the others only wait.

They have no task and pass no layer: when the answer arrives, the protocol writes it to all of them as it
writes hits (`service.http.hits`). They bypass no authentication, limit or validation: a request waits only
where its target is known and its key accepted, and for the read of a request that was admitted. One that
cannot be answered so, or whose read fails, takes the ordinary way after all.
"""

import asyncio
from typing import Protocol

from starlette.types import Scope

from chat_stats.service.errors import StillComputing, TooManyRequests
from chat_stats.service.http.access_log import STARTED
from chat_stats.service.http.fast_path import FAILURE, READ, FastPath, Prepared, Target
from chat_stats.service.http.negotiation import Wishes, wishes_of
from chat_stats.service.stats import Answer

#: Bytes that are written to waiting clients at a time: then other requests are served.
BYTES_AT_A_TIME = 512 * 1024

#: Path and query string.
Url = tuple[str, bytes]


class Waiter(Protocol):
    """A request that was read, and is not answered yet."""

    scope: Scope
    #: When it came, as `time.perf_counter` has it.
    began_at: float

    def start(self) -> None:
        """Have it take the ordinary way."""

    def answer(self, target: Target, wishes: Wishes, prepared: Prepared) -> bool:
        """Write the answer; return False if the request has to take the ordinary way."""


class Queue:
    """Those that ask for one target."""

    __slots__ = ("is_reading", "waiters")

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        #: Whether a read is under way that all wait for.
        self.is_reading = False


class Waiting:
    """The requests that wait. One per process."""

    def __init__(self, fast_path: FastPath) -> None:
        self._fast_path = fast_path
        self._queues: dict[Url, Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, waiter: Waiter) -> None:
        """Have the request wait for the answer to one that is under way, or take the ordinary way."""
        url = waiter.scope["path"], waiter.scope["query_string"]
        queue = self._queues.get(url)
        if queue is None:
            queue = self._queues[url] = Queue()
            flight = self._fast_path.read_under_way(*url)
            if flight is not None and self._target_of(waiter) is not None:
                queue.waiters.append(waiter)
                self._share(url, queue, flight)
            else:
                waiter.start()
                asyncio.get_running_loop().call_soon(self._look, url, True)
        elif not queue.is_reading or self._target_of(waiter) is not None:
            queue.waiters.append(waiter)
        else:
            waiter.start()

    def _look(self, url: Url, again: bool) -> None:
        """Look how far the first request has come, which has just run until it had to wait.

        A target is known from then on. If it was not before, the route reads its answer; the next request
        then starts the read that others can share, which joins the same computation.
        """
        queue = self._queues[url]
        flight = self._fast_path.read_under_way(*url)
        if flight is not None and queue.waiters:
            self._share(url, queue, flight)
        elif again and queue.waiters:
            first = next(filter(self._target_of, queue.waiters), queue.waiters[0])
            queue.waiters.remove(first)
            first.start()
            asyncio.get_running_loop().call_soon(self._look, url, False)
        else:
            del self._queues[url]
            for waiter in queue.waiters:
                waiter.start()

    def _share(self, url: Url, queue: Queue, flight: "asyncio.Task[Answer]") -> None:
        """Have the queue wait for a read."""
        queue.is_reading = True
        task = asyncio.create_task(self._wait(url, queue, flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, url: Url, queue: Queue, flight: "asyncio.Task[Answer]") -> None:
        """Wait for a read, and answer those that wait for it."""
        accepted: list[Waiter] = []
        others: list[Waiter] = []
        for waiter in queue.waiters:
            (others if self._target_of(waiter) is None else accepted).append(waiter)
        queue.waiters = accepted
        for waiter in others:
            waiter.start()
        await asyncio.wait({flight})
        del self._queues[url]
        failure = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if failure is None:
            await self._answer(queue.waiters, flight.result())
            return
        for waiter in queue.waiters:
            # These were about the client that started the read.
            if isinstance(failure, Exception) and not isinstance(failure, TooManyRequests | StillComputing):
                waiter.scope[FAILURE] = failure
            waiter.scope[STARTED] = waiter.began_at
            waiter.start()

    async def _answer(self, waiters: list[Waiter], answer: Answer) -> None:
        written = 0
        for waiter in waiters:
            target = self._target_of(waiter)
            prepared = None
            if target is not None:
                wishes = wishes_of(waiter.scope["headers"])
                prepared = self._fast_path.prepared(target, wishes, answer)
                if prepared is not None and not waiter.answer(target, wishes, prepared):
                    prepared = None
            if prepared is None:
                waiter.scope[READ], waiter.scope[STARTED] = answer, waiter.began_at
                waiter.start()
                continue
            written += len(prepared.rendered.body)
            if written > BYTES_AT_A_TIME:
                written = 0
                await asyncio.sleep(0)

    def _target_of(self, waiter: Waiter) -> Target | None:
        scope = waiter.scope
        return self._fast_path.accepted_target(scope["path"], scope["query_string"], scope["headers"])
