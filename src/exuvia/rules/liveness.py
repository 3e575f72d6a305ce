"""
Where it is decided that a tunnel works, judged by its own counters and nothing else.

Whoever receives data in a WireGuard tunnel answers within KEEPALIVE_TIMEOUT, if only with an
empty packet; whoever hears nothing sends a new handshake after another REKEY_TIMEOUT. So a
tunnel that sends and hears nothing for longer than that has lost the other side, while one
that sends nothing may be silent for as long as it likes. Times are seconds of CLOCK_BOOTTIME.
"""

from exuvia.wg.peers import Sighting
from exuvia.wg.timing import KEEPALIVE_TIMEOUT, REKEY_TIMEOUT

PATIENCE = float(KEEPALIVE_TIMEOUT + 3 * REKEY_TIMEOUT)
"""Seconds without an answer after which a tunnel counts as lost: time for two more handshakes."""

KEEPALIVE_LENGTH = 32
"""Bytes of an empty packet (white paper 5.4.6), which nobody answers."""


class Liveness:
    """What is known of one tunnel since it was dialled."""

    def __init__(self) -> None:
        self._handshake = 0
        self._rx = 0
        self._tx = 0
        self._handshake_seen: float | None = None
        self._unanswered_since: float | None = None

    def see(self, sighting: Sighting, *, now: float) -> None:
        """Note what the interface shows now."""
        if sighting.handshake and sighting.handshake != self._handshake:
            self._handshake_seen = now
        sent = sighting.tx - self._tx
        if sighting.rx != self._rx:
            self._unanswered_since = None
        elif sent not in (0, KEEPALIVE_LENGTH) and self._unanswered_since is None:
            self._unanswered_since = now
        self._handshake, self._rx, self._tx = sighting.handshake, sighting.rx, sighting.tx

    @property
    def connected(self) -> bool:
        """Whether a handshake has happened."""
        return self._handshake_seen is not None

    def handshake_age(self, *, now: float) -> float | None:
        """Return seconds since the latest handshake was seen, or None if there was none."""
        return None if self._handshake_seen is None else now - self._handshake_seen

    def unanswered(self, *, now: float) -> float:
        """Return for how many seconds what was sent has gone unanswered; 0 if all was answered."""
        return 0.0 if self._unanswered_since is None else now - self._unanswered_since

    def lost(self, *, now: float) -> bool:
        """Say whether what was sent has gone unanswered for too long."""
        return self.unanswered(now=now) >= PATIENCE


class Stillness:
    """How long a tunnel has carried nothing but empty packets; to be looked at every few seconds."""

    def __init__(self, sighting: Sighting, *, now: float) -> None:
        self._rx, self._tx = sighting.rx, sighting.tx
        self._since = now

    def see(self, sighting: Sighting, *, now: float) -> None:
        """Note what the interface shows now."""
        received, sent = sighting.rx - self._rx, sighting.tx - self._tx
        if received not in (0, KEEPALIVE_LENGTH) or sent not in (0, KEEPALIVE_LENGTH):
            self._since = now
        self._rx, self._tx = sighting.rx, sighting.tx

    def lasts(self, *, now: float) -> float:
        """Return for how many seconds that has been so."""
        return now - self._since
