"""Concurrent callers that need the same result share one task."""

import asyncio
import gc
from typing import Any

import pytest

from chat_stats.service.concurrency.single_flight import SingleFlight


class Counted:
    """Work that counts its runs, and waits until it is told to end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self._error = error

    async def __call__(self) -> int:
        self.runs += 1
        self.started.set()
        run = self.runs
        await self.may_end.wait()
        if self._error is not None:
            raise self._error
        return run


async def started(flights: SingleFlight[int], work: Counted, callers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flights.run("key", work)) for _ in range(callers)]
    await work.started.wait()
    return tasks


async def test_concurrent_callers_share_one_task_and_the_next_one_starts_another() -> None:
    flights, work = SingleFlight[int](), Counted()
    callers = await started(flights, work, 10)
    assert "key" in flights
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1] * 10
    assert "key" not in flights
    assert await flights.run("key", work) == 2


async def test_other_keys_have_tasks_of_their_own() -> None:
    flights, work = SingleFlight[int](), Counted()
    work.may_end.set()
    assert sorted(await asyncio.gather(flights.run("one", work), flights.run("other", work))) == [1, 2]


async def test_a_cancelled_caller_does_not_cancel_the_task() -> None:
    flights, work = SingleFlight[int](), Counted()
    leaving, staying = await started(flights, work, 2)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    work.may_end.set()
    assert await staying == 1
    assert work.runs == 1


async def test_the_task_goes_on_when_its_only_caller_is_cancelled() -> None:
    flights, work = SingleFlight[int](), Counted()
    (leaving,) = await started(flights, work, 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    work.may_end.set()
    assert await flights.run("key", work) == 1


async def test_an_exception_reaches_all_callers_and_is_not_kept() -> None:
    flights, work = SingleFlight[int](shared_seconds=60), Counted(ValueError("broken"))
    callers = await started(flights, work, 3)
    work.may_end.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    with pytest.raises(ValueError, match="broken"):
        await flights.run("key", work)
    assert work.runs == 2


async def test_an_exception_that_no_caller_waits_for_is_not_reported_by_asyncio() -> None:
    flights, work = SingleFlight[int](), Counted(ValueError("broken"))
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    task = flights.start("key", work).task
    work.may_end.set()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert reported == []


async def test_a_result_is_shared_for_the_given_time_and_then_made_again() -> None:
    flights, work = SingleFlight[int](shared_seconds=0.2), Counted()
    work.may_end.set()
    assert await flights.run("key", work) == 1
    assert await flights.run("key", work) == 1
    await asyncio.sleep(0.3)
    assert "key" not in flights
    assert await flights.run("key", work) == 2


async def test_the_time_for_which_a_result_is_shared_begins_with_its_task() -> None:
    flights = SingleFlight[int](shared_seconds=0.1)
    runs = 0

    async def slow() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.2)
        return runs

    assert [await flights.run("key", slow), await flights.run("key", slow)] == [1, 2]


async def test_a_caller_can_wait_for_a_part_of_the_time_alone() -> None:
    flights, work = SingleFlight[int](), Counted()
    flight = flights.start("key", work)
    assert flights.start("key", work) is flight
    await asyncio.wait({flight.task}, timeout=0.01)
    assert not flight.task.done()
    work.may_end.set()
    assert await flight.task == 1


@pytest.mark.parametrize("ended", [False, True])
async def test_closing_cancels_what_is_under_way_and_forgets_results(ended: bool) -> None:
    flights, work = SingleFlight[int](shared_seconds=60), Counted()
    task = flights.start("key", work).task
    if ended:
        work.may_end.set()
        await task
    else:
        await asyncio.sleep(0)
    await flights.close()
    assert task.cancelled() is not ended
    assert "key" not in flights
