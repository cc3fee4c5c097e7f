"""From where a question is answered: the one place that chooses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count

import asyncpg

from chat_stats.service.catalogue.figures import figure_of
from chat_stats.service.catalogue.kept_dimensions import MAX_DIMENSIONS, OwnRollup
from chat_stats.service.catalogue.questions import Question
from chat_stats.service.catalogue.rollups import LONGEST_NAME, MODEL, TOTAL
from chat_stats.service.compute.look import look
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.dimension_columns import ColumnTypes
from chat_stats.service.database.own_rollups import ListedRollup, read_own_sources
from chat_stats.service.database.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is `scan`, or `rollup:` and the name of a rollup that has all dimensions of the question."""

    name: str
    method: Method
    #: One that the operator added, and before when it does not know what was purged.
    own: OwnRollup | None = None
    whole_from: datetime | None = None
    #: Of a scan: the command that adds a rollup for such questions; None: there is one, or none can be.
    suggestion: str | None = None

    @property
    def is_rollup(self) -> bool:
        return self.name != SCAN

    @property
    def by_functions(self) -> bool:
        """Whether our functions read it, which know of purged requests too."""
        return self.method is Method.RPC and self.own is None

    @property
    def knows_purged(self) -> bool:
        """Whether it has purged requests too: none, or all since `whole_from`."""
        return self.method is Method.RPC


SCAN = "scan"

#: The built-in rollups with their dimensions, the smallest first. From a model follows its provider.
ROLLUPS: Mapping[str, tuple[str, ...]] = {TOTAL.name: (), MODEL.name: ("model_id", "provider_id")}


async def choose(snapshot: Snapshot, question: Question, *, timeout: float) -> Sequence[Source]:
    """Return the sources that can answer the question, the best first; each next one needs less.

    The functions read a built-in rollup when it is ready, and else scan.
    """
    wanted = {dimension.name for dimension in question.dimensions}
    fitting = [name for name, by in ROLLUPS.items() if wanted <= set(by)]
    if fitting:
        ready = await _built_in_ready(snapshot, timeout=timeout)
        name = f"rollup:{fitting[0]}" if ready else SCAN
        return (Source(name, Method.RPC), Source(SCAN, Method.OPTIMIZED))
    listed = await _listed(snapshot, timeout=timeout)
    possible = [each for each in listed if _fits(each.own, question)]
    best = next((each for each in possible if each.right and each.readable), None)
    types = (await look(snapshot, timeout=timeout)).columns
    can_be_added = not possible and not snapshot.in_citus and _can_be_kept(question, types)
    scan = Source(SCAN, Method.QUERY, suggestion=_suggestion(question, listed) if can_be_added else None)
    if best is None:
        return (scan,)
    return (Source(f"rollup:{best.name}", Method.RPC, best.own, best.whole_from), scan)


async def ready_rollups(snapshot: Snapshot, *, timeout: float) -> Mapping[str, tuple[str, ...]]:
    """Return the rollups that may be read, with their dimensions."""
    if not await _built_in_ready(snapshot, timeout=timeout):
        return {}
    listed = await _listed(snapshot, timeout=timeout)
    return {**ROLLUPS, **{each.name: each.own.answers for each in listed if each.right and each.readable}}


async def _built_in_ready(snapshot: Snapshot, *, timeout: float) -> bool:
    try:
        [record] = await snapshot.fetch(
            "SELECT stats_schema.chat_stats_rollup_ready() AS ready", timeout=timeout, keeps_plan=True
        )
    except asyncpg.PostgresError:  # not installed, or not for us
        return False
    return bool(record["ready"])


async def _listed(snapshot: Snapshot, *, timeout: float) -> list[ListedRollup]:
    """Return the rollups that the operator added, the smallest first."""
    if not (await look(snapshot, timeout=timeout)).lists_rollups:
        return []

    async def fetch(sql: str, *arguments: object) -> list[asyncpg.Record]:
        return await snapshot.fetch(sql, *arguments, timeout=timeout, keeps_plan=True)

    try:
        return await read_own_sources(fetch)
    except asyncpg.PostgresError:  # not for us
        return []


def _fits(own: OwnRollup, question: Question) -> bool:
    """Return whether the rollup has the dimensions, as they are declared now, and percentiles if asked."""
    has_ids = "model_id" in own.rollup.dimensions
    return all(
        has_ids if dimension.is_id else own.kept_as(dimension) is not None
        for dimension in question.dimensions
    ) and (own.rollup.histograms or not any(figure_of(name).is_percentile for name in question.computed))


def _can_be_kept(question: Question, types: ColumnTypes) -> bool:
    """Return whether a rollup can have the dimensions: of json columns, only keys of a `jsonb`."""
    return all(
        dimension.key is None or types[str(dimension.column)].name == "jsonb"
        for dimension in question.dimensions
        if dimension.column in types
    )


def _suggestion(question: Question, listed: Sequence[ListedRollup]) -> str | None:
    """Return the command that adds a rollup for such questions.

    Its index begins with the first dimension: filters by few values come first, then groups.
    """
    asked = sorted((each for each in question.filters if not each.negated), key=lambda each: len(each.values))
    dimensions = (*(each.dimension for each in asked), *question.dimensions)
    by = list(dict.fromkeys("model_id" if each.is_id else each.name for each in dimensions))
    kept = [{"model_id" if each.is_id else each.name for each in rollup.own.by} for rollup in listed]
    if len(by) > MAX_DIMENSIONS or set(by) in kept:
        return None
    joined = "_".join(by)
    # (With room for a number.)
    wanted = joined if len(joined) <= LONGEST_NAME - 3 else f"by_{len(by)}_dimensions"
    name = _free(wanted, {*ROLLUPS, *(each.name for each in listed)})
    return f"chat-stats rollup add {name} --by {','.join(by)}"


def _free(wanted: str, taken: Collection[str]) -> str:
    """Return the name, with a number if there is a rollup of that name already."""
    names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
    return next(name for name in names if name not in taken)
