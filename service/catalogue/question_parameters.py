"""Reads questions from query strings: of requests, and of the setting that names those to keep computed."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Literal
from urllib.parse import parse_qsl

import orjson

from chat_stats.service.catalogue.aggregation import Query, parse_id
from chat_stats.service.catalogue.dimensions import Dimension, Dimensions, parse_dimension
from chat_stats.service.catalogue.figures import DEFAULT_FIGURES, FIGURES
from chat_stats.service.catalogue.questions import (
    DEFAULT_LIMIT,
    MAX_GROUPS,
    MAX_LIMIT,
    PREVIOUS,
    Filter,
    Order,
    Question,
)
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.scopes import Scope, within
from chat_stats.service.catalogue.timerange import TimeRange, parse_moment, parse_time_range
from chat_stats.service.catalogue.timeseries import parse_series
from chat_stats.service.errors import InvalidParameter

#: NULL as the value of a filter. A value that is this text has a backslash in front.
NULL = "__null__"

#: Longest value of a filter, and most values of one.
MAX_TEXT = 500
MAX_VALUES = 100

TIME_PARAMETERS = ("window", "start_date", "end_date")
PARAMETERS = (
    *TIME_PARAMETERS,
    *("measures", "group_by", "bucket", "timezone", "order_by", "limit", "cursor", "compare", "format"),
)
VALUE_PARAMETERS = (*TIME_PARAMETERS, "name", "prefix", "limit")

#: What a filter's name begins with to mean other values: for clients to whose languages `status!` is no name.
NOT = "not_"

#: Clients add it with a new value to each request, so that no cache answers. It means nothing.
CACHE_BUSTER = "_"

Items = Iterable[tuple[str, str]]
#: Filters by dimension, and whether they are negated: as they were named, with their values.
_Chosen = dict[tuple[Dimension, bool], list[tuple[str, str]]]


def parse_question(items: Items, known: Dimensions, scope: Scope = ()) -> Query:
    """Read a question within a scope.

    `InvalidParameter` names the parameter that is wrong, and lists what is known.
    """
    given, chosen = _sorted_out(items, PARAMETERS, known)
    range_ = parse_time_range(*(given.get(name) for name in TIME_PARAMETERS))
    group_by = _group_by(given.get("group_by"), known)
    series = parse_series(given.get("bucket"), None, given.get("timezone"))
    if "timezone" in given and "bucket" not in given:
        raise InvalidParameter("timezone", "timezone is that of the buckets: give bucket, too")
    question = Question(
        figures=_figures(given.get("measures")),
        group_by=group_by,
        filters=within(tuple(_filters(chosen)), scope),
        bucket=series.bucket if "bucket" in given else None,
        timezone=series.timezone,
        order=_order(given.get("order_by"), group_by, known),
        limit=_limit(given.get("limit")),
        compare=_compare(given.get("compare"), range_),
    )
    if (cursor := given.get("cursor")) is not None:
        question = _next_page(cursor, question, range_)
    return Query(question.endpoint, range_, question=question)


def parse_values(items: Items, known: Dimensions, scope: Scope = ()) -> Query:
    """Read which values of a dimension are asked for; without a name, the dimensions themselves."""
    given, _ = _sorted_out(items, VALUE_PARAMETERS, {})
    if "name" not in given:
        if given:
            first = next(iter(given))
            raise InvalidParameter(first, f"{first} is about one dimension: give its name, too")
        listed = Question(filters=scope, endpoint="dimensions", listed=tuple(known.values()))
        return Query("dimensions", question=listed)
    range_ = parse_time_range(*(given.get(name) for name in TIME_PARAMETERS))
    dimension = parse_dimension("name", given["name"], known)
    question = Question(
        figures=("total_requests",),
        group_by=(dimension,),
        filters=scope,
        limit=_limit(given.get("limit")),
        prefix=_text("prefix", given.get("prefix", "")) or None,
        endpoint="dimensions",
    )
    return Query(question.endpoint, range_, question=question)


def parse_filters(items: Items, known: Dimensions) -> tuple[Filter, ...]:
    """Read the filters by dimension, among parameters of any other name."""
    chosen: _Chosen = {}
    for name, value in items:
        _add(chosen, name, value, known)
    return tuple(_filters(chosen))


def filter_names(known: Dimensions) -> tuple[str, ...]:
    return (*known, *(f"{NOT}{each}" for each in known))


def filtered_by(name: str, known: Dimensions) -> Dimension | None:
    """Return the dimension by which a parameter of this name filters."""
    return known.get(name.removesuffix("!").removeprefix(NOT))


def parse_kept(text: str, known: Dimensions) -> tuple[Query, ...]:
    """Read the questions that the worker keeps computed; ValueError says which one is wrong."""
    queries: dict[Query, None] = {}
    for part in re.split(r"[\s;]+", text):
        items = parse_qsl(part.removeprefix("?"), keep_blank_values=True)
        if not items:
            continue
        if unfit := {"format", "cursor"} & {name for name, _ in items}:
            raise ValueError(f"{part[:80]!r}: {', '.join(sorted(unfit))} is no part of a question to keep")
        try:
            queries[parse_question(items, known)] = None
        except InvalidParameter as error:
            raise ValueError(f"{part[:80]!r}: {error}") from None
    return tuple(queries)


def _sorted_out(items: Items, parameters: Sequence[str], known: Dimensions) -> tuple[dict[str, str], _Chosen]:
    """Return the parameters, each given once, and the filters."""
    given: dict[str, str] = {}
    chosen: _Chosen = {}
    for name, value in items:
        if name == CACHE_BUSTER:
            continue
        if _add(chosen, name, value, known):
            continue
        if name not in parameters:
            all_known = ", ".join((*parameters, *filter_names(known)))
            raise InvalidParameter(name[:40], f"unknown parameter {name[:40]!r}; known: {all_known}")
        if name in given:
            raise InvalidParameter(name, f"give {name} once: there can be only one")
        given[name] = value
    return given, chosen


def _add(chosen: _Chosen, name: str, value: str, known: Dimensions) -> bool:
    """Add a filter, if the parameter is one."""
    dimension = filtered_by(name, known)
    if dimension is None:
        return False
    chosen.setdefault((dimension, name != dimension.name), []).append((name, value))
    return True


def _figures(text: str | None) -> tuple[str, ...]:
    if text is None:
        return DEFAULT_FIGURES
    names = {name.strip() for name in text.split(",")}
    for name in sorted(names):
        if name not in FIGURES:
            raise InvalidParameter(
                "measures", f"measures: unknown measure {name[:40]!r}; known: {', '.join(FIGURES)}"
            )
    return tuple(name for name in FIGURES if name in names)


def _group_by(text: str | None, known: Dimensions) -> tuple[Dimension, ...]:
    if text is None or text == "":
        return ()
    names = [name.strip() for name in text.split(",")]
    dimensions = tuple(parse_dimension("group_by", name, known) for name in names)
    if len(set(names)) < len(names):
        raise InvalidParameter("group_by", "group_by has a dimension twice")
    if len(names) > MAX_GROUPS:
        raise InvalidParameter("group_by", f"group_by has {len(names)} dimensions: the limit is {MAX_GROUPS}")
    return dimensions


def _order(text: str | None, group_by: Sequence[Dimension], known: Dimensions) -> Order:
    if text is None:
        return Order()
    by = text.removeprefix("-")
    grouped = [each.name for each in group_by]
    if by not in FIGURES and by not in grouped:
        what = "dimension that is not in group_by" if by in known else "measure or dimension"
        raise InvalidParameter(
            "order_by",
            f"order_by: unknown {what} {by[:40]!r}; known, with - for descending: "
            f"{', '.join((*FIGURES, *grouped))}",
        )
    return Order(by, text.startswith("-"))


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if re.fullmatch(r"[0-9]{1,9}", text) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise InvalidParameter("limit", f"limit {text[:40]!r} is not a whole number from 1 to {MAX_LIMIT}")


def _compare(text: str | None, range_: TimeRange) -> Literal["previous"] | datetime | None:
    if text is None:
        return None
    if range_.start is None and range_.window in (None, "all"):
        raise InvalidParameter("compare", "compare needs a range with a start: give window or start_date")
    if text == PREVIOUS:
        return "previous"
    try:
        return parse_moment("compare", text)
    except InvalidParameter as error:
        raise InvalidParameter("compare", f"{error}; or compare=previous") from None


def _filters(chosen: _Chosen) -> Iterator[Filter]:
    for (dimension, negated), given in sorted(chosen.items(), key=lambda item: (item[0][0].name, item[0][1])):
        if len(given) > MAX_VALUES:
            raise InvalidParameter(
                given[0][0], f"{len(given)} values are too many: the limit is {MAX_VALUES}"
            )
        values = {_value(name, text, dimension) for name, text in given}
        yield Filter(dimension, tuple(sorted(values, key=lambda value: (value is None, value))), negated)


def _value(parameter: str, text: str, dimension: Dimension) -> str | None:
    if dimension.is_id:
        try:
            return None if text == UNRESOLVED else parse_id(parameter, text)
        except InvalidParameter as error:
            raise InvalidParameter(parameter, f"{error}; or {UNRESOLVED}") from None
    if text == NULL:
        return None
    return _text(parameter, text[1:] if re.fullmatch(rf"\\+{NULL}", text) else text)


def _text(parameter: str, text: str) -> str:
    if "\0" in text or len(text) > MAX_TEXT:
        raise InvalidParameter(
            parameter, f"{parameter} must be at most {MAX_TEXT} characters, none of them NUL"
        )
    return text


def filters_given(filters: Iterable[Filter]) -> dict[str, list[str]]:
    """Return the filters as a request would give them, for the metadata."""
    return {each.parameter: [_written(value, each.dimension) for value in each.values] for each in filters}


def _written(value: str | None, dimension: Dimension) -> str:
    if value is None:
        return UNRESOLVED if dimension.is_id else NULL
    return f"\\{value}" if re.fullmatch(rf"\\*{NULL}", value) else value


def next_cursor(question: Question, range_: TimeRange, as_of: datetime) -> str:
    """Return the cursor for the groups after this page: opaque, and good for this question alone.

    `as_of`: when a window ended on this page; it does so on all pages.
    """
    payload = orjson.dumps([question.offset + question.limit, as_of], option=orjson.OPT_UTC_Z)
    return base64.urlsafe_b64encode(_checksum(payload, question, range_) + payload).rstrip(b"=").decode()


def _next_page(text: str, question: Question, range_: TimeRange) -> Question:
    """Return the question for the page that a cursor stands for."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        checksum, payload = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
        if checksum != _checksum(payload, question, range_):
            raise ValueError
        offset, as_of = orjson.loads(payload)
        moment = datetime.fromisoformat(as_of)
        # With the checksum known, it may be anything.
        if type(offset) is not int or not 0 < offset < 2**53:
            raise ValueError
        if moment.tzinfo is None or not 2000 <= moment.year <= 9000:
            raise ValueError
    except (ValueError, TypeError, binascii.Error):
        raise InvalidParameter(
            "cursor",
            "cursor must be the next_cursor of an answer, unchanged, with the parameters of that answer",
        ) from None
    return replace(question, offset=offset, as_of=moment)


_CHECKSUM_BYTES = 9


def _checksum(payload: bytes, question: Question, range_: TimeRange) -> bytes:
    # Against mistakes, not against attacks: a forged cursor shows nothing that the question would not.
    key = f"{question.digest(of_pages=True)}:{range_.key()}".encode()
    return blake2b(payload + key, digest_size=_CHECKSUM_BYTES, person=b"chat-stats query").digest()
