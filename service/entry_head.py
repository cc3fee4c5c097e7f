"""How and when a cached entry was computed, from the first line of its stored form, without its body."""

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

#: Bytes from the start of a stored entry in which its first line ends.
HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    computed_at: datetime


def decode_head(stored: object) -> Head | None:
    """Read the start of the stored form; None when there is none, or it is something else."""
    if not isinstance(stored, bytes):  # an error of Redis: what lies there is no string
        return None
    line, _, _ = stored.partition(b"\n")
    try:
        header = orjson.loads(line)
        computed_at = datetime.fromisoformat(header["computed_at"])
        return Head(
            str(header["method"]),
            computed_at if computed_at.tzinfo else computed_at.replace(tzinfo=UTC),
        )
    except (ValueError, KeyError, TypeError):
        return None
