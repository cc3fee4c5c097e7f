"""Calls back when the signal arrives that ends the server.

A server waits for the answers under way before it tells the application that it stops (ASGI's lifespan). An
answer that would never end must know earlier, under whichever ASGI server.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_stop(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback` on SIGTERM and SIGINT, before the server's own handler.

    `callback` runs in the midst of any code of the main thread. Where the server handles no signals, or runs
    in another thread, it is not called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced = {}
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:
            replaced[number] = handler, _calling(callback, handler)
            signal.signal(number, replaced[number][1])
    try:
        yield
    finally:
        for number, (handler, ours) in replaced.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, handler)


Handler = Callable[[int, FrameType | None], object]


def _calling(callback: Callable[[], object], handler: Handler) -> Handler:
    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            callback()
        handler(number, frame)

    return handle
