"""The rollups that the operator added, as the database lists them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from chat_stats.service.catalogue.kept_dimensions import OwnRollup, dimension_of, own_rollup
from chat_stats.service.database import queries

OWN_TABLE = "chat_stats_rollups"

#: Runs a statement with its arguments.
Fetch = Callable[..., Awaitable[Sequence[asyncpg.Record]]]


@dataclass(frozen=True, slots=True)
class ListedRollup:
    own: OwnRollup
    ready: bool
    drift: int
    #: How far its backfill has come, as Postgres writes it; None: none is under way.
    backfilled_to: str | None
    #: It does not know what was purged before; None: it is whole.
    whole_from: datetime | None
    #: Whether the columns of its dimensions are those of which it was made.
    same_columns: bool
    #: Why writes were counted without its dimensions.
    uncounted: str | None
    #: Whether our role may read all of its tables, and the built-in rollups are ready: `own_sources` tells.
    readable: bool = False

    @property
    def name(self) -> str:
        return self.own.rollup.name

    @property
    def right(self) -> bool:
        """Whether it may be read, as far as itself is concerned."""
        return self.ready and self.same_columns and (self.uncounted is None or not self.own.kept)


async def declared_own_rollups(fetch: Fetch) -> list[OwnRollup]:
    """Return all of them, in the order in which they were added; none where there is no such table yet."""
    if not await _are_there(fetch):
        return []
    return [_declared(record) for record in await fetch(queries.load("own_declared"))]


async def read_own_rollups(fetch: Fetch) -> list[ListedRollup]:
    """Return all of them with their states, in the order in which they were added."""
    if not await _are_there(fetch):
        return []
    return [_listed(record) for record in await fetch(queries.load("own_rollups"))]


async def read_own_sources(fetch: Fetch) -> list[ListedRollup]:
    """Return all of them with their states and whether they may be read, the smallest first.

    It is one statement, which fails where there are no rollups yet.
    """
    return [
        replace(_listed(record), readable=record["readable"])
        for record in await fetch(queries.load("own_sources"))
    ]


async def _are_there(fetch: Fetch) -> bool:
    [record] = await fetch(f"SELECT to_regclass('stats_schema.{OWN_TABLE}') IS NOT NULL AS there")
    return bool(record["there"])


def _declared(record: Any) -> OwnRollup:
    by = [dimension_of(each) for each in orjson.loads(record["by"])]
    return own_rollup(record["name"], by, histograms=record["histograms"], padded=record["padded"])


def _listed(record: Any) -> ListedRollup:
    return ListedRollup(
        _declared(record),
        record["ready"],
        record["drift"],
        record["backfilled_to"],
        record["whole_from"],
        record["same_columns"],
        record["uncounted"],
    )
