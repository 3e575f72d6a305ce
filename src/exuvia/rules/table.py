"""
The peer table of a gateway: what it may serve, and nothing that does not fit.

A row that the control plane should never have sent is refused and counted; the others apply.
"""

from collections.abc import Collection, Iterable

from exuvia.errors import InvalidKey
from exuvia.rules.addresses import AddressSet
from exuvia.rules.ownership import Admission, Pools
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

_LOWER_HALF = (1 << 64) - 1


class PeerTable:
    """
    Peers by public key, of which no two share an address.

    `refused` counts the rows that were not let in: a key that no peer can have or that is the
    gateway's own, an address that is no host of the pools, is reserved, or is another key's. IPv6
    addresses are told apart by their lower half, which is drawn at random.
    """

    __slots__ = ("_admission", "_taken4", "_taken6", "own_key", "peers", "refused")

    def __init__(self, pools: Pools, *, own_key: bytes, peers: Iterable[TunnelPeer] = ()) -> None:
        self._admission = Admission(pools)
        self._taken4 = AddressSet("I")
        self._taken6 = AddressSet("Q")
        self.own_key = own_key
        self.peers: dict[bytes, TunnelPeer] = {}
        self.refused = 0
        for peer in peers:
            self.put(peer)

    def __len__(self) -> int:
        return len(self.peers)

    def copy(self) -> "PeerTable":
        """Return a table with the same peers, of which none was refused."""
        copy = PeerTable.__new__(PeerTable)
        copy._admission, copy.own_key, copy.refused = self._admission, self.own_key, 0
        copy._taken4, copy._taken6 = self._taken4.copy(), self._taken6.copy()
        copy.peers = self.peers.copy()
        return copy

    def put(self, peer: TunnelPeer) -> bool:
        """Add a peer or change one; False if it had to be refused, and then nothing changed."""
        if not self.fits(peer):
            self.refused += 1
            return False
        self.remove(peer[:32])
        address4, address6 = _addresses(peer)
        self._taken4.add(address4)
        self._taken6.add(address6 & _LOWER_HALF)
        self.peers[peer[:32]] = peer
        return True

    def remove(self, key: bytes) -> TunnelPeer | None:
        """Remove a peer and return it, or None if there was none."""
        peer = self.peers.pop(key, None)
        if peer is not None:
            address4, address6 = _addresses(peer)
            self._taken4.discard(address4)
            self._taken6.discard(address6 & _LOWER_HALF)
        return peer

    def fits(self, peer: TunnelPeer) -> bool:
        """Say whether a peer can be put: a usable key, with addresses that are free or its own."""
        key, (address4, address6) = peer[:32], _addresses(peer)
        if key == self.own_key or not self._admission.admits(address4, address6) or not _usable(key):
            return False
        own4, own6 = self._own(key)
        if address4 != own4 and address4 in self._taken4:
            return False
        return address6 == own6 or address6 & _LOWER_HALF not in self._taken6

    def holders(self, peer: TunnelPeer, among: Collection[bytes]) -> list[bytes]:
        """Return which of some keys, other than the peer's own, hold one of its addresses."""
        address4, address6 = _addresses(peer)
        if address4 not in self._taken4 and address6 & _LOWER_HALF not in self._taken6:
            return []
        own, wanted = peer[:32], {address4, address6}
        return [key for key in among if key != own and not wanted.isdisjoint(self._own(key))]

    def _own(self, key: bytes) -> tuple[int, int]:
        """Return the addresses that a key has; none has 0."""
        peer = self.peers.get(key)
        return _addresses(peer) if peer is not None else (0, 0)


def _addresses(peer: TunnelPeer) -> tuple[int, int]:
    """Return a peer's two tunnel addresses as numbers."""
    return int.from_bytes(peer[32:36], "big"), int.from_bytes(peer[36:52], "big")


def _usable(key: bytes) -> bool:
    try:
        PublicKey.from_bytes_checked(key)
    except InvalidKey:
        return False
    return True
