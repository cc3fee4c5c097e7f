"""Rollups of the operator's own: added, removed and listed, over a live table."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from math import sqrt
from typing import Any, Literal

import orjson

from chat_stats.service.catalogue.dimensions import Dimension, Dimensions
from chat_stats.service.catalogue.kept_dimensions import (
    MAX_DIMENSIONS,
    OwnRollup,
    kept_dimensions,
    own_rollup,
)
from chat_stats.service.catalogue.rollups import ROLLUPS, check_name
from chat_stats.service.database import queries
from chat_stats.service.database.dimension_columns import column_types
from chat_stats.service.database.own_rollups import OWN_TABLE, ListedRollup, read_own_rollups
from chat_stats.service.errors import DatabaseBusy, InvalidParameter, SchemaError
from chat_stats.service.rollup.own_installation import OwnInstallation
from chat_stats.service.rollup.triggers import on_shards, require_stored
from chat_stats.service.rollup.upkeep import Progress, Rollup, open_rollup
from chat_stats.service.settings import Settings

OwnState = Literal["backfilling", "on", "damaged"]

#: Requests of the sample by which the size of a rollup is estimated.
SAMPLE_REQUESTS = 30_000
#: Longest time in milliseconds that a list waits for the size of a rollup whose tables are locked.
SIZE_LOCK_MS = 200
#: Bytes of a row of a rollup by day, of each further slot of it, and of a row of its coarser tiers, beside
#: the values of its dimensions.
_DAY_BYTES = 115
_SLOT_BYTES = 50
_COARSE_BYTES = 120


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a rollup will hold, about."""

    requests: int
    #: Groups of its dimensions' values, and rows of those by day.
    groups: int
    day_rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OwnStatus:
    """One rollup, built in or of the operator's own."""

    name: str
    dimensions: list[str]
    percentiles: bool
    state: str
    reason: str
    #: None: its tables are locked, as while they are rewritten at the end of a backfill.
    size_bytes: int | None
    drift: int = 0
    whole_from: datetime | None = None


