"""The time of one method, which all of its statements share."""

import time

#: Time-out in seconds of a statement for which nothing is left: the server cancels it at once.
_NOTHING = 0.001


class Deadline:
    def __init__(self, seconds: float, *, per_statement: float | None = None) -> None:
        self._at = time.monotonic() + seconds
        self._per_statement = seconds if per_statement is None else per_statement

    def left(self) -> float:
        """Return how many seconds the next statement may take."""
        return max(_NOTHING, min(self._at - time.monotonic(), self._per_statement))
