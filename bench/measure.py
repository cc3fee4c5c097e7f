"""Time and peak memory of one piece of work, in a process of its own."""

import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MEGABYTE = 1_000_000


@dataclass(slots=True)
class Cost:
    seconds: float = 0.0
    #: Growth of the process's resident memory up to its peak.
    peak_bytes: int = 0
    #: The whole process at its peak, with interpreter and libraries.
    process_bytes: int = 0


def in_fresh_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `work(...)`, run in a new process, so that it inherits no memory and no cache."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        return executor.submit(work, *args, **kwargs).result()


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block; the `Cost` is filled in when it ends."""
    cost = Cost()
    gc.collect()
    _reset_peak()
    before = _resident_bytes()
    started = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - started
        cost.process_bytes = _peak_bytes()
        cost.peak_bytes = max(0, cost.process_bytes - before)


def _reset_peak() -> None:
    """Reset the peak resident size to the current one, if the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident_bytes() -> int:
    # Without /proc: the peak so far, which start-up may have set a little above the present size.
    return _from_proc("VmRSS") or _peak_bytes()


def _peak_bytes() -> int:
    return _from_proc("VmHWM") or _peak_of_process()


def _from_proc(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _peak_of_process() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others kilobytes
