"""Parameters of `/chat-requests`, and how a cursor is bound to them."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import parse_filters as parse_dimension_filters
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.errors import InvalidParameter, NotAcceptable
from chat_stats.service.explorer.columns import Columns
from chat_stats.service.explorer.exports import choose_format
from chat_stats.service.explorer.query import (
    FLAT_FIELDS,
    NESTED,
    REQUEST_COLUMNS,
    Filters,
    Order,
    Position,
    encode_cursor,
    parse_cursor,
    parse_filters,
    parse_number,
)

KNOWN = known_dimensions("user_id")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILTERS = Filters(TimeRange("24h"), model_name="gpt", status="failed")
UUID_7 = UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")

POSITIONS = [
    Position("2026-03-01T12:00:00.123456+00:00", 7, NOON),
    Position("2026-03-01T12:00:00+00:00", UUID_7, NOON),
    Position("2026-03-01T12:00:00+00:00", "chatcmpl-ä7", NOON),
    Position("infinity", 2**63 - 1, NOON),
    Position("-infinity", 0, NOON),
    Position(None, 7, NOON),
]


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_a_cursor_decodes_to_the_place_it_was_made_from(position: Position) -> None:
    assert parse_cursor(encode_cursor(position, FILTERS), FILTERS) == position


@pytest.mark.parametrize(
    "others",
    [
        Filters(),
        Filters(TimeRange("7d"), model_name="gpt", status="failed"),
        Filters(TimeRange("24h"), model_name="gpt"),
        Filters(TimeRange("24h"), model_name="gpt", status="failed", model_id="7"),
        Filters(TimeRange("24h"), model_name="gpt", status="failed", provider_id="7"),
        Filters(TimeRange(None, NOON), model_name="gpt", status="failed"),
    ],
    ids=str,
)
def test_a_cursor_of_other_filters_is_refused(others: Filters) -> None:
    cursor = encode_cursor(POSITIONS[0], FILTERS)
    with pytest.raises(InvalidParameter) as raised:
        parse_cursor(cursor, others)
    assert raised.value.parameter == "cursor"


@given(st.data())
def test_a_cursor_in_which_any_character_was_changed_is_refused(data: st.DataObject) -> None:
    cursor = encode_cursor(data.draw(st.sampled_from(POSITIONS)), FILTERS)
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters().filter(lambda character: character != cursor[place]))
    with pytest.raises(InvalidParameter):
        parse_cursor(cursor[:place] + other + cursor[place + 1 :], FILTERS)


@given(st.text())
def test_any_other_text_is_not_a_cursor(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_cursor(text, FILTERS)


COLUMNS = Columns({"tag": 'r."tag"', "gone": "NULL::text"}, ["tag"], {})


def test_fields_are_those_of_the_format_when_none_are_chosen() -> None:
    assert COLUMNS.parse_fields(None, nested=True) == (*REQUEST_COLUMNS, "tag", NESTED)
    assert COLUMNS.parse_fields(None, nested=False) == (*FLAT_FIELDS, "tag")
    assert COLUMNS.parse_fields("status, id,status", nested=False) == ("status", "id")
    assert COLUMNS.parse_fields("gone,tag", nested=False) == ("gone", "tag")


@pytest.mark.parametrize(
    ("fields", "nested"), [("", True), ("id,", True), ("password", True), ("models", False)]
)
def test_an_unknown_field_is_named_with_the_known_ones(fields: str, nested: bool) -> None:
    with pytest.raises(InvalidParameter, match="known: id, request_id,") as raised:
        COLUMNS.parse_fields(fields, nested=nested)
    assert raised.value.parameter == "fields"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "100001", "", "ten", "9" * 40, "१"])
def test_a_limit_out_of_range_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidParameter, match="from 1 to 100000") as raised:
        parse_number("limit", text, default=100, least=1, most=100_000)
    assert raised.value.parameter == "limit"


@pytest.mark.parametrize("text", ["a\0b", "x" * 501])
def test_text_that_no_column_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_filters(TimeRange(), model_name=text)
    assert raised.value.parameter == "model_name"
    with pytest.raises(InvalidParameter) as raised:
        filters("status", text)
    assert raised.value.parameter == "status"


def filters(*items: str) -> Filters:
    pairs = zip(items[::2], items[1::2], strict=True)
    return parse_filters(TimeRange(), parse_dimension_filters(pairs, KNOWN))


def test_each_filter_and_each_order_has_cursors_of_its_own() -> None:
    of = [
        Filters(),
        filters("user_id", "u1"),
        filters("user_id", "u2"),
        filters("user_id!", "u1"),
        filters("status", "a", "status", "b"),
        filters("model_id", "1", "model_id", "2"),
    ]
    keys = {
        (each.key(), str(order))
        for each in of
        for order in (Order(), Order("cost_usd"), Order("cost_usd", False))
    }
    assert len(keys) == 18
    cursor = encode_cursor(POSITIONS[0], of[1], Order("cost_usd"))
    assert parse_cursor(cursor, of[1], Order("cost_usd")) == POSITIONS[0]
    for other, order in ((of[2], Order("cost_usd")), (of[1], Order()), (of[1], Order("cost_usd", False))):
        with pytest.raises(InvalidParameter):
            parse_cursor(cursor, other, order)


def test_one_value_is_a_filter_of_its_own_and_what_is_unresolved_excludes_ids() -> None:
    found = filters("model_id", "1", "status", "failed", "provider_id", "2", "user_id", "u")
    assert (found.model_id, found.status, found.provider_id) == ("1", "failed", "2")
    assert [each.parameter for each in found.where] == ["user_id"]
    assert filters("provider_id", "unresolved").model_id == "unresolved"
    assert filters("not_model_id", "unresolved") == Filters()
    both = filters("provider_id", "unresolved", "model_id", "1")
    assert (both.model_id, [each.values for each in both.where]) == ("unresolved", [("1",)])
    with pytest.raises(InvalidParameter, match="has not both"):
        filters("model_id", "unresolved", "model_id", "1")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
        ("text/csv", "csv"),
        ("text/*", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("application/json;q=0.5, text/csv;q=0.9", "csv"),
        ("application/json;q=0.5, text/csv;q=0.4", "json"),
        ("application/json;q=0, */*", "csv"),
        ("application/x-ndjson", "ndjson"),
        ("application/vnd.apache.parquet, text/csv;q=0.1", "parquet"),
    ],
)
def test_accept_chooses_the_format(accept: str | None, chosen: str) -> None:
    assert choose_format(None, accept).name == chosen


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "text/csv;q=2", "nonsense"])
def test_an_accept_that_allows_no_format_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, text/csv"):
        choose_format(None, accept)


def test_the_parameter_overrides_accept() -> None:
    assert choose_format("csv", "application/json").name == "csv"
    with pytest.raises(InvalidParameter, match="known: json, csv, ndjson, parquet") as raised:
        choose_format("xml", None)
    assert raised.value.parameter == "format"
