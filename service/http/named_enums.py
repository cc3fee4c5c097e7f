"""Names the enumerations of the OpenAPI document.

Generated clients make a type of each name, used wherever it occurs, instead of one for each place. Where they
need names for the values too, `x-enum-varnames` has them: Python has none like `1h` or `-total_requests`.
"""

import re
from collections.abc import Mapping
from typing import Any

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.catalogue.dimensions import Dimensions
from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.catalogue.timeseries import BUCKETS, groupings
from chat_stats.service.compute.methods import Method
from chat_stats.service.explorer.exports import FORMATS
from chat_stats.service.explorer.query import SORTABLE

_UNITS = {"m": "MINUTES", "h": "HOURS", "d": "DAYS", "w": "WEEKS", "mo": "MONTHS"}
_LENGTH = re.compile(rf"([0-9]+)({'|'.join(_UNITS)})")

#: The values of a schema, and what it is named.
_Names = Mapping[tuple[str, ...], str]


def name_enums(document: dict[str, Any], known: Dimensions) -> None:
    """Move all enumerations of the document that have a name to its components."""
    schemas = document["components"]["schemas"]
    names = _names(known)
    for part in (document["paths"], schemas):
        _replace(part, names)
    for values, name in names.items():
        schemas[name] = {
            "type": "string",
            "enum": [str(value) for value in values],
            "title": name,
            "x-enum-varnames": [variable_name(value) for value in values],
        }


def _names(known: Dimensions) -> _Names:
    return {
        tuple(WINDOWS): "Window",
        tuple(BUCKETS): "Bucket",
        tuple(FORMATS): "Format",
        tuple(CacheState): "CacheState",
        tuple(Method): "Method",
        tuple(AGGREGATIONS): "AggregationName",
        tuple(known): "DimensionName",
        groupings(known): "SeriesGrouping",
        ("ready", "degraded", "unavailable"): "ReadinessStatus",
        ("queued", "complete"): "RefreshStatus",
        ("all", "time_slots"): "SamplingMethod",
        orders(SORTABLE): "RequestsOrder",
        **{
            orders(aggregation.sortable): f"{aggregation.name.capitalize()}Order"
            for aggregation in AGGREGATIONS.values()
            if aggregation.sortable
        },
    }


def orders(fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of `order_by` for rows with these fields."""
    return (*fields, *(f"-{name}" for name in fields))


def _replace(part: Any, names: _Names) -> None:
    if isinstance(part, list):
        for each in part:
            _replace(each, names)
    elif isinstance(part, dict):
        values = part.get("enum")
        if isinstance(values, list) and (name := names.get(tuple(values))) is not None:
            kept = {key: part[key] for key in ("description",) if key in part}
            part.clear()
            part.update({"$ref": f"#/components/schemas/{name}", **kept})
        for each in part.values():
            _replace(each, names)


def variable_name(value: str) -> str:
    """Return a name for a value, for languages whose names cannot begin with a digit or a minus sign."""
    if (length := _LENGTH.fullmatch(value)) is not None:
        return f"{_UNITS[length[2]]}_{length[1]}"
    name = value.removeprefix("-").upper()
    return f"{name}_DESCENDING" if value.startswith("-") else name
