"""By what questions group and filter: built-in dimensions, and those that the operator declares.

    CHAT_STATS_DIMENSIONS=user_id, api_key_id, team=metadata->>team

A declared dimension is a column of the requests, or a key of a json column. Its values are text, as the
database writes them; NULL is a value of its own. Its expression comes from this declaration alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Literal

import orjson

from chat_stats.service.catalogue.error_kinds import DEFAULT, ErrorKind, parse_error_kinds
from chat_stats.service.catalogue.figures import DISTINCT, FIGURES
from chat_stats.service.catalogue.measures import MEASURES
from chat_stats.service.errors import InvalidParameter

MAX_DECLARED = 30

Kind = Literal["model", "provider", "status", "error_kind", "column"]


@dataclass(frozen=True, slots=True)
class Dimension:
    name: str
    kind: Kind
    #: Of a declared one: the column, and the key if it holds json.
    column: str | None = None
    key: str | None = None
    #: Of error_kind.
    error_kinds: tuple[ErrorKind, ...] = ()

    @property
    def is_id(self) -> bool:
        """Whether its values are ids of models or providers, which have names too."""
        return self.kind in ("model", "provider")

    @property
    def distinct(self) -> str:
        """The figure that counts its values."""
        return f"{DISTINCT}{self.name}"

    @property
    def name_field(self) -> str:
        """The field with the name of an id's model or provider."""
        return f"{self.kind}_name"

    def definition(self) -> list[Any]:
        """Return what its values depend on, for cache keys."""
        kinds = [[kind.name, kind.phrases] for kind in self.error_kinds]
        return [self.name, self.kind, self.column, self.key, kinds]

    def digest(self) -> str:
        """Return its definition, in bounded length."""
        return blake2b(orjson.dumps(self.definition()), digest_size=8).hexdigest()

    def __str__(self) -> str:
        """Return it as it is declared."""
        if self.column in (None, self.name) and self.key is None:
            return self.name
        return f"{self.name}={self.column}" + ("" if self.key is None else f"->>{self.key}")


PROVIDER_ID = Dimension("provider_id", "provider")
MODEL_ID = Dimension("model_id", "model")
BUILT_IN = (
    PROVIDER_ID,
    MODEL_ID,
    Dimension("status", "status"),
    Dimension("error_kind", "error_kind"),
)

#: Names that mean something else in a request or in an answer.
_TAKEN = {
    *FIGURES,
    *(name for measure in MEASURES for name in (measure.name, measure.total)),
    *(dimension.name for dimension in BUILT_IN),
    *("model", "provider", "model_name", "provider_name", "none", "id", "created_at", "bucket_start"),
    *("window", "start_date", "end_date", "bucket", "timezone", "measures", "group_by", "order_by", "limit"),
    *("offset", "cursor", "compare", "format", "fields", "points", "name", "prefix", "previous", "change"),
}

_NAME = r"[a-z][a-z0-9_]{0,40}"
_DECLARATION = re.compile(
    rf"(?P<name>{_NAME})"
    r"(?:\s*=\s*(?P<column>[A-Za-z_][A-Za-z0-9_$]{0,62})"
    r"(?:\s*->>\s*(?P<quote>'?)(?P<key>[A-Za-z0-9_$.:/@ -]{1,100}?)(?P=quote))?)?"
)

Dimensions = Mapping[str, Dimension]
NO_DIMENSIONS: Dimensions = MappingProxyType({})


@cache
def known_dimensions(declared: str = "", error_kinds: str = DEFAULT) -> Dimensions:
    """Return all dimensions by name; ValueError says what is wrong with the declaration."""
    kinds = parse_error_kinds(error_kinds)
    known = {each.name: each for each in BUILT_IN}
    known["error_kind"] = Dimension("error_kind", "error_kind", error_kinds=kinds)
    entries = [entry.strip() for entry in declared.split(",") if entry.strip()]
    if len(entries) > MAX_DECLARED:
        raise ValueError(f"{len(entries)} dimensions are too many: the limit is {MAX_DECLARED}")
    for entry in entries:
        dimension = _parse(entry)
        if dimension.name in known and dimension.name not in _TAKEN:
            raise ValueError(f"the dimension {dimension.name} is declared twice")
        known[dimension.name] = dimension
    return MappingProxyType(known)


def _parse(entry: str) -> Dimension:
    found = _DECLARATION.fullmatch(entry)
    if found is None:
        raise ValueError(
            f"{entry[:80]!r} is no dimension: write a column of the requests (user_id), name=column, or "
            "name=column->>key of a json column, with a name of a-z, 0-9 and _"
        )
    name = found["name"]
    if name in _TAKEN or name.startswith(("not_", DISTINCT)):
        raise ValueError(f"the name {name} means something else: write another_name=column")
    return Dimension(name, "column", found["column"] or name, found["key"])


def parse_dimension(parameter: str, name: str, known: Dimensions) -> Dimension:
    if name not in known:
        raise InvalidParameter(
            parameter, f"{parameter}: unknown dimension {name[:40]!r}; known: {', '.join(known)}"
        )
    return known[name]


def columns_of(dimensions: Iterable[Dimension]) -> list[str]:
    """Return the declared columns, each once."""
    return list(dict.fromkeys(each.column for each in dimensions if each.column is not None))
