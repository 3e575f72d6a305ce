"""
Configuration text as wg(8) and wg-quick(8) read it.

Sections, `Key = value` lines, comments from # on; names in any case; lists may be repeated.
What can't be read is refused with the number of its line, never with what stands there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Any

from exuvia.errors import InvalidConfiguration, InvalidKey
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey
from exuvia.wg.peers import Network, Peer

Address = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class PeerSection:
    """A [Peer] section."""

    peer: Peer
    has_endpoint: bool = False
    endpoint: str | None = None
    """HOST:PORT as it stands there, if it was asked for."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file; of wg-quick's own settings only those that a client needs."""

    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    addresses: tuple[Address, ...] = ()
    dns: tuple[str, ...] = ()
    peers: tuple[PeerSection, ...] = ()


def read(text: str, *, endpoints: bool = False) -> Configuration:
    """
    Return what a configuration file says; endpoints only if they are asked for.

    Raises InvalidConfiguration with the number of the first line that can't be read.
    """
    interface: dict[str, Any] = {}
    peers: list[dict[str, Any]] = []
    section: dict[str, Any] | None = None
    readers: dict[str, _Reader] = {}
    for number, name, value in _lines(text):
        if value is None:
            if name == "[interface]":
                section, readers = interface, _INTERFACE
            elif name == "[peer]":
                section, readers = {}, _PEER
                peers.append(section)
            else:
                raise _refused(number, "there is no such section")
        elif section is None:
            raise _refused(number, "a section like [Interface] must come first")
        else:
            _take(section, readers, number, name, value)
    return Configuration(**interface, peers=tuple(_peer(peer, endpoints=endpoints) for peer in peers))


def write(configuration: Configuration) -> str:
    """Return the text that wg-quick reads as this configuration."""
    lines = ["[Interface]"]
    if configuration.private_key is not None:
        lines.append(f"PrivateKey = {configuration.private_key.text()}")
    if configuration.listen_port is not None:
        lines.append(f"ListenPort = {configuration.listen_port}")
    if configuration.fwmark is not None:
        lines.append(f"FwMark = {configuration.fwmark:#x}")
    if configuration.addresses:
        lines.append(f"Address = {_list(configuration.addresses)}")
    if configuration.dns:
        lines.append(f"DNS = {_list(configuration.dns)}")
    for section in configuration.peers:
        lines += ["", *_written(section)]
    return "\n".join(lines) + "\n"


def keys_with_endpoint(text: str) -> set[bytes]:
    """Return the public keys of peers to which a configuration file gives an endpoint."""
    return {bytes(section.peer.public_key) for section in read(text).peers if section.has_endpoint}


def _lines(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield number, lower-case name and value of each line; a section has no value."""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            yield number, line.lower(), None
        elif line:
            name, equals, value = line.partition("=")
            if not equals:
                raise _refused(number, "it is neither a section nor a setting")
            yield number, name.strip().lower(), value.strip()


_Reader = tuple[str, Callable[[str], Any]]
"""Name of the field, and what makes its value; a tuple is added to what was there before."""


def _take(section: dict[str, Any], readers: dict[str, _Reader], number: int, name: str, value: str) -> None:
    """Put what a line says into its section."""
    if name in _QUICK_ONLY and readers is _INTERFACE:
        return
    if name not in readers:
        raise _refused(number, "there is no such setting in this section")
    field, reader = readers[name]
    try:
        found = reader(value)
    except InvalidKey as error:
        raise _refused(number, str(error)) from None
    except ValueError:
        raise _refused(number, "its value can't be read") from None
    if isinstance(found, tuple):
        found = section.get(field, ()) + found
    section[field] = found


def _peer(settings: dict[str, Any], *, endpoints: bool) -> PeerSection:
    endpoint = settings.pop("endpoint", None)
    if "public_key" not in settings:
        raise InvalidConfiguration("a [Peer] section has no PublicKey")
    return PeerSection(Peer(**settings), endpoint is not None, endpoint if endpoints else None)


def _written(section: PeerSection) -> Iterator[str]:
    peer = section.peer
    yield "[Peer]"
    yield f"PublicKey = {peer.public_key.text()}"
    if peer.preshared_key is not None:
        yield f"PresharedKey = {peer.preshared_key.text()}"
    if peer.allowed_ips:
        yield f"AllowedIPs = {_list(peer.allowed_ips)}"
    if section.endpoint is not None:
        yield f"Endpoint = {section.endpoint}"
    if peer.persistent_keepalive:
        yield f"PersistentKeepalive = {peer.persistent_keepalive}"


def _list(items: tuple[object, ...]) -> str:
    return ", ".join(str(item) for item in items)


def _split(value: str) -> list[str]:
    """Return the items of a list; an empty value is an empty list, an empty item a mistake."""
    items = [item.strip() for item in value.split(",")]
    if items == [""]:
        return []
    if "" in items:
        raise ValueError
    return items


def _networks(value: str) -> tuple[Network, ...]:
    # Bits behind the prefix are dropped, as the kernel does.
    return tuple(ip_network(item, strict=False) for item in _split(value))


def _addresses(value: str) -> tuple[Address, ...]:
    return tuple(ip_interface(item) for item in _split(value))


def _names(value: str) -> tuple[str, ...]:
    return tuple(_split(value))


def _preshared(value: str) -> PresharedKey | None:
    key = PresharedKey.from_text(value)
    return key if any(key) else None


def _number(value: str, most: int) -> int:
    if value.lower() == "off":
        return 0
    base = 16 if value.lower().startswith("0x") else 10
    if not value.isascii() or not value.isalnum():
        raise ValueError
    number = int(value, base)
    if number > most:
        raise ValueError
    return number


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or int(value) > 65_535:
        raise ValueError
    return int(value)


def _endpoint(value: str) -> str:
    """Return HOST:PORT or [IPV6]:PORT; whether there is such a host is not asked."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or _port(port) == 0 or any(letter.isspace() for letter in host):
        raise ValueError
    if (":" in host) != (host.startswith("[") and host.endswith("]")):
        raise ValueError
    return value


def _refused(number: int, why: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"line {number}: {why}")


_INTERFACE: dict[str, _Reader] = {
    "privatekey": ("private_key", PrivateKey.from_text),
    "listenport": ("listen_port", _port),
    "fwmark": ("fwmark", lambda value: _number(value, 0xFFFF_FFFF)),
    "address": ("addresses", _addresses),
    "dns": ("dns", _names),
}
_PEER: dict[str, _Reader] = {
    "publickey": ("public_key", PublicKey.from_text),
    "presharedkey": ("preshared_key", _preshared),
    "allowedips": ("allowed_ips", _networks),
    "endpoint": ("endpoint", _endpoint),
    "persistentkeepalive": ("persistent_keepalive", lambda value: _number(value, 65_535)),
}
_QUICK_ONLY = {"mtu", "table", "preup", "postup", "predown", "postdown", "saveconfig"}
"""Settings of wg-quick that say nothing of WireGuard itself: passed over."""
