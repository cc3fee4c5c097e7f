"""From where a question is answered: the one place that chooses."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from chat_stats.service.catalogue.questions import Question
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is `scan`, or `rollup:` and the name of a rollup that has all dimensions of the question."""

    name: str
    method: Method


#: The rollups that there are, and the dimensions of each.
ROLLUPS: Mapping[str, tuple[str, ...]] = {"total": (), "model": ("provider_id", "model_id")}

#: The requests themselves, by one statement that needs no function.
SCAN = Source("scan", Method.QUERY)


def choose(_question: Question) -> Source:
    """Return the source that answers the question with the least to read."""
    return SCAN


async def ready_rollups(snapshot: Snapshot, *, timeout: float) -> Mapping[str, tuple[str, ...]]:
    """Return the rollups that may be read, with their dimensions."""
    try:
        [record] = await snapshot.fetch(
            "SELECT stats_schema.chat_stats_rollup_ready() AS ready", timeout=timeout
        )
    except asyncpg.PostgresError:  # not installed, or not for us
        return {}
    return ROLLUPS if record["ready"] else {}
