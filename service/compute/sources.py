"""From where a question is answered: the one place that chooses."""

from dataclasses import dataclass
from typing import Literal

from chat_stats.service.catalogue.questions import Question


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is `scan`, or `rollup:` and the name of a rollup that has all dimensions of the question."""

    name: str
    method: Literal["rpc", "query"]


#: The requests themselves, by one statement that needs no function.
SCAN = Source("scan", "query")


def choose(_question: Question) -> Source:
    """Return the source that answers the question with the least to read."""
    return SCAN
