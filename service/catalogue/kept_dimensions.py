"""How rollups of the operator's own keep the values of dimensions: as text, in a column for each.

A value is what its type's output function writes, so that no cast that another role made is run; NULL stays
NULL. Values beyond `chat_stats_dimension_value()`'s length are shortened, since they are keys. An expression
comes from the operator's declaration alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat_stats.service.catalogue.dimensions import Dimension
from chat_stats.service.catalogue.error_kinds import ErrorKind
from chat_stats.service.catalogue.rollups import PREFIX, Rollup
from chat_stats.service.catalogue.statuses import literals
from chat_stats.service.errors import SchemaError

#: Dimensions of one rollup, at most: all of their values are one key of an index.
MAX_DIMENSIONS = 5


@dataclass(frozen=True, slots=True)
class KeptDimension:
    """A dimension with a column of its own in our tables."""

    dimension: Dimension
    #: Whether its values have blanks at their end that mean nothing: character(n).
    padded: bool = False

    @property
    def column(self) -> str:
        return PREFIX + self.dimension.name

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns of the requests that it is read from."""
        if self.dimension.kind == "status":
            return ("status",)
        if self.dimension.kind == "error_kind":
            return ("status", "error_message")
        assert self.dimension.column is not None
        return (self.dimension.column,)

    def absent(self) -> tuple[str, str] | None:
        """Return name and type of what stands in for its column where the requests lack it."""
        if self.dimension.kind == "status":
            return None
        name = self.sources[-1]
        return identifier(name), "text" if self.dimension.key is None else "jsonb"

    def expression(self, *, strict: bool) -> str:
        """Return its value of a request.

        A `strict` one is refused where a json column has another type by now, before it reads a row; the
        other then is NULL.
        """
        if self.dimension.kind == "status":
            value = "CASE WHEN status IS NOT NULL THEN rtrim(concat(status)) END"
        elif self.dimension.kind == "error_kind":
            value = (
                "CASE WHEN NOT stats_schema.chat_stats_is_success(concat(status)) "
                "AND NOT stats_schema.chat_stats_is_pending(concat(status)) "
                "THEN stats_schema.chat_stats_error_kind("
                'concat(status) COLLATE "default", concat(error_message) COLLATE "default") END'
            )
        else:
            column = identifier(self.sources[0])
            if self.dimension.key is not None:
                key = f"{literals([self.dimension.key])}::text"
                value = f"jsonb_object_field_text({column}, {key})"
                if not strict:  # to_jsonb() of a jsonb runs no cast
                    value = (
                        f"CASE WHEN pg_typeof({column})::oid = 3802::oid "
                        f"THEN jsonb_object_field_text(to_jsonb({column}), {key}) END"
                    )
            else:
                text = f"concat({column})"
                text = f"rtrim({text})" if self.padded else text
                value = f"CASE WHEN {column} IS NOT NULL THEN {text} END"
        # By its bytes, whatever collation the column has: two of them could not be compared with each other.
        return f'stats_schema.chat_stats_dimension_value({value}) COLLATE "C"'


@dataclass(frozen=True, slots=True)
class OwnRollup:
    """A rollup that the operator added, as the database lists it."""

    rollup: Rollup
    #: What it was declared by.
    by: tuple[Dimension, ...]
    kept: tuple[KeptDimension, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """The names of the dimensions that it knows: from a model follows its provider."""
        ids = ("model_id", "provider_id") if "model_id" in self.rollup.dimensions else ()
        return (*ids, *(each.dimension.name for each in self.kept))

    def kept_as(self, dimension: Dimension) -> KeptDimension | None:
        """Return the kept dimension that is declared as this one is now; None if there is none."""
        return next((each for each in self.kept if each.dimension == dimension), None)


def own_rollup(
    name: str, by: Sequence[Dimension], *, histograms: bool, padded: Iterable[str] = ()
) -> OwnRollup:
    """Return the rollup by these dimensions; for a provider it keeps models. `padded`: character(n).

    They stay in their order: the index begins with the first one, and finds the rows of its values.
    """
    blank = set(padded)
    kept = {
        each: KeptDimension(each, each.key is None and each.column in blank) for each in by if not each.is_id
    }
    columns = dict.fromkeys("model_id" if each.is_id else kept[each].column for each in by)
    return OwnRollup(Rollup(name, tuple(columns), histograms=histograms), tuple(by), tuple(kept.values()))


def dimension_of(definition: Sequence[Any]) -> Dimension:
    """Return the dimension that `Dimension.definition()` describes."""
    name, kind, column, key, kinds = definition
    return Dimension(name, kind, column, key, tuple(ErrorKind(each[0], tuple(each[1])) for each in kinds))


def kept_dimensions(rollups: Iterable[OwnRollup]) -> Mapping[str, KeptDimension]:
    """Return all dimensions of the rollups by their columns; `SchemaError` when one has two meanings."""
    found: dict[str, KeptDimension] = {}
    for each in rollups:
        for dimension in each.kept:
            known = found.setdefault(dimension.column, dimension)
            if known.dimension != dimension.dimension:
                raise SchemaError(
                    f"the dimension {dimension.dimension} is kept as {known.dimension} by another rollup: "
                    "remove that one first, or give the dimension another name"
                    if dimension.dimension.kind == "column"
                    else f"another rollup keeps {dimension.dimension} by other kinds: remove that one first"
                )
    return found


def identifier(name: str) -> str:
    """Return a column's name as SQL writes it: escaped, since our texts pass through several quotings."""
    if re.fullmatch(r"[A-Za-z0-9_]+", name):
        return f'"{name}"'
    escaped = re.sub(r"[^A-Za-z0-9_]", lambda found: f"!+{ord(found[0]):06X}", name)
    return f"U&\"{escaped}\" UESCAPE '!'"
