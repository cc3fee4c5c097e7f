"""The schemas that our statements name.

A role that may create objects in a schema of the search_path can plant an operator or a function that fits a
call better than the one in pg_catalog, and it would run with our rights. So each of our transactions searches
pg_catalog alone, and statements say where the rest is: `gateway_schema.models`,
`stats_schema.chat_stats_fold()`. `begin` finds the schemas and `Names.fill` puts them in place of these two.
Calls of our own functions have arguments of exactly the declared types: then no other function of that name
fits better.

`readable.cost_usd` is that optional column where it is a number. One of another type counts as missing: it is
read from `absent`, the subquery that stands in for optional columns. `addable.cost_usd` is that column, as
numeric where it is real: Postgres adds these up as real.

`success_statuses` and `pending_statuses` are the lists of `Settings.statuses`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

import asyncpg

from chat_stats.service.catalogue.statuses import Statuses, listed_in
from chat_stats.service.database import queries

TABLES = ("providers", "models", "chat_completion_requests")
#: Any of these shows which schema is ours.
_OURS = (
    "chat_stats_deltas",
    "chat_stats_purged_model",
    "chat_stats_rollup_state",
    "chat_stats_usage",
    "get_provider_request_stats",
)

#: Only Citus has this table.
_IN_CITUS = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_dist_partition
    WHERE logicalrelid = 'gateway_schema.chat_completion_requests'::pg_catalog.regclass
) AS held
"""

_PLACE = re.compile(r"\b(?:stats_schema|readable(?=\.(\w+))|gateway_schema(?=\.(\w+)))\.")
_ADDABLE = re.compile(r"\baddable\.(\w+)")
_STATUSES = re.compile(r"\b(success|pending)_statuses\b")


class Connection(Protocol):
    """What is asked of a connection."""

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None: ...


@dataclass(frozen=True, slots=True)
class Names:
    """Schemas by the gateway's table, and that of our own tables and functions; None: there is none."""

    gateway: Mapping[str, str | None]
    stats: str | None
    #: The optional columns of the requests that are no numbers.
    unreadable: Sequence[str] = ()
    #: The columns of the requests that are real.
    real: Sequence[str] = ()
    #: The schemas that our role searches by itself.
    path: Sequence[str] = ()
    #: What statuses mean, by our settings.
    statuses: Statuses = field(default_factory=Statuses)

    def fill(self, text: str) -> str:
        """Return `text` with schemas and statuses in place; a schema that was not found is left out."""
        schemas = tuple(self.gateway.items())
        return _filled(text, schemas, self.stats, tuple(self.unreadable), tuple(self.real), self.statuses)


@lru_cache(maxsize=256)
def _filled(
    text: str,
    gateway: tuple[tuple[str, str | None], ...],
    stats: str | None,
    unreadable: tuple[str, ...],
    real: tuple[str, ...],
    statuses: Statuses,
) -> str:
    schemas = dict(gateway)

    def listed(place: re.Match[str]) -> str:
        return listed_in(getattr(statuses, place[1]))

    def schema(place: re.Match[str]) -> str:
        if place[1]:
            return "absent." if place[1] in unreadable else ""
        found = stats if place[2] is None else schemas.get(place[2])
        return "" if found is None else '"' + found.replace('"', '""') + '".'

    def addable(place: re.Match[str]) -> str:
        return f"readable.{place[1]}{'::numeric' if place[1] in real else ''}"

    return _STATUSES.sub(listed, _PLACE.sub(schema, _ADDABLE.sub(addable, text)))


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a transaction that just began."""

    now: datetime
    names: Names
    #: Which of the gateway's tables have row level security for our role.
    secured: list[str]
    #: Whether Citus holds the requests.
    in_citus: bool = False


async def begin(
    connection: Connection, settings: Mapping[str, str] | None = None, statuses: Statuses | None = None
) -> Begun:
    """Make the transaction that just began search pg_catalog alone."""
    settings = settings or {}
    row = await connection.fetchrow(
        queries.load("begin"), list(TABLES), list(_OURS), list(settings), list(settings.values())
    )
    assert row is not None
    names = Names(
        dict(zip(TABLES, row["gateway"], strict=True)),
        row["stats"],
        row["unreadable"],
        row["real_columns"],
        row["path"],
        statuses or Statuses(),
    )
    in_citus = row["has_citus"] and await _in_citus(connection, names)
    return Begun(row["now"], names, row["secured"], in_citus)


async def _in_citus(connection: Connection, names: Names) -> bool:
    if names.gateway["chat_completion_requests"] is None:
        return False
    row = await connection.fetchrow(names.fill(_IN_CITUS))
    assert row is not None
    return bool(row["held"])
