"""
The gateways one can choose from, and where they are.

What was learnt is kept beside the state: while the kill switch is closed no name can be looked
up, and a control plane that is away must keep nobody from connecting.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import msgspec

from exuvia.errors import ControlPlaneUnreachable, InvalidKey, NotFound
from exuvia.messages import GatewayListing
from exuvia.system import sockets
from exuvia.wg.keys import PublicKey

Address = IPv4Address | IPv6Address

_LOOKING_UP = 5.0
"""Seconds that a name may take to be looked up."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Endpoint(NamedTuple):
    """A published address and port, of a gateway or of the control plane."""

    address: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"

    @property
    def family(self) -> str:
        """What nftables calls the protocol of its packets."""
        return "ip6" if self.address.version == 6 else "ip"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway as one connects to it."""

    name: str
    public_key: PublicKey
    endpoint: Endpoint
    dns: Address | None


class _StoredGateway(msgspec.Struct, frozen=True):
    name: str
    public_key: str
    address: str
    port: int
    dns: str | None


class _Stored(msgspec.Struct, frozen=True):
    control: list[str]
    gateways: list[_StoredGateway]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the network: the control plane's addresses, and the gateways."""

    control: tuple[Address, ...] = ()
    gateways: tuple[Gateway, ...] = ()

    def encode(self) -> bytes:
        """Return it as the content of a file."""
        return msgspec.json.encode(
            _Stored([str(a) for a in self.control], [_stored(g) for g in self.gateways])
        )

    @classmethod
    def decode(cls, content: bytes | None) -> "Known":
        """Return what a file holds; nothing if it is missing or damaged, since it can be asked for again."""
        try:
            stored = msgspec.json.decode(content or b"", type=_Stored)
            return cls(
                tuple(ip_address(text) for text in stored.control),
                tuple(_restored(gateway) for gateway in stored.gateways),
            )
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, InvalidKey):
            return cls()

    def named(self, name: str) -> Gateway:
        """Return the gateway with this name; NotFound lists those that there are."""
        for gateway in self.gateways:
            if gateway.name == name:
                return gateway
        names = ", ".join(sorted(gateway.name for gateway in self.gateways)) or "none"
        raise NotFound(f"there is no gateway {name!r}; there are: {names}")

    def choose(self, chance: int, *, but: str | None = None) -> Gateway:
        """Return any gateway, all being equally likely; another than `but`, if there is another."""
        others = [gateway for gateway in self.gateways if gateway.name != but] or list(self.gateways)
        if not others:
            raise NotFound("the control plane knows no gateway yet")
        return others[chance % len(others)]


async def addresses_of(host: str, port: int) -> tuple[Address, ...]:
    """Return the addresses of a host, best first; ControlPlaneUnreachable if it has none."""
    if _is_address(host):
        return (ip_address(host),)
    try:
        async with asyncio.timeout(_LOOKING_UP):
            found = await sockets.look_up(host, port)
    except (OSError, TimeoutError):
        raise ControlPlaneUnreachable(f"the name {host} can't be looked up now") from None
    return tuple(dict.fromkeys(ip_address(str(address[0]).partition("%")[0]) for *_, address in found))


async def locate(
    listings: Sequence[GatewayListing], *, known: Sequence[Gateway] | None = None
) -> tuple[Gateway, ...]:
    """
    Return the listed gateways with their addresses; those that make no sense are left out.

    With `known` no name is looked up: a gateway is where it was then.
    """
    found = []
    for listing in listings:
        try:
            found.append(await _locate(listing, known))
        except (ValueError, InvalidKey, ControlPlaneUnreachable):
            continue  # one unusable gateway must not keep anybody from the others
    return tuple(found)


async def _locate(listing: GatewayListing, known: Sequence[Gateway] | None) -> Gateway:
    host, _, digits = listing.endpoint.rpartition(":")
    host, port, name = host.strip("[]"), _port(int(digits)), _name(listing.name)
    if known is None or _is_address(host):
        addresses = await addresses_of(host, port)
    else:
        addresses = tuple(gateway.endpoint.address for gateway in known if gateway.name == name)
    if not addresses:
        raise ControlPlaneUnreachable(f"where {name} is can't be looked up now")
    dns = None if listing.dns is None else ip_address(listing.dns)
    return Gateway(name, PublicKey.from_text(listing.public_key), Endpoint(addresses[0], port), dns)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("not a gateway's name")
    return text


def _port(number: int) -> int:
    if not 0 < number < 65536:
        raise ValueError("not a port")
    return number


def _stored(gateway: Gateway) -> _StoredGateway:
    where, dns = gateway.endpoint, gateway.dns
    key = gateway.public_key.text()
    return _StoredGateway(
        gateway.name, key, str(where.address), where.port, None if dns is None else str(dns)
    )


def _restored(stored: _StoredGateway) -> Gateway:
    endpoint = Endpoint(ip_address(stored.address), _port(stored.port))
    dns = None if stored.dns is None else ip_address(stored.dns)
    return Gateway(_name(stored.name), PublicKey.from_text(stored.public_key), endpoint, dns)
