"""What the shell completes: windows and names.

A completion never fails: without an answer it offers nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.errors import ChatStatsError, SettingsError

if TYPE_CHECKING:
    from chat_stats.service.catalogue.dimensions import Dimensions
    from chat_stats.service.settings import Settings

#: Longest wait for names that the database knows.
SECONDS = 2.0


def windows(incomplete: str) -> list[str]:
    return _beginning(incomplete, WINDOWS)


def aggregations(incomplete: str) -> list[str]:
    from chat_stats.service.catalogue.aggregations import AGGREGATIONS

    return _beginning(incomplete, AGGREGATIONS)


def buckets(incomplete: str) -> list[str]:
    from chat_stats.service.catalogue.timeseries import BUCKETS

    return _beginning(incomplete, BUCKETS)


def dimensions(incomplete: str) -> list[str]:
    return _next_of_several(incomplete, _known())


def measures(incomplete: str) -> list[str]:
    from chat_stats.service.catalogue.question_parameters import measure_names

    return _next_of_several(incomplete, measure_names(_known()))


def orders(incomplete: str) -> list[str]:
    from chat_stats.service.catalogue.question_parameters import measure_names

    known = _known()
    return _beginning(
        incomplete, [f"{sign}{name}" for name in (*measure_names(known), *known) for sign in ("-", "")]
    )


def filters(incomplete: str) -> list[str]:
    return _beginning(incomplete, [f"{name}=" for name in _known()])


def rollups(incomplete: str) -> list[str]:
    """Offer the rollups that were added."""

    async def names(settings: Settings) -> list[str]:
        from chat_stats.service.rollup.own import open_own_rollups

        async with open_own_rollups(settings) as found:
            return [each.name for each in await found.list_all()]

    return _from_database(incomplete, names)


def keys(incomplete: str) -> list[str]:
    async def names(settings: Settings) -> list[str]:
        from chat_stats.service.keys.table import open_keys

        async with open_keys(settings) as found:
            return [each.name for each in await found.listed()]

    return _from_database(incomplete, names)


def _from_database(incomplete: str, names: Callable[[Settings], Awaitable[list[str]]]) -> list[str]:
    from chat_stats.service.settings import load_settings

    async def ask() -> list[str]:
        return await asyncio.wait_for(names(load_settings()), SECONDS)

    try:
        return _beginning(incomplete, asyncio.run(ask()))
    except (ChatStatsError, TimeoutError):
        return []


def _known() -> Dimensions:
    """Return the dimensions of the settings; without usable settings, the built-in ones."""
    from chat_stats.service.catalogue.dimensions import known_dimensions
    from chat_stats.service.settings import load_settings

    try:
        return load_settings().known_dimensions
    except SettingsError:
        return known_dimensions()


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _next_of_several(incomplete: str, names: Iterable[str]) -> list[str]:
    """Complete the last name of a list that is separated by commas; a name that it has is not offered."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, names) if name not in given]
