"""
Links, addresses, routes and rules of this network namespace: what is to become of them, as values.

`run` does it by rtnetlink: starting `ip` for each step would take longer than everything else in a
change of keys (docs/decisions/0029).
"""

import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import NamedTuple

from exuvia.errors import InterfaceUnavailable
from exuvia.system.interface import index_of
from exuvia.system.rtnetlink import Rtnetlink, attributes
from exuvia.wg.attributes import NLM_F_ACK, attribute, nest

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

GROUP = 0x6578
"""The group ("ex") of links that we made; it is set in the instant in which a link is made."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network link that there is."""

    index: int
    name: str
    up: bool
    group: int
    alias: str


class AddLink(NamedTuple):
    """Make a link of WireGuard's kind."""

    name: str
    group: int = 0


class SetLink(NamedTuple):
    """Change these of a link's properties."""

    link: str
    up: bool = False
    mtu: int | None = None
    group: int | None = None
    alias: str | None = None


class DeleteLink(NamedTuple):
    """Remove a link, with its addresses and routes."""

    link: str


class ReplaceAddress(NamedTuple):
    """Give a link an address, if it hasn't got it; an IPv6 one at once, without looking for others' use."""

    link: str
    address: Interface


class DeleteAddress(NamedTuple):
    """Take an address from a link."""

    link: str
    address: Interface


class ReplaceRoute(NamedTuple):
    """Lead a whole family by this link, with this source, in place of the table's route until now."""

    link: str
    source: Address
    table: int


class AddRule(NamedTuple):
    """
    Let what all of this is true of be looked up in `table`, or go on at the rule `goto`.

    With neither it does nothing, but can be gone to.
    """

    family: int
    """4 or 6."""
    priority: int
    table: int = 0
    goto: int = 0
    source: Address | None = None
    destination: Address | None = None
    mark: tuple[int, int] | None = None
    """Packet mark and mask."""
    but_default: bool = False
    """Whether the table's default route does not count."""


class DeleteRule(NamedTuple):
    """Remove the first rule of a family with this priority, and from or to this address if one is given."""

    family: int
    priority: int
    source: Address | None = None
    destination: Address | None = None


Change = AddLink | SetLink | DeleteLink | ReplaceAddress | DeleteAddress | ReplaceRoute | AddRule | DeleteRule
Message = tuple[int, int, bytes]
"""Type, flags and body."""

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE = 24
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_IFINFO, _IFADDR, _RTMSG, _RULE = (struct.Struct(form) for form in ("=BxHiII", "=4BI", "=8BI", "=8BI"))
_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_EXT_MASK = 3, 4, 18, 20, 27, 29
_IFLA_INFO_KIND = 1
_SKIP_STATISTICS = 8
_IFA_ADDRESS, _IFA_LOCAL, _NODAD = 1, 2, 2
_RTA_OIF, _RTA_PREFSRC, _RTA_TABLE = 4, 7, 15
_BOOT, _LINK_SCOPE, _UNICAST = 3, 253, 1
_FRA_DST, _FRA_SRC, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK = 1, 2, 4, 6, 10
_FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK = 14, 15, 16
_TO_TABLE, _GO_TO, _NOTHING = 1, 2, 3
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Links:
    """A socket that stays open, for whoever looks and writes often."""

    def __init__(self) -> None:
        self._kernel = Rtnetlink()

    def find(self, name: str) -> Link | None:
        """Return the link with this name, or None if there is none."""
        answer = self._kernel.ask(_GETLINK, 0, _question(name))
        return None if answer is None else _link(answer)

    def write_alias(self, index: int, text: str) -> None:
        """Write a text of at most 255 bytes on the link with this index, whatever its name is by now."""
        _do(self._kernel, SetLink("", alias=text), index)

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()


def run(changes: Iterable[Change]) -> None:
    """
    Do this, one after the other; the first that fails ends it.

    Raises NotPermitted or InterfaceUnavailable, NotInKernel for a link of a kind that it can't make.
    """
    with Rtnetlink() as kernel:
        for change in changes:
            # An interface that is yet to be made has no number.
            index = 0 if isinstance(change, AddLink | AddRule | DeleteRule) else index_of(change.link)
            _do(kernel, change, index)


def found() -> list[Link]:
    """Return the links that there are."""
    with Rtnetlink() as kernel:
        return [_link(answer) for answer in kernel.dump(_GETLINK, _question(""))]


def addresses(name: str) -> list[Interface]:
    """Return the addresses of a link that reach beyond it."""
    index = index_of(name)
    with Rtnetlink() as kernel:
        answers = kernel.dump(_GETADDR, _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    given: list[Interface] = []
    for answer in answers:
        parts = attributes(answer, _IFADDR.size)
        _, length, _, scope, owner = _IFADDR.unpack_from(answer)
        raw = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS)
        if owner == index and scope == 0 and raw:
            given.append(ip_interface((raw, length)))
    return given


