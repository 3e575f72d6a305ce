"""
The peer table of a gateway: what it may serve, and nothing that does not fit.

A row that the control plane should never have sent is refused and counted; the others apply.
"""

from collections.abc import Collection, Iterable

from exuvia.errors import InvalidKey
from exuvia.rules.ownership import Admission, Pools
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer


class PeerTable:
    """
    Peers by public key, of which no two share an address.

    `refused` counts the rows that were not let in: a key that no peer can have or that is the
    gateway's own, an address that is no host of the pools, is reserved, or is another key's.
    """

    __slots__ = ("_admission", "_taken", "own_key", "peers", "refused")

    def __init__(self, pools: Pools, *, own_key: bytes, peers: Iterable[TunnelPeer] = ()) -> None:
        self._admission = Admission(pools)
        self.own_key = own_key
        # One set for both kinds: an IPv6 pool holds no numbers below 2^32.
        self._taken: set[int] = set()
        self.peers: dict[bytes, TunnelPeer] = {}
        self.refused = 0
        for peer in peers:
            self.put(peer)

    def __len__(self) -> int:
        return len(self.peers)

    def put(self, peer: TunnelPeer) -> bool:
        """Add a peer or change one; False if it had to be refused, and then nothing changed."""
        if not self.fits(peer):
            self.refused += 1
            return False
        key = peer[:32]
        self._taken.difference_update(self._addresses(key))
        self._taken.update(_numbers(peer))
        self.peers[key] = peer
        return True

    def remove(self, key: bytes) -> TunnelPeer | None:
        """Remove a peer and return it, or None if there was none."""
        self._taken.difference_update(self._addresses(key))
        return self.peers.pop(key, None)

    def fits(self, peer: TunnelPeer) -> bool:
        """Say whether a peer can be put: a usable key, with addresses that are free or its own."""
        key, addresses = peer[:32], _numbers(peer)
        if key == self.own_key or not self._admission.admits(*addresses) or not _usable(key):
            return False
        own = self._addresses(key)
        return not any(address in self._taken and address not in own for address in addresses)

    def holders(self, peer: TunnelPeer, among: Collection[bytes]) -> list[bytes]:
        """Return which of some keys, other than the peer's own, hold one of its addresses."""
        addresses = set(_numbers(peer))
        if addresses.isdisjoint(self._taken):
            return []
        own = peer[:32]
        return [key for key in among if key != own and not addresses.isdisjoint(self._addresses(key))]

    def _addresses(self, key: bytes) -> tuple[int, ...]:
        peer = self.peers.get(key)
        return _numbers(peer) if peer is not None else ()


def _numbers(peer: TunnelPeer) -> tuple[int, int]:
    """Return a peer's two tunnel addresses as numbers."""
    return int.from_bytes(peer[32:36], "big"), int.from_bytes(peer[36:52], "big")


def _usable(key: bytes) -> bool:
    try:
        PublicKey.from_bytes_checked(key)
    except InvalidKey:
        return False
    return True
