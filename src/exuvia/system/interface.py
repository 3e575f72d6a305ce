"""
A WireGuard interface as gateway, guard and client use it, whoever runs it.

One caller at a time, no threads; nothing here waits for the network.
"""

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from exuvia.errors import InterfaceUnavailable
from exuvia.wg.interface import Comparison, Configured, Facts, Look
from exuvia.wg.keys import PrivateKey
from exuvia.wg.netlink import Endpoint
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer


class WireGuardInterface(Protocol):
    """
    An open interface, held by this process alone of all exuvia daemons until it is closed.

    Every method raises InterfaceUnavailable once the interface is gone (one made anew under
    the same name is another), NotPermitted without CAP_NET_ADMIN, and GarbledAnswer if what
    comes back can't be read; after any of them the same object may be tried again.
    """

    name: str
    index: int

    def facts(self) -> Facts:
        """Return what the interface is, apart from its peers."""

    def look(self, see: Callable[[list[Sighting]], None], *, small: bool = False) -> Look:
        """
        Read all peers and tell `see` of those that have something to forget, part by part.

        `see` may purge and apply at once, before the next part is read: the shorter the time
        between reading a peer and purging it, the fewer sessions are wiped that have just
        come back. `small` asks for small parts (18 peers instead of 155), which take longer
        to read: for when many peers are due. (wireguard-go can be changed only when it has
        told everything: there `see` is called at the end.)
        """

    def compare(self, table: Mapping[bytes, TunnelPeer], pools: Iterable[Network] = ()) -> Comparison:
        """Return how the interface differs from the table; `pools` tell whose strangers are."""

    def configurations(
        self, wanted: Collection[bytes] | None, see: Callable[[list[Configured]], None]
    ) -> Look:
        """
        Tell `see` the configuration of the peers with these keys, or of all, part by part.

        `see` may purge and apply at once, as in look().
        """

    def apply(self, put: Iterable[TunnelPeer | Peer] = (), remove: Iterable[bytes] = ()) -> list[bytes]:
        """
        Remove these keys, then add these peers or make them exactly so; return the keys that failed.

        Sessions of peers that stay are not disturbed. What failed may be half done: put it again.
        """

    def purge(self, peers: Iterable[TunnelPeer | Peer]) -> list[bytes]:
        """
        Remove and reinstate each peer in one step; return the keys that failed.

        All others are clean now, as acknowledged by the interface. A peer that failed may be
        there without its addresses: purge it again.
        """

    def put_with_endpoint(self, peer: Peer, endpoint: Endpoint) -> None:
        """Add a gateway as peer, or make it exactly so: for clients."""

    def configure(
        self,
        *,
        private_key: PrivateKey | None = None,
        listen_port: int | None = None,
        fwmark: int | None = None,
    ) -> None:
        """Change what the interface itself is; None leaves a thing as it is."""

    def close(self) -> None:
        """Let go of the interface; it stays as it is."""


def open_interface(name: str, *, alone: bool = True) -> WireGuardInterface:
    """
    Open the interface with this name, run by the kernel or by wireguard-go.

    Whoever only wants to look need not be alone, and is let in beside a daemon.
    Raises InterfaceUnavailable if there is none, InterfaceInUse if another exuvia daemon
    holds it, NotPermitted without CAP_NET_ADMIN.
    """
    from exuvia.system.kernel import KernelInterface
    from exuvia.system.uapi import UserspaceInterface

    try:
        return KernelInterface.open(name, alone=alone)
    except InterfaceUnavailable:
        if not UserspaceInterface.answers(name):
            raise
    return UserspaceInterface.open(name, alone=alone)


def index_of(name: str) -> int:
    """Return the index of the interface with this name in this network namespace."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise InterfaceUnavailable(f"there is no network interface {name!r} here") from None
