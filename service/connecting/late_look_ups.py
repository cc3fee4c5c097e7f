"""Look-ups of host names that fail after the connection attempt which made them has timed out.

uvloop does not end the look-up with the attempt (https://github.com/MagicStack/uvloop/pull/590), for Redis
and Postgres alike. asyncio would log each as an error of a future, without saying what it was for.
"""

import asyncio
import logging
import socket
import time
from typing import Any

logger = logging.getLogger(__name__)

#: Seconds between two warnings: attempts repeat, and what made one says that it timed out.
WARNING_SECONDS = 60.0


def log_late_look_ups() -> None:
    """Log such errors of the running loop as a warning; all else goes to the loop's handler as before."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    silent_until = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal silent_until
        error = context.get("exception")
        if not isinstance(error, socket.gaierror):
            if handler is None:
                loop.default_exception_handler(context)
            else:
                handler(loop, context)
        elif time.monotonic() >= silent_until:
            silent_until = time.monotonic() + WARNING_SECONDS
            logger.warning(
                "a host name of Redis or Postgres could not be looked up; the attempt to connect had timed "
                "out by then, and is made again: %s",
                error,
            )

    loop.set_exception_handler(handle)
