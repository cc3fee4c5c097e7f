"""Pages of rows that have an order: the cursor of a page is the place of its last row.

So the next page goes on behind that row, also when the rows were computed again meanwhile and others came
before it.
"""

import base64
import binascii

import orjson

from chat_stats.service.catalogue.rows import Row, value_of
from chat_stats.service.errors import InvalidParameter

#: The order of rows when none is asked for: the first of these fields that they have, descending.
_DEFAULT_ORDER = ("total_requests", "request_count")
_IDS = ("model_id", "provider_id")

Place = tuple[str, float, str]


def place_of(row: Row, order_by: str | None) -> Place:
    """Return the place of a row: the order, its value in that and its id."""
    order = order_by or f"-{next(name for name in _DEFAULT_ORDER if name in row.get('stats', row))}"
    return order, value_of(row, order.removeprefix("-")), str(next(row[name] for name in _IDS if name in row))


def cursor_of(row: Row, order_by: str | None) -> str:
    """Return the cursor for the rows behind this one."""
    return base64.urlsafe_b64encode(orjson.dumps(place_of(row, order_by))).rstrip(b"=").decode()


def parse_cursor(text: str, order_by: str | None) -> str:
    """Return the cursor, if it is one of this order."""
    try:
        order, value, row_id = _decode(text)
    except (ValueError, TypeError, binascii.Error):
        order, value, row_id = None, None, None
    known = order == order_by if order_by else order in {f"-{name}" for name in _DEFAULT_ORDER}
    if not known or type(value) not in (int, float) or type(row_id) is not str:
        raise InvalidParameter(
            "cursor", "cursor must be the next_cursor of an answer, unchanged, with the order of that answer"
        )
    return text


def rows_behind(cursor: str, rows: list[Row]) -> list[Row]:
    """Return those of the rows, which have the cursor's order, that come behind its place.

    If the row itself has gone, its equals come once more rather than not at all.
    """
    order, value, row_id = _decode(cursor)
    descending = order.startswith("-")
    equals: int | None = None
    for number, row in enumerate(rows):
        _, this, this_id = place_of(row, order)
        if (this, this_id) == (value, row_id):
            return rows[number + 1 :]
        if this == value and equals is None:
            equals = number
        if this < value if descending else this > value:
            return rows[number if equals is None else equals :]
    return [] if equals is None else rows[equals:]


def _decode(cursor: str) -> Place:
    raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    order, value, row_id = orjson.loads(raw)
    return order, value, row_id
