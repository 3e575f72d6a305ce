"""
From the interface there is to the peer table there should be.

Only what is ours is changed: keys of the table, and peers whose every allowed IP lies in the
pools. From a reading that was interrupted nothing is concluded about what it left out, and
nothing is removed: an allowed IP that makes a peer somebody else's may be missing in it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from exuvia.wg.interface import Comparison

ATTEMPTS = 3
"""So often the same key is mended before it counts as one that does not stay as it should."""


class Plan(NamedTuple):
    """What is to be done to an interface, by public key."""

    put: list[bytes]
    remove: list[bytes]
    again: bool
    """Whether it should be looked at again soon, to see that it worked or to read it whole."""


class Reconciler:
    """
    Decides what is to be done, and notices when it does no good.

    Success is what the next reading shows, not what the kernel answered: it acknowledges changes
    that it did not make. A key that has to be mended again and again is in another writer's
    hands; it is tried at every regular reading, but is no reason for one.
    """

    def __init__(self) -> None:
        self._attempts: dict[bytes, int] = {}

    @property
    def stubborn(self) -> int:
        """How many keys do not stay as they should."""
        return sum(count >= ATTEMPTS for count in self._attempts.values())

    def plan(self, found: Comparison) -> Plan:
        """Return what is to be done about what was found."""
        missing, strangers = (found.missing, found.strangers) if found.whole else ([], [])
        plan = Plan([*found.different, *missing], list(strangers), again=not found.whole)
        self._note([*plan.put, *plan.remove], whole=found.whole)
        return plan._replace(again=plan.again or any(n < ATTEMPTS for n in self._attempts.values()))

    def _note(self, mended: Iterable[bytes], *, whole: bool) -> None:
        counted = {key: self._attempts.get(key, 0) + 1 for key in mended}
        self._attempts = counted if whole else {**self._attempts, **counted}
