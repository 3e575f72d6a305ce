"""
Peers: what we set, and the little we look at.

The two are different types on purpose. No type here has room for an endpoint's address.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, Self

from exuvia.wg.keys import PresharedKey, PublicKey

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer's whole configuration, as `wg showconf` would print it, but for an endpoint."""

    public_key: PublicKey
    allowed_ips: tuple[Network, ...] = ()
    preshared_key: PresharedKey | None = None
    persistent_keepalive: int = 0
    """Seconds; 0 is off."""

    def same_as(self, other: Self) -> bool:
        """Whether an interface treats the two alike: the order of allowed IPs does not matter."""
        return (
            self.public_key == other.public_key
            and self.preshared_key == other.preshared_key
            and self.persistent_keepalive == other.persistent_keepalive
            and set(self.allowed_ips) == set(other.allowed_ips)
        )


class TunnelPeer(bytes):
    """
    A peer of the peer table, packed: all that a gateway is ever told of it.

    84 bytes: public key (32), IPv4 tunnel address (4), IPv6 tunnel address (16), preshared
    key (32). There is no room for a prefix length: a tunnel address is one host. Packed,
    because a gateway holds a hundred thousand of them.
    """

    __slots__ = ()

    LENGTH = 84

    def __repr__(self) -> str:
        return "<TunnelPeer>"

    __str__ = __repr__

    @classmethod
    def pack(
        cls, public_key: bytes, address4: IPv4Address, address6: IPv6Address, preshared_key: bytes
    ) -> Self:
        """Return the peer made of these parts."""
        return cls(public_key + address4.packed + address6.packed + preshared_key)

    @classmethod
    def from_peer(cls, peer: Peer) -> Self | None:
        """Return it packed, if it has one IPv4 and one IPv6 address and no keepalive, else None."""
        match sorted(peer.allowed_ips, key=lambda network: network.version):
            case [IPv4Network(prefixlen=32) as four, IPv6Network(prefixlen=128) as six]:
                if peer.persistent_keepalive == 0:
                    preshared = peer.preshared_key or bytes(32)
                    return cls.pack(peer.public_key, four.network_address, six.network_address, preshared)
        return None

    @property
    def public_key(self) -> PublicKey:
        """The peer's name."""
        return PublicKey(self[:32])

    @property
    def address4(self) -> IPv4Address:
        """Its IPv4 tunnel address."""
        return IPv4Address(self[32:36])

    @property
    def address6(self) -> IPv6Address:
        """Its IPv6 tunnel address."""
        return IPv6Address(self[36:52])

    @property
    def preshared_key(self) -> PresharedKey:
        """Its preshared key."""
        return PresharedKey(self[52:84])

    def peer(self) -> Peer:
        """Return it as the configuration of a WireGuard peer."""
        networks: Iterable[Network] = (IPv4Network(self[32:36]), IPv6Network(self[36:52]))
        preshared_key = self.preshared_key if any(self[52:84]) else None
        return Peer(self.public_key, tuple(networks), preshared_key)


class Sighting(NamedTuple):
    """
    What one look at an interface tells of a peer that has something to forget.

    `endpoint` says whether one is set, never which. Times and counters are compared with
    those of an earlier look, never with a clock.
    """

    public_key: bytes
    handshake: int
    """Latest handshake in ns of the kernel's wall clock; 0 if there was none."""
    rx: int
    tx: int
    endpoint: bool

    def __repr__(self) -> str:
        return "<Sighting>"
