"""From where a question is answered: the one place that chooses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from chat_stats.service.catalogue.questions import Question
from chat_stats.service.catalogue.rollups import MODEL, TOTAL
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is `scan`, or `rollup:` and the name of a rollup that has all dimensions of the question."""

    name: str
    method: Method

    @property
    def by_functions(self) -> bool:
        """Whether our functions read it, which know of purged requests too."""
        return self.method is Method.RPC


SCAN = "scan"

#: The rollups that there are with their dimensions, the smallest first. From a model follows its provider.
ROLLUPS: Mapping[str, tuple[str, ...]] = {TOTAL.name: (), MODEL.name: ("model_id", "provider_id")}


async def choose(snapshot: Snapshot, question: Question, *, timeout: float) -> Sequence[Source]:
    """Return the sources that can answer the question, the best first; each next one needs less.

    The functions read a rollup when it is ready, and else scan.
    """
    wanted = {dimension.name for dimension in question.dimensions}
    fitting = [name for name, by in ROLLUPS.items() if wanted <= set(by)]
    if not fitting:
        return (Source(SCAN, Method.QUERY),)
    ready = await ready_rollups(snapshot, timeout=timeout)
    name = next((f"rollup:{name}" for name in fitting if name in ready), SCAN)
    return (Source(name, Method.RPC), Source(SCAN, Method.OPTIMIZED))


async def ready_rollups(snapshot: Snapshot, *, timeout: float) -> Mapping[str, tuple[str, ...]]:
    """Return the rollups that may be read, with their dimensions."""
    try:
        [record] = await snapshot.fetch(
            "SELECT stats_schema.chat_stats_rollup_ready() AS ready", timeout=timeout
        )
    except asyncpg.PostgresError:  # not installed, or not for us
        return {}
    return ROLLUPS if record["ready"] else {}
