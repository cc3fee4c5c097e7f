"""The progress bar of commands that go through all requests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

err = Console(stderr=True)


@contextmanager
def bar(description: str, requests: int) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields what to call with the number of requests that are done.

    Both numbers are estimates: the bar is full when the work is done, and not before.
    """
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"of about {requests:,} requests" if requests else ""),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
    )
    with shown:
        task = shown.add_task(description, total=requests or None)
        yield lambda done: shown.update(task, completed=min(done, 0.99 * requests) if requests else done)
        shown.update(task, total=requests or 1, completed=requests or 1)


@contextmanager
def bar_of_chunks(description: str, requests: int) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields what to call with the number of requests of each chunk that is done."""
    with bar(description, requests) as reached:
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            reached(done)

        yield advance
