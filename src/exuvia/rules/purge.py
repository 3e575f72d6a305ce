"""
Where it is decided that a peer is forgotten.

Once REJECT_AFTER_TIME has passed since a peer's latest handshake changed, neither side can
use its session keys any more: forgetting the peer costs it nothing. Until then its packets
may be on the way. A handshake of 0 is a case like any other: a first message, honest or
replayed, leaves an endpoint behind without ever completing a handshake.

Every time is seconds of CLOCK_BOOTTIME, which counts suspend and never steps. The kernel's
wall-clock handshake time is compared for equality only.
"""

from collections.abc import Iterable

from exuvia.wg.peers import Sighting
from exuvia.wg.timing import REJECT_AFTER_TIME

QUIET = 20.0
"""Seconds without a received byte after which a stale peer is not in the middle of a handshake (G)."""

CAP = 180.0
"""Seconds after which a stale peer goes even if it still receives: somebody is replaying (C)."""

SHORTEST_WAIT = 0.25
USUAL_WAIT = 0.75
LONGEST_WAIT = 1.0
LONGEST_WAIT_OF_MANY = 10.0
MANY_PEERS = 10_000
SHARE_OF_A_CORE = 0.02
SHARE_OF_A_CORE_FOR_MANY = 0.05


class Trace:
    """When one peer's latest handshake and received bytes last changed, as seen by us."""

    __slots__ = ("due", "handshake", "handshake_changed", "look", "rx", "rx_changed")

    def __init__(self, handshake: int, rx: int, now: float, look: int) -> None:
        self.handshake = handshake
        self.rx = rx
        self.handshake_changed = now
        self.rx_changed = now
        self.look = look
        self.due = self._due()

    def update(self, handshake: int, rx: int, now: float) -> None:
        """Note what changed since the last look."""
        if handshake != self.handshake:
            self.handshake, self.handshake_changed = handshake, now
        if rx != self.rx:
            self.rx, self.rx_changed = rx, now
        self.due = self._due()

    def _due(self) -> float:
        """Return when the peer may be forgotten, if nothing changes before."""
        stale = self.handshake_changed + (REJECT_AFTER_TIME if self.handshake else 0)
        return max(stale, min(self.rx_changed + QUIET, stale + CAP))


class Watch:
    """
    What a daemon remembers of the peers that are not clean: four numbers each, in memory only.

    One look is begin(), then see() for every part of the dump as it streams in, then end().
    """

    def __init__(self) -> None:
        self._traces: dict[bytes, Trace] = {}
        self._look = 0
        self._nearest: float | None = None

    def __len__(self) -> int:
        return len(self._traces)

    def begin(self) -> None:
        """Start a look at the interface."""
        self._look += 1
        self._nearest = None

    def see(self, sightings: Iterable[Sighting], *, now: float) -> list[bytes]:
        """Note what was seen and return the keys of the peers to purge at once."""
        traces, look, nearest = self._traces, self._look, self._nearest
        due = []
        for key, handshake, rx, _tx, _endpoint in sightings:
            trace = traces.get(key)
            if trace is None:
                trace = traces[key] = Trace(handshake, rx, now, look)
            elif handshake != trace.handshake or rx != trace.rx:
                trace.update(handshake, rx, now)
            trace.look = look
            if trace.due <= now:
                due.append(key)
            elif nearest is None or trace.due < nearest:
                nearest = trace.due
        self._nearest = nearest
        return due

    def purged(self, key: bytes) -> None:
        """Forget a peer of which the kernel has acknowledged that it is clean now."""
        self._traces.pop(key, None)

    def end(self, *, whole: bool) -> None:
        """
        Finish the look; after a whole dump, peers that were not in it are clean or gone.

        What a dump that was interrupted leaves out proves nothing.
        """
        if whole:
            gone = [key for key, trace in self._traces.items() if trace.look != self._look]
            for key in gone:
                del self._traces[key]

    def expected(self, *, now: float) -> int:
        """Return how many peers will be purged at this instant, as far as is known."""
        return sum(trace.due <= now for trace in self._traces.values())

    def unchanged_since(self, moment: float) -> int:
        """Return how many peers have shown no other handshake since then."""
        return sum(trace.handshake_changed <= moment for trace in self._traces.values())

    def next_look(self, *, began: float, took: float, peers: int) -> float:
        """
        Return when to look again: when the next peer can fall due, and often enough to see it come.

        `began` and `took` are those of the look that has just ended, `peers` all it found.
        """
        many = peers > MANY_PEERS
        affordable = took / (SHARE_OF_A_CORE_FOR_MANY if many else SHARE_OF_A_CORE)
        longest = LONGEST_WAIT_OF_MANY if many else LONGEST_WAIT
        soonest = began + min(max(affordable, took + SHORTEST_WAIT), longest)
        latest = max(began + (LONGEST_WAIT if many else USUAL_WAIT), soonest)
        due = self._nearest if self._nearest is not None else latest
        return min(max(due, soonest), latest)
