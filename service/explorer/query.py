"""What `/chat-requests` may be asked: filters, the place in the order at which a page begins, columns."""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson

from chat_stats.service.catalogue.question_parameters import filters_given
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import InvalidParameter

DEFAULT_LIMIT = 100
MAX_LIMIT = 100_000
MAX_OFFSET = 2**62

T = TypeVar("T", int, None)

#: Longest `model_name` and `status` that can be meant.
MAX_TEXT = 500

#: The columns of the requests and how they are read, so that each has one type whatever the table's.
#: NaN, infinities and what is beyond reason are no times and no costs, as in the statistics; a moment that
#: JSON's readers do not know (infinite, before year 1, after 9999) is null.
IN_CALENDAR = "{0} BETWEEN '0001-01-01' AND '9999-12-31T23:59:59.999999'"
_KNOWN_MOMENT = IN_CALENDAR.format("r.created_at")
_MEASURED = "CASE WHEN r.{0} BETWEEN -1000000000000000 AND 1000000000000000 THEN r.{0}::float8 END AS {0}"
REQUEST_COLUMNS = {
    "id": "r.id",
    "request_id": "r.request_id::text AS request_id",
    "model_id": "r.model_id",
    "input_tokens": "r.input_tokens::bigint AS input_tokens",
    "output_tokens": "r.output_tokens::bigint AS output_tokens",
    "total_tokens": (
        "LEAST(GREATEST(COALESCE(r.input_tokens, 0)::numeric + COALESCE(r.output_tokens, 0), "
        "-9223372036854775808), 9223372036854775807)::bigint AS total_tokens"
    ),
    "processing_time_ms": _MEASURED.format("processing_time_ms"),
    "status": "CASE WHEN r.status IS NOT NULL THEN rtrim(concat(r.status)) END AS status",
    "error_message": "r.error_message::text AS error_message",
    "user_id": "r.user_id::text AS user_id",
    "cost_usd": _MEASURED.format("cost_usd"),
    "created_at": f"CASE WHEN {_KNOWN_MOMENT} THEN r.created_at::timestamptz END AS created_at",
}
#: The place of a row whose `created_at` reads as null though it has one.
ODD_MOMENT = f"CASE WHEN {_KNOWN_MOMENT} THEN NULL ELSE r.created_at::timestamptz::text END"

#: What a row says of its model and provider, beside the nested `models`.
MODEL_COLUMNS = (
    "model_name",
    "model_identifier",
    "provider_model_id",
    "provider_id",
    "provider_name",
    "provider_slug",
)
NESTED = "models"

#: The fields of rows that nest nothing, in every gateway.
FLAT_FIELDS = (*REQUEST_COLUMNS, *MODEL_COLUMNS)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which requests are meant; the same for the rows and for `total_count`."""

    range: TimeRange = TimeRange()
    model_id: str | None = None
    provider_id: str | None = None
    model_name: str | None = None
    status: str | None = None
    #: By dimension: further conditions.
    where: tuple[Filter, ...] = ()

    def given(self) -> dict[str, Any]:
        """Return the filters for `metadata.filters`: null where there is none."""
        return {
            "model_id": self.model_id,
            "provider_id": self.provider_id,
            "model_name": self.model_name,
            "status": self.status,
            "window": self.range.window,
            "start_date": self.range.start,
            "end_date": self.range.end,
            "dimensions": filters_given(self.where),
        }

    def key(self) -> str:
        """Return what tells these filters from all others."""
        given = self.given()
        del given["dimensions"]
        if self.where:  # without any, the key and so the cursors are those of earlier versions
            given["where"] = [each.definition() for each in self.where]
        return orjson.dumps(given).decode()


#: The columns by which requests can be sorted; by all but their time only where an index begins with it.
SORTABLE = ("created_at", "input_tokens", "output_tokens", "processing_time_ms", "cost_usd")


@dataclass(frozen=True, slots=True)
class Order:
    """By a column, then by the id in the same direction; rows without a value come last."""

    by: str = "created_at"
    descending: bool = True

    def __str__(self) -> str:
        return ("-" if self.descending else "") + self.by


NEWEST_FIRST = Order()


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: where the next one begins."""

    #: Of the column of the order, as Postgres writes and reads it, infinities too; None: it has none.
    value: str | None
    id: int | str | UUID
    #: When the first page was read: a window ends then on all pages.
    as_of: datetime


@dataclass(frozen=True, slots=True)
class RequestQuery:
    filters: Filters = Filters()
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    after: Position | None = None
    order: Order = NEWEST_FIRST