class OwnRollups:
    """Over the connection of the rollup's upkeep."""

    def __init__(self, rollup: Rollup, dimensions: Dimensions) -> None:
        self._rollup = rollup
        self._connection = rollup.connection
        self._dimensions = dimensions

    async def declare(self, name: str, by: Sequence[str], *, percentiles: bool) -> OwnRollup:
        """Return the rollup that is asked for; `SchemaError` or `InvalidParameter` says why it cannot be."""
        if await on_shards(self._connection):
            raise SchemaError(
                "on Citus there are the built-in rollups alone; questions by other dimensions scan"
            )
        wanted = own_rollup(name, self._known(by), histograms=percentiles)
        check_name(wanted.rollup)
        if name in [rollup.name for rollup in ROLLUPS]:
            raise SchemaError(f"the rollup {name} is built in")
        for built_in in ROLLUPS:
            if set(wanted.rollup.dimensions) == set(built_in.dimensions):
                raise SchemaError(f"the built-in rollup {built_in.name} is kept by these dimensions already")
        types = await column_types(self._connection.fetch, wanted.by)
        for each in wanted.by:
            if each.key is not None and types[str(each.column)].name != "jsonb":
                raise SchemaError(
                    f"{each}: the column {each.column} is {types[str(each.column)].name}, and some values of "
                    "json cannot be read as text: a rollup needs a key of a jsonb column"
                )
        await require_stored(self._connection, {source for each in wanted.kept for source in each.sources})
        if await self._requires_migration():
            raise SchemaError(f"the table {OWN_TABLE} is missing; run: chat-stats migrate")
        listed = await self._listed()
        kept_dimensions([*(each.own for each in listed if each.name != name), wanted])
        for other in listed:
            same = other.own.by == wanted.by and other.own.rollup.histograms == percentiles
            if other.name == name and (not same or other.ready):
                raise SchemaError(f"the rollup {name} exists, by {_names(other.own.by)}")
            if other.name != name and set(other.own.rollup.dimensions) == set(wanted.rollup.dimensions):
                raise SchemaError(f"the rollup {other.name} is kept by these dimensions already")
        state = await self._rollup.state()
        if state.state != "on":
            raise SchemaError(
                f"the rollup must be on before one is added; it is {state}; run: chat-stats rollup enable"
            )
        return wanted

    async def estimate(self, wanted: OwnRollup) -> Estimate:
        """Return about what the rollup will hold, from a sample of the requests."""
        requests = await self._rollup.estimate_requests()
        expressions = [
            *(["concat(model_id)"] if "model_id" in wanted.rollup.dimensions else []),
            *(f"({each.expression(strict=False)})" for each in wanted.kept),
        ]
        key = ", ".join(f"COALESCE({expression}, '~')" for expression in expressions)
        share = min(100.0, 200.0 * SAMPLE_REQUESTS / requests) if requests else 100.0
        found = await self._connection.fetchrow(
            f"""
            SELECT
                count(*) AS sampled, count(DISTINCT s.key) AS groups,
                count(*) FILTER (WHERE s.n = 1) AS once,
                count(DISTINCT concat_ws('/', s.key, s.day)) AS day_rows,
                count(DISTINCT s.day) AS days, count(DISTINCT stats_schema.chat_stats_month(s.day)) AS months,
                COALESCE(avg(length(s.key)), 0)::double precision AS characters
            FROM (
                SELECT q.key, q.day, count(*) OVER (PARTITION BY q.key) AS n
                FROM (SELECT NULL::text AS error_message) AS absent  -- found where the requests have none
                CROSS JOIN LATERAL (
                    SELECT
                        concat_ws('/', {key}, '') AS key,
                        stats_schema.chat_stats_day(
                            stats_schema.chat_stats_bucket(created_at::timestamptz)
                        ) AS day
                    FROM gateway_schema.chat_completion_requests TABLESAMPLE SYSTEM ({share:.4f})
                    LIMIT {SAMPLE_REQUESTS}
                ) AS q
            ) AS s
            """,  # noqa: S608  expressions are ours
        )
        return _estimated(max(requests, found["sampled"]), found)

    async def add(self, wanted: OwnRollup, progress: Progress) -> None:
        """Add the rollup over the live table, or go on where that was interrupted."""
        async with self._connection.lock():
            listed = await self._listed()
            if not any(each.name == wanted.rollup.name for each in listed):
                await self._connection.execute(
                    "INSERT INTO stats_schema.chat_stats_rollups (name, by, sources, histograms) "
                    "VALUES ($1, $2::text::jsonb, $3::text[], $4)",
                    wanted.rollup.name,
                    orjson.dumps([each.definition() for each in wanted.by]).decode(),
                    list(dict.fromkeys(source for each in wanted.kept for source in each.sources)),
                    wanted.rollup.histograms,
                )
            await self._rollup.chunks.show_progress()
            await self._make_right(wanted.rollup.name, progress)
        for each in await self._listed():
            if each.name == wanted.rollup.name and not each.right:
                raise SchemaError(
                    f"the rollup {each.name} could not be made right: {_reason(each)}; "
                    f"run it again: chat-stats rollup add"
                )

    async def _make_right(self, name: str, progress: Progress) -> None:
        """Backfill the rollup alone, or go on with that; with all others where writes went uncounted."""
        [found] = [each for each in await self._listed() if each.name == name]
        if (await self._rollup.state()).state == "on" and found.uncounted is None:
            is_begun = found.same_columns and not found.ready and not found.drift
            place = found.backfilled_to if is_begun else None
            await self._rollup.backfill_own(name, place or "-infinity", progress)
            if all(each.right for each in await self._listed() if each.name == name):
                return
        await self._rollup.make_right("-infinity", progress)

    async def remove(self, name: str) -> None:
        """Remove a rollup with its tables, and the columns that no other one needs."""
        if name in [rollup.name for rollup in ROLLUPS]:
            raise SchemaError(f"the rollup {name} is built in; chat-stats rollup disable switches all off")
        async with self._connection.lock():
            listed = await self._listed()
            found = next((each.own for each in listed if each.name == name), None)
            if found is None:
                known = ", ".join([*(rollup.name for rollup in ROLLUPS), *(each.name for each in listed)])
                raise InvalidParameter("name", f"there is no rollup {name[:40]!r}; there are {known}")
            await self._connection.execute(
                "UPDATE stats_schema.chat_stats_rollups SET ready = false, backfilled_to = NULL "
                "WHERE name = $1",
                name,
            )
            left = [each.own for each in listed if each.name != name]
            tables = [*found.rollup.tables.values(), found.rollup.purged]
            await OwnInstallation(self._connection, self._rollup.statuses).uninstall(name, left, tables)

    async def list_all(self) -> list[OwnStatus]:
        """Return all rollups, the built-in ones first."""
        base = await self._rollup.state()
        found = [
            OwnStatus(
                rollup.name,
                list(rollup.dimensions),
                True,
                base.state,
                base.reason,
                await self._size(list(rollup.tables.values())),
            )
            for rollup in ROLLUPS
        ]
        for each in await self._listed():
            rollup = each.own.rollup
            state, reason = _state(each) if base.state == "on" else (base.state, base.reason)
            found.append(
                OwnStatus(
                    each.name,
                    [str(dimension) for dimension in each.own.by],
                    rollup.histograms,
                    state,
                    reason,
                    await self._size([*rollup.tables.values(), rollup.purged]),
                    each.drift,
                    each.whole_from,
                )
            )
        return found

    async def _size(self, tables: list[str]) -> int | None:
        try:
            async with self._connection.transaction():
                await self._connection.execute(f"SET LOCAL lock_timeout = {SIZE_LOCK_MS}")
                row = await self._connection.fetchrow(queries.load("rollup_sizes"), tables)
        except DatabaseBusy:
            return None
        return int(row["rollup_bytes"])

    async def _listed(self) -> list[ListedRollup]:
        return await read_own_rollups(self._connection.fetch)

    async def _requires_migration(self) -> bool:
        return bool(await self._connection.fetchval(queries.load("rollup_missing"), [OWN_TABLE]))

    def _known(self, by: Sequence[str]) -> list[Dimension]:
        if not by or len(by) > MAX_DIMENSIONS:
            raise InvalidParameter("by", f"give 1 to {MAX_DIMENSIONS} dimensions, separated by commas")
        for name in by:
            if name not in self._dimensions:
                raise InvalidParameter(
                    "by", f"unknown dimension {name[:40]!r}; known: {', '.join(self._dimensions)}"
                )
            if by.count(name) > 1:
                raise InvalidParameter("by", f"the dimension {name} is named twice")
        return [self._dimensions[name] for name in by]


