"""The database's clock as a process knows it, and which of two answers is newer by it."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from chat_stats.service.database.clock import CLOCK_SKEW_SECONDS, Clock

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def reading(clock: Clock, moment: datetime, *, took: float = 0.0) -> Clock:
    """Let the clock read `moment` from the database, with a reply after `took` seconds."""
    answered_at = time.monotonic()
    clock.read(moment, asked_at=answered_at - took, answered_at=answered_at)
    return clock


def off(clock: Clock, moment: datetime) -> float:
    """Return the seconds by which the clock is ahead of a database whose time is `moment`."""
    return -clock.seconds_since(moment)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


def test_before_the_first_reading_it_is_the_clock_of_this_machine(now: datetime) -> None:
    assert abs(Clock().seconds_since(now)) < 1


@pytest.mark.parametrize("offset", [-HOUR, HOUR])
def test_it_uses_the_clock_of_the_database_and_not_of_this_machine(now: datetime, offset: timedelta) -> None:
    clock = reading(Clock(), now + offset)
    assert 0 <= clock.seconds_since(now + offset) < 1
    assert abs((clock.now() - now - offset).total_seconds()) < 1


def test_an_age_is_never_stated_too_low_for_a_slow_reply(now: datetime) -> None:
    """The database may have read its clock at once, and the reply may have taken long."""
    assert reading(Clock(), now, took=3).seconds_since(now) >= 3


def test_a_slow_reply_does_not_replace_an_exact_reading(now: datetime) -> None:
    clock = reading(Clock(), now)
    reading(clock, now - 2 * SECOND, took=3)
    assert abs(clock.seconds_since(now)) < 0.5


@pytest.mark.parametrize("step", [-HOUR, -SECOND, SECOND, HOUR])
def test_it_follows_when_the_database_s_clock_is_set(now: datetime, step: timedelta) -> None:
    clock = reading(reading(Clock(), now), now + step)
    assert 0 <= clock.seconds_since(now + step) < 0.5


def test_of_two_moments_the_later_is_the_newer(now: datetime) -> None:
    clock = Clock()
    assert clock.is_newer(now, now - SECOND)
    assert not clock.is_newer(now - SECOND, now)
    assert not clock.is_newer(now, now)


def test_a_moment_in_the_future_is_older_than_all_others(now: datetime) -> None:
    clock = Clock()
    assert clock.is_newer(now - 24 * HOUR, now + HOUR)
    assert not clock.is_newer(now + HOUR, now - 24 * HOUR)


def test_of_two_moments_in_the_future_the_later_is_the_newer(now: datetime) -> None:
    """This process never reached the database, and its own clock is behind."""
    clock = Clock()
    assert clock.is_newer(now + 2 * HOUR, now + HOUR)
    assert not clock.is_newer(now + HOUR, now + 2 * HOUR)


def test_a_few_seconds_ahead_are_not_the_future(now: datetime) -> None:
    assert Clock().is_newer(now + timedelta(seconds=CLOCK_SKEW_SECONDS - 1), now)


def test_a_moment_may_be_in_the_future_by_our_clock_but_not_by_the_database_s(now: datetime) -> None:
    clock = reading(Clock(), now + HOUR)
    assert clock.is_newer(now + HOUR, now)
