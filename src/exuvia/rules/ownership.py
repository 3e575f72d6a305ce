"""
Whose peers are whose: the pools that tunnel addresses are drawn from mark what is ours.

By pool and not by memory, so that a daemon which was started anew still knows, and a peer that
somebody else put on the interface is left alone.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NamedTuple, Self

from exuvia.errors import InvalidConfiguration
from exuvia.wg.peers import Network


class Pools(NamedTuple):
    """The pools of a network's tunnel addresses, and the gateways' own address in each."""

    pool4: IPv4Network
    pool6: IPv6Network
    address4: IPv4Address
    address6: IPv6Address

    @classmethod
    def around(cls, address4: str, address6: str) -> Self:
        """Return the pools that the gateways' own addresses, such as 10.0.0.1/8, lie in."""
        try:
            own4, own6 = IPv4Interface(address4), IPv6Interface(address6)
        except ValueError:
            raise InvalidConfiguration("the gateways' own addresses can't be read") from None
        return cls(own4.network, own6.network, own4.ip, own6.ip)

    def check(self) -> None:
        """Raise InvalidConfiguration unless the gateways' own addresses lie in the pools."""
        if self.address4 not in self.pool4 or self.address6 not in self.pool6:
            raise InvalidConfiguration("the gateways' own addresses lie outside the pools")

    def holds(self, network: Network) -> bool:
        """Say whether all addresses of a network lie in the pools."""
        if isinstance(network, IPv4Network):
            return network.subnet_of(self.pool4)
        return network.subnet_of(self.pool6)

    def own(self, allowed_ips: Sequence[Network]) -> bool:
        """Say whether a peer is ours by its allowed IPs; without any, they can't tell."""
        return bool(allowed_ips) and all(self.holds(network) for network in allowed_ips)


class Admission:
    """
    Which tunnel addresses a peer may have: hosts of the pools, but none that is reserved.

    Plain numbers, because a snapshot asks a hundred thousand times.
    """

    __slots__ = ("_first4", "_first6", "_mask4", "_mask6", "_reserved")

    def __init__(self, pools: Pools) -> None:
        self._mask4, self._first4 = int(pools.pool4.netmask), int(pools.pool4.network_address)
        self._mask6, self._first6 = int(pools.pool6.netmask), int(pools.pool6.network_address)
        self._reserved = frozenset(map(int, _reserved(pools)))

    def admits(self, address4: int, address6: int) -> bool:
        """Say whether a peer may have these two addresses."""
        return (
            address4 & self._mask4 == self._first4
            and address6 & self._mask6 == self._first6
            and address4 not in self._reserved
            and address6 not in self._reserved
        )


def _reserved(pools: Pools) -> Iterable[IPv4Address | IPv6Address]:
    """Network, broadcast and subnet-router addresses (RFC 4291 section 2.6.1), and the gateways' own."""
    return (
        pools.pool4.network_address,
        pools.pool4.broadcast_address,
        pools.pool6.network_address,
        pools.address4,
        pools.address6,
    )
