"""
Where it is decided when a client's key is next changed.

While a machine runs, CLOCK_BOOTTIME alone decides, which counts sleep and never steps. After
another boot only the time of day is left: it may be wrong, so it can bring a change forward to
now, and put it off by no more than one longest interval.
"""

from typing import NamedTuple

DAY = 86_400.0
SPREAD = 0.2
"""An interval is so much shorter or longer, at random: nobody can tell a client by its rhythm."""

SHORTEST, USUAL, LONGEST = 1, 7, 30
"""Days between changes, where the control plane says nothing else."""

FIRST_RETRY, LONGEST_RETRY = 60.0, 3_600.0
"""Seconds until a change that failed is tried again: after the first failure, and at most."""


class Moment(NamedTuple):
    """A moment on both clocks."""

    wall: float
    """Seconds since 1970, as the time of day has it."""
    boottime: float
    """Seconds of CLOCK_BOOTTIME."""
    boot: str
    """Which boot that clock counts from."""


def within(days: int, *, shortest: int = SHORTEST, longest: int = LONGEST) -> int:
    """Return the number of days, or the nearest one that the control plane allows."""
    return max(min(days, longest), shortest)


def drawn(days: int, *, chance: float, now: Moment) -> Moment:
    """Return when the next change is due; `chance`, between 0 and 1, spreads it around so many days."""
    return _later(now, days * DAY * (1 + SPREAD * (2 * chance - 1)))


def remaining(due: Moment, days: int, *, now: Moment) -> float:
    """
    Return the seconds until the change is due, 0 if it is due now; never more than a longest interval.

    More than that can't be meant: the clock was set back, and for how long is unknown.
    """
    same_boot = bool(now.boot) and due.boot == now.boot
    left = due.boottime - now.boottime if same_boot else due.wall - now.wall
    return left if 0 < left <= days * DAY * (1 + SPREAD) else 0.0


def anchored(due: Moment, days: int, *, now: Moment) -> Moment:
    """Return when the change is due as this boot's clocks have it."""
    return _later(now, remaining(due, days, now=now))


def retry(failures: int, *, chance: float) -> float:
    """Return the seconds until another try after so many failures: 1 to 60 min, a fifth more or less."""
    doubled = FIRST_RETRY * 2.0 ** min(max(failures, 1) - 1, 32)
    return min(doubled, LONGEST_RETRY) * (1 + SPREAD * (2 * chance - 1))


def _later(now: Moment, seconds: float) -> Moment:
    return Moment(now.wall + seconds, now.boottime + seconds, now.boot)
