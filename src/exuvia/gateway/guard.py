"""
The purge alone, for an interface that somebody else configures: no control plane, no table.

The peer table is what the interface itself is configured with. A peer is reinstated from a
reading of its configuration that is purged from part by part, as it is read.
"""

import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from exuvia.errors import InterfaceUnavailable
from exuvia.rules.exemption import Exemptions
from exuvia.rules.purge import Watch
from exuvia.system import clock
from exuvia.system.interface import WireGuardInterface
from exuvia.wg.interface import Configured
from exuvia.wg.peers import Peer, Sighting

RECONSIDER_EVERY = 60.0
"""Seconds after which it is asked again which peers this side sends keepalives to."""

REOPEN_EVERY = 1.0
"""Seconds between two tries to find an interface that went away."""


@dataclass
class Tally:
    """What a guard can say of its work: numbers, and of nobody."""

    peers: int = 0
    forgotten: int = 0
    left_alone: dict[str, int] = field(default_factory=dict)

    def sentence(self, interface: str) -> str:
        """Return it in words."""
        alone = "".join(f", {count} left alone because {why}" for why, count in self.left_alone.items())
        times = "once" if self.forgotten == 1 else f"{self.forgotten} times"
        return f"{interface}: {self.peers} peers{alone}; a quiet peer was forgotten {times}"


class Guard:
    """Looks at one interface again and again, and purges who went quiet."""

    def __init__(self, interface: WireGuardInterface, exemptions: Exemptions) -> None:
        self.tally = Tally()
        self._interface = interface
        self._exemptions = exemptions
        self._watch = Watch()
        self._reconsider_at = 0.0

    def look(self) -> float:
        """Look once, purge who is due, and return when (CLOCK_BOOTTIME) to look again."""
        began = clock.boottime()
        if began >= self._reconsider_at:
            self._interface.configurations(None, self._learn)
            self._reconsider_at = began + RECONSIDER_EVERY
        due: list[bytes] = []

        def see(sightings: list[Sighting]) -> None:
            due.extend(self._watch.see(self._exemptions.filter(sightings), now=clock.boottime()))

        self._watch.begin()
        look = self._interface.look(see)
        self._watch.end(whole=look.whole)
        if due:
            self._purge(frozenset(due))
        self.tally.peers = look.peers
        self.tally.left_alone = self._exemptions.counts()
        return self._watch.next_look(began=began, took=clock.boottime() - began, peers=look.peers)

    def waits_for(self, since: float) -> int:
        """Return how many peers have shown no new handshake since then, and are still to be forgotten."""
        return self._watch.unchanged_since(since)

    def _learn(self, configured: list[Configured]) -> None:
        for peer, _ in configured:
            self._exemptions.keepalive(peer.public_key, peer.persistent_keepalive)

    def _purge(self, due: Collection[bytes]) -> None:
        def see(configured: list[Configured]) -> None:
            # Whoever has come back since the look is not due any more.
            self._forget([peer for peer, now in configured if self._is_still_due(peer, now)])

        self._interface.configurations(due, see)

    def _is_still_due(self, peer: Peer, sighting: Sighting) -> bool:
        self._exemptions.keepalive(peer.public_key, peer.persistent_keepalive)
        return bool(self._watch.see(self._exemptions.filter([sighting]), now=clock.boottime()))

    def _forget(self, peers: list[Peer]) -> None:
        failed = set(self._interface.purge(peers))
        for peer in peers:
            if peer.public_key not in failed:
                self._watch.purged(peer.public_key)
                self.tally.forgotten += 1


def watch_over(
    open_interface: Callable[[], WireGuardInterface],
    configured: Callable[[], set[bytes]],
    *,
    tell: Callable[[str], None],
) -> None:
    """
    Guard an interface until SIGTERM or SIGINT; one that goes away is waited for.

    `configured` returns the keys to which the configuration file gives an endpoint, and is
    asked anew whenever the interface is made anew.
    """
    _block_signals()
    interface = open_interface()
    tell(f"{interface.name}: watching; a peer whose session is over is forgotten")
    while True:
        guard = Guard(interface, Exemptions(configured()))
        try:
            _until_told_to_stop(guard)
            tell(guard.tally.sentence(interface.name))
            return
        except InterfaceUnavailable:
            tell(f"{interface.name}: went away; waiting until it is back")
        finally:
            interface.close()
        again = _reopened(open_interface)
        if again is None:
            return
        interface = again


def watch_once(
    interface: WireGuardInterface,
    configured: set[bytes],
    *,
    progress: Callable[[int], None],
) -> Tally:
    """
    Guard an interface for as long as the rule needs to judge who is on it now, and return the tally.

    That is 180 seconds, or twice as long while somebody keeps trying to connect. `progress` is
    told how many peers are waited for, at each look.
    """
    _block_signals()
    guard = Guard(interface, Exemptions(configured))
    at = guard.look()
    began = clock.boottime()
    while guard.waits_for(began):
        progress(guard.waits_for(began))
        if _stopped_before(at):
            break
        at = guard.look()
    return guard.tally


def _until_told_to_stop(guard: Guard) -> None:
    while not _stopped_before(guard.look()):
        pass


def _reopened(open_interface: Callable[[], WireGuardInterface]) -> WireGuardInterface | None:
    """Return the interface once it is back; None if told to stop before."""
    while not _stopped_before(clock.boottime() + REOPEN_EVERY):
        try:
            return open_interface()
        except InterfaceUnavailable:
            continue
    return None


# Signals are taken only while waiting, so that no purge is ever left halfway.
_STOP = {signal.SIGTERM, signal.SIGINT}


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)


def _stopped_before(moment: float) -> bool:
    """Wait until the moment; return whether the process was told to stop meanwhile."""
    return signal.sigtimedwait(_STOP, max(0.0, moment - clock.boottime())) is not None
