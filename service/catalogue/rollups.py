"""The rollups: the dimensions by which totals are kept, built in or the operator's own, and their tables.

A rollup is a family of tables, one for each tier, and what is kept of purged requests. All are fed from the
same deltas, and folded in one statement. `chat-stats rollup add` declares further ones in a table of the
database; `service.catalogue.kept_dimensions` says how they keep their values.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chat_stats.service.errors import SchemaError

#: The columns by which the built-in rollups are kept.
DIMENSIONS = ("model_id",)
#: How the columns of all other dimensions begin, in our tables.
PREFIX = "by_"

#: The longest name of a rollup: those of its tables' indexes have 63 characters at most.
LONGEST_NAME = 63 - len("chat_stats_rollup__lifetime_day_idx")


@dataclass(frozen=True, slots=True)
class Tier:
    """A table of a rollup: one row for each value of its dimensions and of `time`."""

    name: Literal["slots", "days", "months", "lifetime"]
    #: The column that says of which time the row is, its type, and its value for a `day`.
    time: str
    type: str
    of_day: str
    #: "slots": the sums of each 15 minutes as arrays, and their histograms. "totals": one of each measure.
    holds: Literal["totals", "slots"] = "totals"
    #: The tier whose rows make its own; None: the requests do.
    made_of: str | None = None


TIERS = (
    Tier("slots", "day", "date", "day", holds="slots"),
    Tier("days", "day", "date", "day", made_of="slots"),
    Tier("months", "month", "date", "stats_schema.chat_stats_month(day)", made_of="days"),
    # Of all time there is one row: a column that is always true makes it the only one.
    Tier("lifetime", "always", "boolean", "true", made_of="months"),
)


#: Those of the operator's own have the totals of a day beside its slots: of most days there is one.
OWN_TIERS = tuple(tier for tier in TIERS if tier.name != "days")


@dataclass(frozen=True, slots=True)
class Rollup:
    """Totals by `dimensions`, in whose columns NULL is a value as any other."""

    name: str
    dimensions: tuple[str, ...] = ()
    #: The tiers above the slots that have histograms. Those of days would take much space by many dimensions,
    #: and those of all time would be in the way where sums of many groups are read.
    binned: tuple[str, ...] = ("months",)
    #: Whether it has the histograms for percentiles; else they are empty.
    histograms: bool = True

    @property
    def built_in(self) -> bool:
        return self in ROLLUPS

    @property
    def further(self) -> tuple[str, ...]:
        """Its dimensions that the built-in rollups do not know."""
        return tuple(name for name in self.dimensions if name not in DIMENSIONS)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return TIERS if self.built_in else OWN_TIERS

    @property
    def tables(self) -> dict[str, str]:
        """The names of its tables by tier."""
        return {tier.name: f"chat_stats_rollup_{self.name}_{tier.name}" for tier in self.tiers}

    @property
    def purged(self) -> str:
        """The table of what is kept of purged requests. It is no tier: the tiers are made from it, too."""
        return f"chat_stats_purged_{self.name}"


MODEL = Rollup("model", ("model_id",), binned=("months", "lifetime"))
TOTAL = Rollup("total", binned=("days", "months", "lifetime"))
#: A built-in rollup comes after those that have all its dimensions, from which its changes are summed up.
ROLLUPS = (MODEL, TOTAL)

#: Ends of names of rollups that would make the names of their parts in a statement ambiguous.
_ENDINGS = ("slot", "slots", "days", "months", "lifetime", "sums", "cells", "changes", "counted", "kept")


def dimensions(rollups: Sequence[Rollup]) -> list[str]:
    """Return the dimensions of all rollups, each once: those that a delta has."""
    return list(dict.fromkeys(name for rollup in rollups for name in rollup.dimensions))


def finer(rollups: Sequence[Rollup], rollup: Rollup) -> Rollup | None:
    """Return the rollup before this one that has all its dimensions, if there is one.

    One that is not built in stands alone: it may know less of purged requests than the others.
    """
    if not rollup.built_in:
        return None
    earlier = rollups[: rollups.index(rollup)]
    return next(
        (other for other in earlier if other.built_in and set(rollup.dimensions) <= set(other.dimensions)),
        None,
    )


def fold_sources(rollups: Sequence[Rollup]) -> list[tuple[Rollup, Rollup | None, Rollup | None]]:
    """Return the rollups, finest first, each with that whose sums and that whose histograms a fold adds up.

    None: those of the deltas. Unlike that of `finer()`, it may be the operator's own: a fold adds the same
    deltas to all.
    """
    ordered = sorted(rollups, key=lambda rollup: -len(rollup.dimensions))
    sources = []
    for place, rollup in enumerate(ordered):
        known = [other for other in ordered[:place] if set(rollup.dimensions) <= set(other.dimensions)]
        with_histograms = [other for other in known if other.histograms]
        sources.append((rollup, _coarsest(known), _coarsest(with_histograms)))
    return sources


def _coarsest(rollups: Sequence[Rollup]) -> Rollup | None:
    return min(rollups, key=lambda rollup: len(rollup.dimensions), default=None)


def check(rollups: Sequence[Rollup]) -> None:
    """Raise `SchemaError` for a declaration that no tables could hold."""
    names = [rollup.name for rollup in rollups]
    for rollup in rollups:
        if names.count(rollup.name) > 1:
            raise SchemaError(f"rollup {rollup.name}: the name is declared twice")
        check_name(rollup)
        for name in rollup.dimensions:
            if name not in DIMENSIONS and not name.startswith(PREFIX):
                raise SchemaError(
                    f"rollup {rollup.name}: unknown dimension {name}; known: {', '.join(DIMENSIONS)}"
                )
    for needed in (MODEL, TOTAL):
        if needed not in rollups:
            raise SchemaError(f"the rollup {needed.name} is missing: statistics are read from it")


def check_name(rollup: Rollup) -> None:
    """Raise `SchemaError` for a name that no tables could have."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", rollup.name):
        raise SchemaError(f"rollup {rollup.name}: a name has lower-case letters, digits and _")
    if len(rollup.name) > LONGEST_NAME:
        raise SchemaError(
            f"rollup {rollup.name}: the name is too long: it has at most {LONGEST_NAME} characters"
        )
    if rollup.name.split("_")[-1] in _ENDINGS and not rollup.built_in and "_" in rollup.name:
        raise SchemaError(f"rollup {rollup.name}: a name does not end in _{rollup.name.split('_')[-1]}")
