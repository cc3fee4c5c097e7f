"""Time ranges: the preset windows, and `start_date`/`end_date`."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from chat_stats.service.errors import InvalidParameter

ALL = "all"

#: Length of each preset window; None: no bounds at all.
WINDOWS: dict[str, timedelta | None] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "180d": timedelta(days=180),
    "365d": timedelta(days=365),
    ALL: None,
}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A preset window, or explicit bounds: half open, `start <= created_at < end`, both in UTC."""

    window: str | None = ALL
    start: datetime | None = None
    end: datetime | None = None

    def bounds(self, now: datetime) -> tuple[datetime | None, datetime | None]:
        """Return (start, end) as of `now`; None means unbounded."""
        if self.window is None:
            return self.start, self.end
        length = WINDOWS[self.window]
        return (None, None) if length is None else (now - length, now)

    def key(self) -> str:
        """Return the range's part of a cache key."""
        if self.window is not None:
            return self.window
        return f"{_compact(self.start)}..{_compact(self.end)}"


_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)


@lru_cache(maxsize=1024)
def _compact(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y%m%dT%H%M%S.%fZ")


def parse_time_range(window: str | None, start_date: str | None, end_date: str | None) -> TimeRange:
    """Read the three query parameters; `InvalidParameter` names the one that is wrong."""
    if start_date is None and end_date is None:
        return TimeRange(parse_window(ALL if window is None else window))
    if window is not None:
        raise InvalidParameter("window", "give either window, or start_date and/or end_date, not both")
    start = None if start_date is None else parse_moment("start_date", start_date)
    end = None if end_date is None else parse_moment("end_date", end_date)
    whole_day = end_date is not None and _is_date(end_date)
    if end is not None and whole_day:
        end = end + timedelta(days=1) if end < _LAST_DAY else datetime.max.replace(tzinfo=UTC)
    if start is not None and end is not None and (start > end or (start == end and whole_day)):
        raise InvalidParameter("start_date", f"start_date {start_date!r} is after end_date {end_date!r}")
    return TimeRange(None, start, end)


def parse_window(window: str) -> str:
    if window not in WINDOWS:
        raise InvalidParameter("window", f"unknown window {window[:40]!r}; known: {', '.join(WINDOWS)}")
    return window


def parse_moment(parameter: str, text: str) -> datetime:
    """Read an ISO 8601 date (its midnight) or datetime; without an offset it means UTC."""
    # In a query string a plus sign that was not escaped arrives as a space.
    text = re.sub(r" (\d\d:?\d\d)$", r"+\1", text) if "T" in text else text
    try:
        if _is_date(text):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        if not re.match(r"\d{4}-?\d\d-?\d\d[Tt ]\d", text):
            raise ValueError
        moment = datetime.fromisoformat(re.sub("z$", "Z", text))  # RFC 3339 has either
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidParameter(
            parameter,
            f"{parameter} {text[:40]!r} is not an ISO 8601 date or datetime between years 1 and 9999, "
            "such as 2026-01-31 or 2026-01-31T12:00:00Z",
        ) from None


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return "W" not in text  # a week of the ISO calendar is no moment


_AGE = re.compile(r"([1-9][0-9]{0,4})(h|d|w)")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def parse_age(name: str, text: str) -> timedelta:
    """Return an age like `90d`; raise `InvalidParameter` for what is none."""
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidParameter(name, f"{text!r} is no age; write hours, days or weeks like 36h, 90d or 13w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
