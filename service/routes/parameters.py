"""What parameters may be, for the OpenAPI document.

The routes take them as text, and hand them to code that says in each refusal what is allowed. So the document
is told here what that code accepts. Defaults stay out of these schemas: clients generated from it would send
them, and an `offset` of 0, for one, is not allowed beside a cursor.
"""

from collections.abc import Iterable

from pydantic import WithJsonSchema

from service.request_query import FLAT_FIELDS, MAX_TEXT, NESTED


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
    {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
)
TEXT = WithJsonSchema({"type": "string", "maxLength": MAX_TEXT, "pattern": r"^[^\u0000]*$"})
CURSOR = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})
TIMEZONE = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_+/-]+$"})

_FIELD = f"({'|'.join((*FLAT_FIELDS, NESTED))})"
FIELDS = WithJsonSchema({"type": "string", "pattern": f"^{_FIELD}(,{_FIELD})*$"})
