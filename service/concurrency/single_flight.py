"""Single flight: concurrent callers that need the same result share one task."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Flight(Generic[Result]):
    """One shared task."""

    task: asyncio.Task[Result]
    #: In monotonic seconds.
    began_at: float


class SingleFlight(Generic[Result]):
    """The shared tasks, by key.

    A cancelled caller leaves the task running for the others. An exception reaches each waiting caller and is
    then forgotten. A result is shared for `shared_seconds` from the start of its task, or only among
    the callers that waited for it.
    """

    def __init__(self, *, shared_seconds: float = 0.0) -> None:
        self._shared_seconds = shared_seconds
        self._flights: dict[Hashable, Flight[Result]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    def under_way(self, key: Hashable) -> asyncio.Task[Result] | None:
        """Return the task of the flight of `key`, if there is one."""
        flight = self._flights.get(key)
        return None if flight is None else flight.task

    def start(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Result]]) -> Flight[Result]:
        """Return the flight of `key`, which starts with `work` unless there is one."""
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(asyncio.create_task(work()), time.monotonic())
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        return flight

    async def run(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return the result of the flight of `key`, or raise its exception."""
        return await asyncio.shield(self.start(key, work).task)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._flights.clear()

    def _landed(self, key: Hashable, flight: Flight[Result]) -> None:
        # Asking for the exception also keeps asyncio from reporting it when every caller was cancelled.
        failed = flight.task.cancelled() or flight.task.exception() is not None
        seconds_left = flight.began_at + self._shared_seconds - time.monotonic()
        if failed or seconds_left <= 0:
            self._forget(key, flight)
        else:
            asyncio.get_running_loop().call_later(seconds_left, self._forget, key, flight)

    def _forget(self, key: Hashable, flight: Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
