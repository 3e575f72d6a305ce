"""
Keeping one open interface equal to a peer table, and forgetting peers that went quiet.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from exuvia.errors import GarbledAnswer, InterfaceUnavailable
from exuvia.rules.feed import Update
from exuvia.rules.ownership import Pools
from exuvia.rules.purge import Watch
from exuvia.rules.reconcile import Reconciler
from exuvia.rules.table import PeerTable
from exuvia.system import clock, conntrack
from exuvia.system.interface import WireGuardInterface
from exuvia.wg.interface import Configured
from exuvia.wg.peers import Network, Sighting, TunnelPeer

T = TypeVar("T")

RECONCILE_EVERY = 60.0
RECONCILE_AGAIN = 5.0
"""Seconds after which it is checked that a repair worked."""
RECONCILE_SOON = 1.0
"""Seconds after which a change that the kernel refused is tried again."""

MANY_DUE = 20
"""Peers that fall due at a look from which on small messages of the kernel are worth their time."""

SLICE = 1000
"""Peers that are changed at a stretch; in between it is looked whether others have to be purged."""


class Keeper:
    """
    Looks after one interface, for as long as it exists.

    `table` is what the interface is to be equal to; `complete` says whether it is all of it,
    so that a peer of ours that is not in it has to go. `equal` says whether the interface is
    known to be so.
    """

    def __init__(
        self,
        interface: WireGuardInterface,
        table: PeerTable,
        pools: Sequence[Pools],
        *,
        complete: bool,
        forget_flows: bool = False,
        now: Callable[[], float] | None = None,
        forget: Callable[[Collection[bytes]], int] | None = None,
    ) -> None:
        self.table = table
        self.complete = complete
        self.equal = False
        self._now = now or clock.boottime
        self.next_look = self.next_reconcile = self._now()
        self.peers = self.foreign = 0
        self.flows_left = False
        """Whether connection tracking refused to forget a flow."""
        self._interface = interface
        self._pools: list[Network] = [pool for each in pools for pool in (each.pool4, each.pool6)]
        self._forget_flows = forget_flows
        self._forget = forget or conntrack.forget
        self._watch = Watch()
        self._reconciler = Reconciler()
        self._purged: list[TunnelPeer] = []

    @property
    def stubborn(self) -> int:
        """How many peers do not stay as they should, because somebody else changes them."""
        return self._reconciler.stubborn

    def look(self) -> None:
        """Purge who is due, while the kernel is still telling of the others."""
        began = self._now()
        small = self._watch.expected(now=began) >= MANY_DUE
        self._watch.begin()
        try:
            seen = self._interface.look(self._see, small=small)
            self._watch.end(whole=seen.whole)
            self.peers = seen.peers
        finally:
            self._flush_purged()
        took = self._now() - began
        self.next_look = self._watch.next_look(began=began, took=took, peers=seen.peers)

    def apply(self, update: Update) -> None:
        """Make the interface follow what changed in the table: first who goes, then who comes."""
        try:
            for part in _slices(update.removed):
                self._change(remove=[peer[:32] for peer in part])
        finally:
            # Whatever became of the interface: where these peers were connected to is forgotten.
            self._forget_flows_of(update.removed)
        for added in _slices(update.put):
            self._change(put=added)

    def reconcile(self) -> None:
        """Compare all of the interface with the table, and mend what differs."""
        self.next_reconcile = self._now() + RECONCILE_AGAIN
        found = self._interface.compare(self.table.peers, self._pools)
        self.foreign = found.foreign + len(found.bare)
        plan = self._reconciler.plan(found)
        self.equal = found.whole
        if self.complete:
            for part in _slices(plan.remove):
                self._change(remove=part)
        for part in _slices(plan.put):
            self._change(put=[self.table.peers[key] for key in part])
        if self.equal and not plan.again:
            self.next_reconcile = self._now() + RECONCILE_EVERY

    def replace(self, table: PeerTable) -> None:
        """From now on this is the whole table, and whoever of ours is not in it has to go."""
        self.table, self.complete = table, True

    def put_off(self, seconds: float) -> None:
        """Look and compare no sooner than in so many seconds; until then nothing is known."""
        self.equal = False
        self.next_look = self.next_reconcile = self._now() + seconds

    def _see(self, sightings: list[Sighting]) -> None:
        peers = self.table.peers
        ours = [sighting for sighting in sightings if sighting[0] in peers]
        due = self._watch.see(ours, now=self._now())
        if not due:
            return
        failed = set(self._interface.purge([peers[key] for key in due]))
        for key in due:
            if key not in failed:
                self._watch.purged(key)
        if failed:
            self._not_equal()
        if self._forget_flows:
            self._purged += [peers[key] for key in due]

    def _change(self, *, put: Sequence[TunnelPeer] = (), remove: Sequence[bytes] = ()) -> None:
        if self._interface.apply(put, remove):
            self._not_equal()
        for key in remove:
            self._watch.purged(key)
        if self._now() >= self.next_look:
            self.look()

    def _not_equal(self) -> None:
        self.equal = False
        self.next_reconcile = min(self.next_reconcile, self._now() + RECONCILE_SOON)

    def _flush_purged(self) -> None:
        purged, self._purged = self._purged, []
        self._forget_flows_of(purged)

    def _forget_flows_of(self, peers: Sequence[TunnelPeer]) -> None:
        addresses = [address for peer in peers for address in (peer[32:36], peer[36:52])]
        try:
            if addresses:
                self._forget(addresses)
        except (InterfaceUnavailable, GarbledAnswer):
            self.flows_left = True


def adopted(interface: WireGuardInterface, table: PeerTable, pools: Sequence[Pools]) -> PeerTable:
    """
    Fill an empty table with the peers on an interface that are ours: there is no other table yet.

    Only with those that a peer table can hold: one tunnel address of each kind.
    """

    def see(configured: list[Configured]) -> None:
        for peer, _ in configured:
            found = TunnelPeer.from_peer(replace(peer, persistent_keepalive=0))
            if found is not None and any(each.own(peer.allowed_ips) for each in pools):
                table.put(found)

    interface.configurations(None, see)
    return table


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]
