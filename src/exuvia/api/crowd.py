"""The connections of a listener: how many there may be, and which one goes when there are more."""

from typing import Protocol

from exuvia.rules.limits import GRACE


class Connection(Protocol):
    """One of them."""

    def cut(self) -> None:
        """End at once."""


class Crowd:
    """
    Knows which connections wait for a request, or for the rest of one, and since when.

    Whoever holds thousands open without asking anything only closes his own: the one that has
    waited longest goes, unless it has just come: a thousand that come at once are no reason to cut somebody
    whose request is there and was not read yet. A connection whose request has come whole is never cut.
    """

    def __init__(self, *, most: int, most_waiting: int) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._all: set[Connection] = set()
        self._waiting: dict[Connection, float] = {}
        """Since when, in order."""

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._all)

    def came(self, connection: Connection, *, now: float) -> None:
        """Take in a connection, which waits."""
        self._all.add(connection)
        self.waits(connection, now=now)

    def waits(self, connection: Connection, *, now: float) -> None:
        """Note that nothing is being done for a connection, from now on."""
        if connection in self._all:
            self._waiting.setdefault(connection, now)
        while self._waiting and self._are_too_many(now):
            first = next(iter(self._waiting))
            self.left(first)
            first.cut()

    def _are_too_many(self, now: float) -> bool:
        has_waited = now - next(iter(self._waiting.values()))
        too_many_wait = len(self._waiting) > self._most_waiting and has_waited >= GRACE
        return too_many_wait or len(self._all) > self._most

    def is_served(self, connection: Connection) -> None:
        """Note that a request has come whole, and is being answered."""
        self._waiting.pop(connection, None)

    def left(self, connection: Connection) -> None:
        """Forget a connection."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)
