"""
What arrives from the network process, put together and applied to the peer table.

Pure: records and the time in, changes of the table out. Nothing that is not complete counts.
"""

from typing import NamedTuple

from exuvia.errors import GarbledRecord
from exuvia.gateway.records import (
    Beat,
    ChangeBegins,
    Follow,
    FromNetwork,
    Removal,
    Row,
    SnapshotBegins,
    SnapshotEnds,
    StreamBegins,
    WentBack,
)
from exuvia.rules.feed import MOST_PEERS, Follower, Staging, Update
from exuvia.wg.peers import TunnelPeer


class Step(NamedTuple):
    """What one record led to."""

    update: Update
    snapshot: bool = False
    """Whether the whole table was replaced."""


class Reception:
    """
    One stream after the other, each with its number.

    Records of a stream that was given up may still be in the pipe: they are passed over until
    the new one begins.
    """

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self._number = 0
        self._open = False
        self._staging: Staging | None = None
        self._change: _Change | None = None

    @property
    def gathering(self) -> bool:
        """Whether a snapshot or a change is on its way in."""
        return self._staging is not None or self._change is not None

    def ask(self) -> Follow:
        """Give up the present stream and return the request for another."""
        self._number += 1
        self._open = False
        self._staging = self._change = None
        return Follow(self._number, self.follower.resume)

    def take(self, record: FromNetwork, *, now: float) -> Step | None:
        """
        Take the next record in; return what it led to, or None if it only was a part.

        Raises FeedRefused if the feed may not be followed like this, and GarbledRecord if no
        feed could have sent it.
        """
        if isinstance(record, StreamBegins):
            self._open = record.number == self._number
        elif isinstance(record, WentBack):
            self.follower.went_back()
        elif self._open:
            return self._take(record, now)
        return None

    def _take(self, record: FromNetwork, now: float) -> Step | None:
        if self._staging is not None:
            return self._stage(self._staging, record, now)
        if self._change is not None:
            return self._gather(self._change, record, now)
        if isinstance(record, SnapshotBegins):
            self._staging = self.follower.begin(record.position, record.rows)
        elif isinstance(record, ChangeBegins):
            if record.removals + record.puts > MOST_PEERS:
                raise GarbledRecord("a change of more peers than an interface can have")
            self._change = _Change(record)
            return self._apply_if_complete(self._change, now)
        elif isinstance(record, Beat):
            self.follower.heartbeat(record.position, now=now)
            return Step(Update([], []))
        else:
            raise GarbledRecord("a part without its beginning")
        return None

    def _stage(self, staging: Staging, record: FromNetwork, now: float) -> Step | None:
        if isinstance(record, Row):
            staging.add(record.peer)
            return None
        if not isinstance(record, SnapshotEnds):
            raise GarbledRecord("a snapshot with something else in it")
        self._staging = None
        return Step(self.follower.finish(staging, record.digest, now=now), snapshot=True)

    def _gather(self, change: "_Change", record: FromNetwork, now: float) -> Step | None:
        if isinstance(record, Removal) and len(change.remove) < change.begin.removals and not change.put:
            change.remove.append(record.key)
        elif isinstance(record, Row) and len(change.remove) == change.begin.removals:
            change.put.append(record.peer)
        else:
            raise GarbledRecord("a change with something else in it")
        return self._apply_if_complete(change, now)

    def _apply_if_complete(self, change: "_Change", now: float) -> Step | None:
        begin = change.begin
        if len(change.remove) < begin.removals or len(change.put) < begin.puts:
            return None
        self._change = None
        return Step(
            self.follower.change(begin.after, begin.revision, remove=change.remove, put=change.put, now=now)
        )


class _Change:
    """A change of which parts are still to come."""

    def __init__(self, begin: ChangeBegins) -> None:
        self.begin = begin
        self.remove: list[bytes] = []
        self.put: list[TunnelPeer] = []