def parse_filters(
    range_: TimeRange, where: Sequence[Filter] = (), *, model_name: str | None = None
) -> Filters:
    """Read the filters; `InvalidParameter` names the one that is wrong. An empty model_name is none.

    One model, provider or status is a filter of its own, which indexes serve; and no filter in `where` means
    the unresolved requests.
    """
    unresolved = any(each.values == (None,) and each.dimension.is_id and not each.negated for each in where)
    singles = ("status",) if unresolved else ("status", "model_id", "provider_id")
    single: dict[str, str] = {"model_id": UNRESOLVED} if unresolved else {}
    rest: list[Filter] = []
    for filter_ in where:
        name, [value, *more] = filter_.dimension.name, filter_.values
        if filter_.dimension.is_id and None in filter_.values:
            if more:
                raise InvalidParameter(
                    filter_.parameter,
                    f"single requests of ids, or those that are {UNRESOLVED}: one answer has not both",
                )
        elif name in singles and value is not None and not more and not filter_.negated:
            single[name] = value
        else:
            rest.append(filter_)
    return Filters(
        range_,
        single.get("model_id"),
        single.get("provider_id"),
        parse_text("model_name", model_name) or None,
        single.get("status"),
        tuple(rest),
    )


def parse_order(text: str | None) -> Order:
    if text is None:
        return NEWEST_FIRST
    order = Order(text.removeprefix("-"), text.startswith("-"))
    if order.by not in SORTABLE:
        raise InvalidParameter(
            "order_by",
            f"requests have no order_by {text[:60]!r}; known: {', '.join(SORTABLE)}; with a minus sign in "
            "front the order is descending",
        )
    return order


def parse_text(parameter: str, value: str | None) -> str | None:
    if value is not None and ("\0" in value or len(value) > MAX_TEXT):
        raise InvalidParameter(
            parameter, f"{parameter} must be at most {MAX_TEXT} characters, none of them NUL"
        )
    return value


def parse_number(parameter: str, text: str | None, *, default: T, least: int, most: int) -> int | T:
    """Read a whole number; `InvalidParameter` says which ones are allowed."""
    if text is None:
        return default
    if re.fullmatch(r"[0-9]{1,25}", text) and least <= int(text) <= most:
        return int(text)
    raise InvalidParameter(
        parameter, f"{parameter} {text[:40]!r} is not a whole number from {least} to {most}"
    )


def encode_cursor(position: Position, filters: Filters, order: Order = NEWEST_FIRST) -> str:
    """Return the cursor for the page after `position`: opaque, and good for these filters and order alone."""
    of_uuid = isinstance(position.id, UUID)
    payload = orjson.dumps(
        [position.value, str(position.id) if of_uuid else position.id, of_uuid, position.as_of]
    )
    return _text_of(_checksum(payload, filters, order) + payload)


def parse_cursor(text: str, filters: Filters, order: Order = NEWEST_FIRST) -> Position:
    """Read a cursor; one that was changed, or belongs to other filters, is an `InvalidParameter`."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        checksum, payload = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
        if checksum != _checksum(payload, filters, order) or _text_of(raw) != text:
            raise ValueError
        return _position(*orjson.loads(payload))
    except (ValueError, TypeError, binascii.Error):
        raise wrong_cursor() from None


def wrong_cursor() -> InvalidParameter:
    return InvalidParameter(
        "cursor",
        "cursor must be the next_cursor of an answer, unchanged, with the filters and order of that answer",
    )


def _position(value: Any, id_: Any, of_uuid: Any, as_of: Any) -> Position:
    """Return the place that a cursor's content names: with the checksum known, it may be anything."""
    if value is not None and not re.fullmatch(r"[0-9A-Za-z:.+\-/ ]{1,400}", value):
        raise ValueError
    read_at = datetime.fromisoformat(as_of)
    if read_at.tzinfo is None or not 2000 <= read_at.year <= 9000:
        raise ValueError
    if of_uuid is True:
        return Position(value, UUID(id_), read_at)
    if type(id_) is str:  # not promised, yet gateways have such ids: `chatcmpl-123`
        return Position(value, id_, read_at)
    if type(id_) is not int or not -(2**63) <= id_ < 2**63:
        raise ValueError
    return Position(value, id_, read_at)


_CHECKSUM_BYTES = 9


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _checksum(payload: bytes, filters: Filters, order: Order) -> bytes:
    # Against mistakes, not against attacks: a forged cursor shows nothing that the filters would not.
    key = f"{filters.key()}{'' if order == NEWEST_FIRST else order}".encode()
    return hashlib.blake2b(payload + key, digest_size=_CHECKSUM_BYTES, person=b"chat-stats page").digest()


def check_start(cursor: str | None, offset: str | None) -> None:
    if cursor is not None and offset is not None:
        raise InvalidParameter("cursor", "give either cursor or offset, not both")
