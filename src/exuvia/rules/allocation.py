"""
A tunnel address nobody has: drawn at random, so that it tells nothing of whoever gets it.

Whether it is free is for the database to say, whose uniqueness also decides races.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from exuvia.errors import InvalidConfiguration

Bits = Callable[[int], int]
"""Returns a uniformly random number of so many bits."""

REDRAWS = 64
"""Draws before a pool counts as exhausted; at 95 % in use 4 of 100 registrations meet that."""
NEARLY_FULL = 0.95
"""Share of a pool in use at which operators are alarmed."""
REST_HOURS = 24
"""How long an address rests before it may be drawn again: flows to its last holder die first."""

DEFAULT_POOL4 = IPv4Network("10.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Pools:
    """Where tunnel addresses come from. The first host of each pool is the gateways' own."""

    pool4: IPv4Network
    pool6: IPv6Network

    def usable4(self) -> int:
        """Return how many IPv4 addresses peers can have."""
        return self.pool4.num_addresses - 3

    def gateway4(self) -> str:
        """Return the gateways' own IPv4 address with its prefix length."""
        return f"{self.pool4.network_address + 1}/{self.pool4.prefixlen}"

    def gateway6(self) -> str:
        """Return the gateways' own IPv6 address with its prefix length."""
        return f"{self.pool6.network_address + 1}/{self.pool6.prefixlen}"


def draw4(pool: IPv4Network, bits: Bits) -> IPv4Address:
    """Return a uniformly random address of the pool, but network, broadcast and gateways' address."""
    return IPv4Address(int(pool.network_address) + 2 + _below((1 << 32 - pool.prefixlen) - 3, bits))


def draw6(pool: IPv6Network, bits: Bits) -> IPv6Address:
    """Return an address of the pool with an independent, uniformly random interface identifier."""
    while _is_reserved(identifier := bits(64)):
        pass
    return IPv6Address(int(pool.network_address) + identifier)


def random_pool6(bits: Bits) -> IPv6Network:
    """Return a random unique local /64 (RFC 4193)."""
    return IPv6Network(((0xFD << 120) | (bits(56) << 64), 64))


def pool4_from_text(text: str) -> IPv4Network:
    """Return the IPv4 pool that was configured; InvalidConfiguration if it can't be one."""
    pool = _network(text)
    if not isinstance(pool, IPv4Network) or not 8 <= pool.prefixlen <= 30:
        raise InvalidConfiguration("the IPv4 pool must be a network from /8 to /30, such as 10.0.0.0/8")
    return pool


def pool6_from_text(text: str) -> IPv6Network:
    """Return the IPv6 pool that was configured; InvalidConfiguration if it can't be one."""
    pool = _network(text)
    if not isinstance(pool, IPv6Network) or pool.prefixlen != 64:
        raise InvalidConfiguration("the IPv6 pool must be a /64, such as fd12:3456:789a:1::/64")
    return pool


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise InvalidConfiguration("a pool must be a network in CIDR notation, without host bits") from None


def _below(count: int, bits: Bits) -> int:
    """Return a uniformly random number from 0 to count - 1; too large draws are thrown away."""
    width = (count - 1).bit_length()
    while (number := bits(width)) >= count:
        pass
    return number


def _is_reserved(identifier: int) -> bool:
    """
    Return whether no host may have this interface identifier.

    Those are subnet-router anycast and the gateways' own, IANA's Ethernet block, and subnet
    anycast (RFC 5453).
    """
    return (
        identifier < 2
        or 0x0200_5EFF_FE00_0000 <= identifier < 0x0200_5EFF_FF00_0000
        or 0xFDFF_FFFF_FFFF_FF80 <= identifier < 0xFE00_0000_0000_0000
    )
