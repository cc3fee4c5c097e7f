"""Requests that wait for the same answer: the first one takes the ordinary way, and the others only wait.

They have no task and pass no layer: when the answer arrives, the protocol writes it to all of them as it
writes hits (`service.http.hits`). They bypass no authentication, limit or validation: a request waits only
where its key is accepted, and for the read of a request that was admitted, within the same scope. One that
cannot be answered so, or whose read fails, takes the ordinary way after all.
"""

import asyncio
from typing import Protocol

from starlette.types import Scope

from chat_stats.service.errors import StillComputing, TooManyRequests
from chat_stats.service.http.access_log import STARTED
from chat_stats.service.http.auth import READER
from chat_stats.service.http.fast_path import FAILURE, READ, Asked, FastPath, Prepared, Target, asked
from chat_stats.service.http.negotiation import Wishes, wishes_of
from chat_stats.service.stats import Answer

#: Bytes that are written to waiting clients at a time: then other requests are served.
BYTES_AT_A_TIME = 512 * 1024


class Waiter(Protocol):
    """A request that was read, and is not answered yet."""

    scope: Scope
    #: When it came, as `time.perf_counter` has it.
    began_at: float

    def start(self) -> None:
        """Have it take the ordinary way."""

    def answer(self, target: Target, wishes: Wishes, prepared: Prepared) -> bool:
        """Write the answer; return False if the request has to take the ordinary way."""


class Waiting:
    """The requests that wait. One per process."""

    def __init__(self, fast_path: FastPath) -> None:
        self._fast_path = fast_path
        self._queues: dict[Asked, list[Waiter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, waiter: Waiter) -> None:
        """Have the request wait for the answer to one that is under way, or take the ordinary way."""
        wanted = self._asked(waiter)
        if wanted is None:
            waiter.start()
        elif (waiters := self._queues.get(wanted)) is not None:
            waiters.append(waiter)
        elif (flight := self._fast_path.read_under_way(wanted)) is not None:
            self._queues[wanted] = [waiter]
            self._share(wanted, flight)
        else:
            self._queues[wanted] = []
            waiter.start()
            asyncio.get_running_loop().call_soon(self._look, wanted, True)

    def _asked(self, waiter: Waiter) -> Asked | None:
        """Return what a request asks for, if its key is accepted."""
        reader = self._fast_path.reader(waiter.scope["headers"])
        if reader is None:
            return None
        waiter.scope[READER] = reader
        return asked(waiter.scope, reader)

    def _look(self, wanted: Asked, again: bool) -> None:
        """Look how far the first request has come, which has just run until it had to wait.

        A target is known from then on. If it was not before, the route reads its answer; the next request
        then starts the read that others can share, which joins the same computation.
        """
        waiters = self._queues[wanted]
        flight = self._fast_path.read_under_way(wanted)
        if flight is not None and waiters:
            self._share(wanted, flight)
        elif again and waiters:
            waiters.pop(0).start()
            asyncio.get_running_loop().call_soon(self._look, wanted, False)
        else:
            del self._queues[wanted]
            for waiter in waiters:
                waiter.start()

    def _share(self, wanted: Asked, flight: "asyncio.Task[Answer]") -> None:
        """Have those that ask for this wait for a read."""
        task = asyncio.create_task(self._wait(wanted, flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, wanted: Asked, flight: "asyncio.Task[Answer]") -> None:
        """Wait for a read, and answer those that wait for it."""
        await asyncio.wait({flight})
        waiters = self._queues.pop(wanted)
        failure = asyncio.CancelledError() if flight.cancelled() else flight.exception()
        if failure is None:
            await self._answer(wanted, waiters, flight.result())
            return
        for waiter in waiters:
            # These were about the client that started the read.
            if isinstance(failure, Exception) and not isinstance(failure, TooManyRequests | StillComputing):
                waiter.scope[FAILURE] = failure
            waiter.scope[STARTED] = waiter.began_at
            waiter.start()

    async def _answer(self, wanted: Asked, waiters: list[Waiter], answer: Answer) -> None:
        written = 0
        for waiter in waiters:
            waiter.scope[STARTED] = waiter.began_at
            if self._asked(waiter) != wanted:  # its key was revoked meanwhile: what was read is not for it
                waiter.start()
                continue
            prepared = self._write(wanted, waiter, answer)
            if prepared is None:
                waiter.scope[READ] = answer
                waiter.start()
                continue
            written += len(prepared.rendered.body)
            if written > BYTES_AT_A_TIME:
                written = 0
                await asyncio.sleep(0)

    def _write(self, wanted: Asked, waiter: Waiter, answer: Answer) -> Prepared | None:
        """Write the answer; None if the request has to take the ordinary way."""
        target = self._fast_path.target(wanted)
        if target is None:
            return None
        wishes = wishes_of(waiter.scope["headers"])
        prepared = self._fast_path.prepared(target, wishes, answer)
        return prepared if prepared is not None and waiter.answer(target, wishes, prepared) else None
