"""
Whose peers are whose: the pools that tunnel addresses are drawn from mark what is ours.

By pool and not by memory, so that a daemon which was started anew still knows, and a peer that
somebody else put on the interface is left alone.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
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
    def from_text(cls, pool4: str, pool6: str, address4: str, address6: str) -> Self:
        """Return the pools that these texts name, or raise InvalidConfiguration."""
        try:
            pools = cls(IPv4Network(pool4), IPv6Network(pool6), IPv4Address(address4), IPv6Address(address6))
        except ValueError:
            raise InvalidConfiguration("the control plane's pools can't be read") from None
        if pools.address4 not in pools.pool4 or pools.address6 not in pools.pool6:
            raise InvalidConfiguration("the gateways' own addresses lie outside the pools")
        return pools

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
