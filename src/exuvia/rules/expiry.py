"""
What ends by itself: accounts by day, resting addresses by hour, the change log by age.

Days and hours are the wall clock's, which may be wrong. When it steps by more than an hour,
nothing ends until it is right again: a wrong clock must not log everybody out.
"""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from exuvia.messages import AccountState
from exuvia.rules.allocation import REST_HOURS

LARGEST_STEP = 3600.0
"""Seconds by which the wall clock may step unnoticed."""
LONGEST_ABSENCE_HOURS = 30 * 24
"""A server that was off for longer than this rather has a wrong clock."""


def is_over(expires: str | None, today: str) -> bool:
    """Return whether an account's last day has passed; days are YYYY-MM-DD in UTC."""
    return expires is not None and expires < today


def account_state(stored: AccountState, expires: str | None, today: str) -> AccountState:
    """Return what an account is today."""
    return "expired" if stored == "active" and is_over(expires, today) else stored


def last_day(text: str, today: str) -> str | None:
    """Return the day as YYYY-MM-DD, or None if it is no day to come."""
    try:
        day = date.fromisoformat(text).isoformat()
    except ValueError:
        return None
    return day if day == text and day >= today else None


def extended(expires: str, days: int, today: str) -> str | None:
    """Return the last day after so many more, counted from today if it is over; None beyond the calendar."""
    try:
        return (date.fromisoformat(max(expires, today)) + timedelta(days=days)).isoformat()
    except OverflowError:
        return None


def rested_before(hour: int) -> int:
    """Return the hour up to which addresses have rested for long enough."""
    return hour - REST_HOURS - 1


@dataclass(frozen=True, slots=True)
class Clock:
    """
    The wall clock as far as it can be believed.

    `wall` (seconds since 1970) was believed at `boottime` (seconds since boot). While the
    wall clock is elsewhere, `paused` is true and believed time goes on by CLOCK_BOOTTIME.
    """

    wall: float
    boottime: float
    paused: bool = False
    ahead: float = LARGEST_STEP
    """Seconds by which the wall clock may be ahead of believed time and still be right."""

    def day(self) -> str:
        """Return the believed day, as YYYY-MM-DD in UTC."""
        return datetime.fromtimestamp(self.wall, UTC).date().isoformat()

    def hour(self) -> int:
        """Return the believed hour, counted since 1970."""
        return int(self.wall // 3600)


def first_look(*, wall: float, boottime: float, latest_hour: int, trusted: bool) -> Clock:
    """
    Return what to believe at start, given the latest hour that was believed before.

    An earlier time, or one over a month later, pauses expiry, unless the operator vouches
    for the clock.
    """
    ahead = int(wall // 3600) - latest_hour
    if trusted or not latest_hour or -1 <= ahead <= LONGEST_ABSENCE_HOURS:
        return Clock(wall, boottime)
    return Clock(latest_hour * 3600.0, boottime, paused=True, ahead=LONGEST_ABSENCE_HOURS * 3600.0)


def look(clock: Clock, *, wall: float, boottime: float) -> Clock:
    """Return what to believe now, after an earlier look."""
    expected = clock.wall + (boottime - clock.boottime)
    if -LARGEST_STEP <= wall - expected <= clock.ahead:
        return Clock(wall, boottime)
    return Clock(expected, boottime, paused=True, ahead=clock.ahead)


class ChangeAges:
    """
    When changes become old enough to be erased, without a time stored beside any of them.

    Every tick notes the revision reached; whatever it covers was made after the tick before.
    """

    def __init__(self, *, erase_after: float, now: float) -> None:
        self._erase_after = erase_after
        self._ticks: deque[tuple[float, int]] = deque()
        self._before = now
        self.interval = min(60.0, erase_after / 3)
        """Seconds from one tick to the next."""

    def tick(self, revision: int, *, now: float) -> int:
        """Return the revision up to which changes are to be erased at this tick."""
        self._ticks.append((self._before, revision))
        self._before = now
        erased = 0
        # What would be too old at the next tick goes now: nothing outlives erase_after.
        while self._ticks and now + 1.25 * self.interval - self._ticks[0][0] >= self._erase_after:
            erased = self._ticks.popleft()[1]
        return erased