@asynccontextmanager
async def open_own_rollups(settings: Settings) -> AsyncIterator[OwnRollups]:
    """Connect for adding and removing rollups."""
    async with open_rollup(settings) as rollup:
        yield OwnRollups(rollup, settings.known_dimensions)


def _estimated(requests: int, found: Any) -> Estimate:
    """Scale the sample up: a rollup holds at most a row for each request, and one of each group and day."""
    if found["sampled"] == 0:
        return Estimate(requests, 0, 0, 0)
    requests = max(requests, found["sampled"])
    groups = _all_groups(requests, found)
    of_all = requests / found["sampled"]
    day_rows = min(round(found["day_rows"] * of_all), groups * found["days"])
    slots = min(requests, day_rows * 96)
    coarse = min(day_rows, groups * found["months"]) + groups
    values = 2 * found["characters"]
    size = (
        day_rows * (_DAY_BYTES + values)
        + (slots - day_rows) * _SLOT_BYTES
        + coarse * (_COARSE_BYTES + values)
    )
    return Estimate(requests, groups, day_rows, round(size))


def _all_groups(requests: int, found: Any) -> int:
    """Estimate the groups of all requests: those that the sample has once tell of those that it has not.

    The larger of two estimates: Duj1 (that of ANALYZE) falls short where few groups have most requests, GEE
    (Charikar et al., Towards estimation error guarantees for distinct values, 2000) where each has few.
    """
    groups, once, sampled = int(found["groups"]), int(found["once"]), int(found["sampled"])
    duj1 = sampled * groups / (sampled - once + once * sampled / requests)
    gee = groups + (sqrt(requests / sampled) - 1) * once
    return min(requests, round(max(duj1, gee)))


def _state(each: ListedRollup) -> tuple[OwnState, str]:
    if each.right:
        return "on", ""
    if each.drift or each.ready:
        return "damaged", _reason(each)
    return "backfilling", _reason(each)


def _reason(each: ListedRollup) -> str:
    if each.drift:
        return f"{each.drift} buckets differ from the requests; run: chat-stats rollup repair"
    if not each.ready:
        return "not done; chat-stats rollup add goes on with it, or chat-stats rollup repair"
    if not each.same_columns:
        return "a column of its dimensions changed since it was made; run: chat-stats rollup repair"
    return f"writes were counted without its dimensions: {each.uncounted}; run: chat-stats rollup repair"


def _names(by: Sequence[Dimension]) -> str:
    return ", ".join(each.name for each in by)
