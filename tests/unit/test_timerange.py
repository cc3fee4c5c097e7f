"""Windows and dates as clients write them."""

from datetime import UTC, datetime, timedelta

import pytest

from chat_stats.service.catalogue.timerange import TimeRange, parse_time_range
from chat_stats.service.errors import InvalidParameter

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_without_any_parameter_the_range_is_all_time() -> None:
    assert parse_time_range(None, None, None).bounds(NOW) == (None, None)


def test_a_window_ends_now() -> None:
    assert parse_time_range("24h", None, None).bounds(NOW) == (NOW - timedelta(hours=24), NOW)


def test_an_end_date_alone_includes_that_day() -> None:
    start, end = parse_time_range(None, "2026-01-01", "2026-01-31").bounds(NOW)
    assert (start, end) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


def test_an_end_with_a_time_of_day_is_exclusive_at_that_time() -> None:
    _, end = parse_time_range(None, None, "2026-01-31T00:00:00").bounds(NOW)
    assert end == datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T14:00:00+02:00",
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00",
        "2026-01-31T14:00:00 02:00",  # an unescaped + in a query string
    ],
)
def test_an_offset_is_honoured_and_none_means_utc(text: str) -> None:
    assert parse_time_range(None, text, None).start == datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_microseconds_are_kept() -> None:
    start = parse_time_range(None, "2026-01-31T12:00:00.123456Z", None).start
    assert start == datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "1e9",
        "0001-01-01T00:00:00+14:00",
        "2026-W05",
        "2026-01-01x12:00",
    ],
)
def test_an_unparsable_or_impossible_date_is_named(text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_time_range(None, None, text)
    assert caught.value.parameter == "end_date"


def test_a_reversed_range_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="is after") as caught:
        parse_time_range(None, "2026-02-01", "2026-01-01")
    assert caught.value.parameter == "start_date"


def test_a_range_that_ends_on_the_day_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="is after"):
        parse_time_range(None, "2026-01-02", "2026-01-01")


def test_the_last_day_of_the_calendar_is_a_valid_end() -> None:
    _, end = parse_time_range(None, None, "9999-12-31").bounds(NOW)
    assert end == datetime.max.replace(tzinfo=UTC)


def test_the_same_day_as_start_and_end_is_that_whole_day() -> None:
    start, end = parse_time_range(None, "2026-01-01", "2026-01-01").bounds(NOW)
    assert start is not None
    assert end == start + timedelta(days=1)


def test_a_window_and_a_date_together_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="not both"):
        parse_time_range("24h", "2026-01-01", None)


def test_an_unknown_window_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidParameter, match="known: 1h, 24h, 7d, 30d, 90d, 180d, 365d, all"):
        parse_time_range("1y", None, None)


def test_the_same_moment_in_two_time_zones_has_one_cache_key() -> None:
    keys = {
        parse_time_range(None, "2026-01-31T12:00:00Z", None).key(),
        parse_time_range(None, "2026-01-31T14:00:00+02:00", None).key(),
    }
    assert keys == {"20260131T120000.000000Z.."}


def test_ranges_that_differ_by_a_microsecond_have_different_keys() -> None:
    one = TimeRange(None, datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
    other = TimeRange(None, datetime(2026, 1, 1, 0, 0, 0, 2, tzinfo=UTC))
    assert one.key() != other.key()
