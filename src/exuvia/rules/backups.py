"""How long a backup is good for, and under which name it replaces an earlier one."""

from typing import Literal, NamedTuple

KEEP_DAYS = 7
"""T_backup: days for which a backup is kept, unless the operator says otherwise."""

_DAY = 24
_UNTIL_NEXT = _DAY + 2
"""Hours that may pass until the next daily backup, which is the next chance to remove anything."""


class Term(NamedTuple):
    """When a backup was made, and from when on it is not to be used; hours since 1970."""

    made: int
    until: int


Standing = Literal["good", "over", "ahead"]


def term(*, hour: int, keep_days: int) -> Term:
    """Return the term of a backup that is made in this hour."""
    return Term(hour, hour + keep_days * _DAY)


def standing(term: Term, *, hour: int) -> Standing:
    """Return whether a backup may be used: it is over, or made ahead of this hour by a wrong clock."""
    if term.made > hour + 1:
        return "ahead"
    return "over" if hour >= term.until else "good"


def is_to_go(term: Term, *, hour: int, keep_days: int) -> bool:
    """
    Return whether a backup has to be removed now, because it would be too old before the next one is made.

    One from the future is left alone: with a wrong clock nobody knows how old it is.
    """
    last = min(term.until, term.made + keep_days * _DAY)
    return standing(term, hour=hour) != "ahead" and hour + _UNTIL_NEXT > last


def name(*, hour: int, keep_days: int) -> str:
    """
    Return the name of today's backup, which is also that of the day when this one is too old.

    So whoever copies the folder elsewhere, and removes nothing there, overwrites what is over.
    """
    return f"exuvia-{hour // _DAY % keep_days + 1}-of-{keep_days}.backup"
