"""What a time series is asked for: its intervals, what they are grouped by, and in which time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import available_timezones

from chat_stats.service.catalogue.dimensions import NO_DIMENSIONS, Dimension, Dimensions
from chat_stats.service.errors import InvalidParameter

#: Mean length of each interval; those from a day up follow the calendar of the time zone.
BUCKETS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
    "1mo": timedelta(days=30.436875),
}
GROUPINGS = ("none", "provider", "model")
#: These dimensions have shorter names here.
_SHORT_NAMES = {"provider_id": "provider", "model_id": "model"}

#: Limits of one answer; a point is one bucket of one group.
MAX_BUCKETS = 5_000
MAX_POINTS = 20_000

#: Well within what Python and Postgres can both express in every time zone.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Series:
    """How a time series is cut."""

    bucket: str = "1d"
    group_by: str = "none"
    timezone: str = "UTC"
    #: What it is grouped by, where that is neither provider nor model.
    dimension: Dimension | None = None

    def key(self) -> str:
        """Return the series' part of a cache key."""
        key = f"{self.bucket}:{self.group_by}:{self.timezone}"
        return key if self.dimension is None else f"{key}:{self.dimension.digest()}"


DEFAULT_SERIES = Series()


def parse_series(
    bucket: str | None, group_by: str | None, timezone: str | None, known: Dimensions = NO_DIMENSIONS
) -> Series:
    """Read the three query parameters; `InvalidParameter` names the one that is wrong."""
    default = DEFAULT_SERIES
    if group_by is not None:
        group_by = _SHORT_NAMES.get(_one_of("group_by", group_by, groupings(known)), group_by)
    return Series(
        default.bucket if bucket is None else _one_of("bucket", bucket, tuple(BUCKETS)),
        default.group_by if group_by is None else group_by,
        default.timezone if timezone is None else _parse_timezone(timezone),
        None if group_by is None else known.get(group_by),
    )


def groupings(known: Dimensions) -> tuple[str, ...]:
    """Return what series can be grouped by."""
    return tuple(dict.fromkeys((*GROUPINGS, *known)))


def check_bounds(series: Series, start: datetime, end: datetime) -> None:
    """Raise `InvalidParameter` when `start` or `end` is absurd, or too many buckets lie between them."""
    if start < EARLIEST:
        raise InvalidParameter(
            "start_date", f"a time series begins in {EARLIEST.year} at the earliest; give a later start_date"
        )
    if end > LATEST:
        raise InvalidParameter(
            "end_date", f"a time series ends before {LATEST.year}; give an earlier end_date"
        )
    buckets = -((start - end) // BUCKETS[series.bucket])
    if buckets > MAX_BUCKETS:
        raise InvalidParameter(
            "bucket",
            f"{buckets:,} buckets of {series.bucket} from {start:%Y-%m-%d} to {end:%Y-%m-%d} are too many: "
            f"the limit is {MAX_BUCKETS:,}; ask for longer buckets or for a shorter range",
        )


def too_many_points(series: Series) -> InvalidParameter:
    """Return the error for an answer of more than `MAX_POINTS` points."""
    return InvalidParameter(
        "bucket",
        f"buckets of {series.bucket} for each {series.group_by} are too many points: the limit is "
        f"{MAX_POINTS:,}; ask for longer buckets, a shorter range, or group_by=none",
    )


def unknown_timezone(name: str) -> InvalidParameter:
    return InvalidParameter(
        "timezone",
        f"unknown timezone {name[:60]!r}; known: UTC, and the names of the IANA time zone database, "
        "such as Europe/Berlin or America/New_York",
    )


def _one_of(parameter: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InvalidParameter(parameter, f"unknown {parameter} {value[:40]!r}; known: {', '.join(known)}")
    return value


def _parse_timezone(name: str) -> str:
    # In a query string a plus sign that was not escaped arrives as a space (Etc/GMT+5).
    name = name.replace(" ", "+")
    if name not in _timezones():
        raise unknown_timezone(name)
    return name


@cache
def _timezones() -> frozenset[str]:
    """Return the names of all time zones, of the system and of the package tzdata.

    Only names: the offsets of a zone come from Postgres alone. Names such as CET or EST are left out, since
    Postgres takes them for abbreviations with one offset all year.
    """
    return frozenset(name for name in available_timezones() if "/" in name) | {"UTC"}
