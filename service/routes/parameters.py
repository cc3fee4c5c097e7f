"""What parameters may be, for the OpenAPI document; and that each is given once.

The routes take them as text, and hand them to code that says in each refusal what is allowed. So the document
is told here what that code accepts. Defaults stay out of these schemas: clients generated from it would send
them, and an `offset` of 0, for one, is not allowed beside a cursor.
"""

from collections.abc import Iterable

from fastapi import Request
from pydantic import WithJsonSchema

from chat_stats.service.errors import InvalidParameter
from chat_stats.service.explorer.query import FLAT_FIELDS, MAX_TEXT, NESTED


def one_of(values: Iterable[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(values)})


def whole_number(least: int, most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


ID = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
            {"type": "string", "format": "uuid"},
        ]
    }
)
MOMENT = WithJsonSchema(
    {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
        "examples": ["2026-01-31", "2026-01-31T12:00:00Z"],
    }
)
TEXT = WithJsonSchema({"type": "string", "maxLength": MAX_TEXT, "pattern": r"^[^\u0000]*$"})
CURSOR = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})
TIMEZONE = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_+/-]+$", "examples": ["Europe/Berlin"]})

_FIELD = f"({'|'.join((*FLAT_FIELDS, NESTED))})"
FIELDS = WithJsonSchema(
    {
        "type": "string",
        "pattern": f"^{_FIELD}(,{_FIELD})*$",
        "examples": ["id,created_at,model_name,total_tokens"],
    }
)


#: All parameters in the query string of GET operations; each is given once.
SINGLE = frozenset(
    (
        *("window", "start_date", "end_date", "provider_id", "model_id", "bucket", "group_by", "timezone"),
        *("model_name", "status", "limit", "offset", "cursor", "fields", "format", "points"),
    )
)


async def check_given_once(request: Request) -> None:
    """Refuse a parameter that is given twice: answering by one of its values would be silently wrong.

    Names that mean nothing are ignored, as they are when given once.
    """
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name in seen and name in SINGLE:
            raise InvalidParameter(name, f"give {name} once: there can be only one")
        seen.add(name)
