"""What parameters may be, for the OpenAPI document; and that a request has none but those, each once.

The routes take them as text, and hand them to code that says in each refusal what is allowed. So the document
is told here what that code accepts. Defaults stay out of these schemas: clients generated from it would send
them, and an `offset` of 0, for one, is not allowed beside a cursor.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, get_origin

from fastapi import Query, Request
from fastapi.dependencies.models import Dependant
from pydantic import WithJsonSchema

from chat_stats.service.catalogue.question_parameters import filter_names, filtered_by, parse_filters
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.errors import InvalidParameter
from chat_stats.service.explorer.query import FLAT_FIELDS, MAX_TEXT, NESTED
from chat_stats.service.http.services import RequestServices, services_of
from chat_stats.service.settings import ALL_COLUMNS, KNOWN_REQUEST_COLUMNS


def one_of(values: Iterable[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(values)})


def whole_number(least: int, most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


_IDS: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    {"type": "string", "format": "uuid"},
]
ID = WithJsonSchema({"anyOf": _IDS})
MODEL = WithJsonSchema({"anyOf": [*_IDS, {"type": "string", "const": UNRESOLVED}]})
MOMENT = WithJsonSchema(
    {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
        "examples": ["2026-01-31", "2026-01-31T12:00:00Z"],
    }
)
TEXT = WithJsonSchema({"type": "string", "maxLength": MAX_TEXT, "pattern": r"^[^\u0000]*$"})
ModelName = Annotated[
    str | None,
    TEXT,
    Query(description="Only models whose name contains this, whatever the case; `%` and `_` are literal."),
]
CURSOR = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})
TIMEZONE = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_+/-]+$", "examples": ["Europe/Berlin"]})

#: Without the columns that only some gateways have: `fields` adds them.
FIELDS = WithJsonSchema({"type": "string", "examples": ["id,created_at,model_name,total_tokens"]})


def fields(request_columns: Sequence[str] | None) -> dict[str, str]:
    """Return what the document says of `fields` where the settings choose these further columns."""
    further = KNOWN_REQUEST_COLUMNS if request_columns is None else request_columns
    if ALL_COLUMNS in further:
        return {"pattern": r"^[^,\u0000]+(,[^,\u0000]+)*$"}
    names = "|".join(re.escape(name) for name in dict.fromkeys((*FLAT_FIELDS, NESTED, *further)))
    return {"pattern": f"^({names})(,({names}))*$"}


#: Clients add it with a new value to each request, so that no cache answers. It means nothing: it is let
#: through.
CACHE_BUSTER = "_"


async def check(request: Request) -> None:
    """Refuse a parameter that the route does not declare, and one given twice where one value is declared.

    Answering without it, or by one of its values, would be silently wrong: a misspelt filter would get the
    grand total.
    """
    if not request.query_params:
        return
    dependant = request.scope["route"].dependant
    # By name: whether it may be repeated.
    known = dict(declared(dependant))
    if any(dependency.call is by_dimension for dependency in _all_of(dependant)):
        dimensions = (await services_of(request)).settings.known_dimensions
        known |= dict.fromkeys(filter_names(dimensions), True)
        known |= {name: True for name in request.query_params if filtered_by(name, dimensions) is not None}
        known = {name: repeats for name, repeats in known.items() if name not in request.path_params}
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name == CACHE_BUSTER:
            continue
        if name not in known:
            names = ", ".join(known) or "none"
            raise InvalidParameter(name[:40], f"unknown parameter {name[:40]!r}; known: {names}")
        if name in seen and not known[name]:
            raise InvalidParameter(name, f"give {name} once: there can be only one")
        seen.add(name)


async def by_dimension(request: Request, services: RequestServices) -> tuple[Filter, ...]:
    """Read the filters by dimension: a route that depends on this takes all of them."""
    return parse_filters(request.query_params.multi_items(), services.settings.known_dimensions)


def _all_of(dependant: Dependant) -> Iterator[Dependant]:
    for dependency in dependant.dependencies:
        yield dependency
        yield from _all_of(dependency)


def declared(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the query parameters of a route and its dependencies, and whether each may be repeated."""
    for parameter in dependant.query_params:
        yield parameter.alias, get_origin(parameter.field_info.annotation) is list
    for dependency in dependant.dependencies:
        yield from declared(dependency)