def priorities(family: int) -> list[int]:
    """Return the priorities of a family's rules, in their order."""
    with Rtnetlink() as kernel:
        answers = kernel.dump(_GETRULE, _RULE.pack(_FAMILIES[family], *bytes(7), 0))
    return [_number(attributes(answer, _RULE.size).get(_FRA_PRIORITY, b"")) for answer in answers]


def message(change: Change, index: int) -> Message:
    """Return what makes the change; `index` is that of the link in question, if it exists."""
    match change:
        case AddLink() | SetLink() | DeleteLink():
            return _about_link(change, index)
        case ReplaceAddress(_, address):
            return _NEWADDR, _CREATE | _REPLACE, _address(address, index)
        case DeleteAddress(_, address):
            return _DELADDR, 0, _address(address, index)
        case ReplaceRoute():
            return _NEWROUTE, _CREATE | _REPLACE, _route(change, index)
        case AddRule():
            return _NEWRULE, _CREATE | _EXCLUSIVE, _added_rule(change)
        case DeleteRule():
            return _DELRULE, 0, _rule(change, 0, b"")


def _do(kernel: Rtnetlink, change: Change, index: int) -> None:
    kind, flags, body = message(change, index)
    if kernel.ask(kind, flags | NLM_F_ACK, body) is None:
        raise InterfaceUnavailable("the interface is gone")


def _link(answer: bytes) -> Link:
    parts = attributes(answer, _IFINFO.size)
    _, _, index, flags, _ = _IFINFO.unpack_from(answer)
    name, alias = (
        parts.get(kind, b"").rstrip(b"\0").decode("utf-8", "replace")
        for kind in (_IFLA_IFNAME, _IFLA_IFALIAS)
    )
    return Link(index, name, bool(flags & _UP), _number(parts.get(_IFLA_GROUP, b"")), alias)


def _question(name: str) -> bytes:
    named = attribute(_IFLA_IFNAME, name.encode() + b"\0") if name else b""
    return _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + named + _u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)


def _about_link(change: AddLink | SetLink | DeleteLink, index: int) -> Message:
    header = _IFINFO.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    match change:
        case AddLink(name, group):
            kind = nest(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"wireguard"))
            body = header + attribute(_IFLA_IFNAME, name.encode() + b"\0") + _u32(_IFLA_GROUP, group) + kind
            return _NEWLINK, _CREATE | _EXCLUSIVE, body
        case DeleteLink():
            return _DELLINK, 0, header
        case SetLink(_, up, mtu, group, alias):
            parts = [_IFINFO.pack(socket.AF_UNSPEC, 0, index, _UP * up, _UP * up)]
            parts += [] if alias is None else [attribute(_IFLA_IFALIAS, alias.encode())]
            parts += [] if mtu is None else [_u32(_IFLA_MTU, mtu)]
            parts += [] if group is None else [_u32(_IFLA_GROUP, group)]
            return _SETLINK, 0, b"".join(parts)


def _address(address: Interface, index: int) -> bytes:
    # Nobody else has it: while the kernel still looks for one, no route may name it.
    flags = _NODAD if address.version == 6 else 0
    header = _IFADDR.pack(_FAMILIES[address.version], address.network.prefixlen, flags, 0, index)
    return header + attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)


def _route(route: ReplaceRoute, index: int) -> bytes:
    family = _FAMILIES[route.source.version]
    header = _RTMSG.pack(family, 0, 0, 0, 0, _BOOT, _LINK_SCOPE, _UNICAST, 0)
    source = attribute(_RTA_PREFSRC, route.source.packed)
    return header + _u32(_RTA_OIF, index) + source + _u32(_RTA_TABLE, route.table)


def _added_rule(rule: AddRule) -> bytes:
    action = _TO_TABLE if rule.table else _GO_TO if rule.goto else _NOTHING
    parts = [_u32(_FRA_TABLE, rule.table)] if rule.table else []
    parts += [_u32(_FRA_GOTO, rule.goto)] if rule.goto else []
    parts += [_u32(_FRA_SUPPRESS_PREFIXLEN, 0)] if rule.but_default else []
    if rule.mark is not None:
        parts += [_u32(_FRA_FWMARK, rule.mark[0]), _u32(_FRA_FWMASK, rule.mark[1])]
    return _rule(rule, action, b"".join(parts))


def _rule(rule: AddRule | DeleteRule, action: int, rest: bytes) -> bytes:
    ends = [(_FRA_DST, rule.destination), (_FRA_SRC, rule.source)]
    lengths = [0 if address is None else address.max_prefixlen for _, address in ends]
    header = _RULE.pack(_FAMILIES[rule.family], *lengths, 0, 0, 0, 0, action, 0)
    named = b"".join(attribute(kind, address.packed) for kind, address in ends if address is not None)
    return header + named + _u32(_FRA_PRIORITY, rule.priority) + rest


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, sys.byteorder))


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)
