"""Pages of rows that have an order: the cursor of a page is the place of its last row.

So the next page goes on behind that row, also when the rows were computed again meanwhile and others came
before it.
"""

import base64
import binascii

import orjson

from chat_stats.service.catalogue.rows import Row, value_of
from chat_stats.service.errors import InvalidParameter

_IDS = ("model_id", "provider_id")


def place_of(row: Row, order: str) -> tuple[float, str]:
    """Return the place of a row in an order: its value there, and its id."""
    return value_of(row, order.removeprefix("-")), str(next(row[name] for name in _IDS if name in row))


def cursor_of(row: Row, order: str, filters: str) -> str:
    """Return the cursor for the rows behind this one; `filters`: what tells them from all others."""
    place = orjson.dumps((order, *place_of(row, order), filters))
    return base64.urlsafe_b64encode(place).rstrip(b"=").decode()


def check_cursor(text: str, order: str, filters: str) -> None:
    """Raise `InvalidParameter` unless the cursor is one of this order and of these filters, a scope's too."""
    try:
        by, value, row_id, of = _decode(text)
    except (ValueError, TypeError, binascii.Error):
        by, value, row_id, of = None, None, None, None
    if (by, of) != (order, filters) or type(value) not in (int, float) or type(row_id) is not str:
        raise InvalidParameter(
            "cursor",
            "cursor must be the next_cursor of an answer, unchanged, with its filters and its order",
        )


def rows_behind(cursor: str, rows: list[Row]) -> list[Row]:
    """Return those of the rows, which have the cursor's order, that come behind its place.

    If the row itself has gone, its equals come once more rather than not at all.
    """
    order, value, row_id, _ = _decode(cursor)
    descending = order.startswith("-")
    equals: int | None = None
    for number, row in enumerate(rows):
        this, this_id = place_of(row, order)
        if (this, this_id) == (value, row_id):
            return rows[number + 1 :]
        if this == value and equals is None:
            equals = number
        if this < value if descending else this > value:
            return rows[number if equals is None else equals :]
    return [] if equals is None else rows[equals:]


def _decode(cursor: str) -> tuple[str, float, str, str]:
    raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    order, value, row_id, filters = orjson.loads(raw)
    return order, value, row_id, filters
