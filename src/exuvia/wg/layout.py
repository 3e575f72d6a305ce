"""
How today's kernels lay out a peer's entry in a dump, as patterns that pass over many at once.

Nearly all peers of a gateway have one IPv4 and one IPv6 address, and so their entries have
one of a few shapes. A regular expression checks the headers of a whole run of them, several
times as fast as anything that looks at each from Python. Whatever fits no pattern is left to
a walk over its attributes (get_peer in drivers/net/wireguard/netlink.c writes them).
"""

import re
import sys
from array import array
from struct import Struct

from exuvia.wg.attributes import (
    AF_INET,
    AF_INET6,
    ATTRIBUTE_HEADER,
    NLA_F_NESTED,
    AllowedIPAttribute,
    PeerAttribute,
    attribute,
    nest,
)

PRESHARED_KEY = 44
"""Where in such an entry the preshared key begins."""


class Layout:
    """
    Runs of entries with the same pads: clean ones, then some with an IPv4, some with an IPv6 endpoint.

    `match` finds them, with an empty group before each kind but the first; `numbers` reads key,
    seconds, nanoseconds, tx and rx of one.
    """

    def __init__(self, pads: tuple[bytes, bytes]) -> None:
        self.clean, self.with4, self.with6 = _lengths(pads)
        runs = (
            _entries(self.clean, pads, number=re.escape(bytes(8))),
            _entries(self.with4, pads, endpoint=_SOCKADDR_IN),
            _entries(self.with6, pads, endpoint=_SOCKADDR_IN6),
        )
        self.match = re.compile(b"()".join(runs), re.DOTALL).match
        before_tx, before_rx = pads
        numbers = f"=8x32s40xqq8x{len(before_tx)}x4xQ{len(before_rx)}x4xQ"
        self.numbers = Struct(numbers).unpack_from
        self._columns = _columns(self.clean, pads)

    def clean_peers(self, buffer: bytearray, position: int, end: int) -> int:
        """
        Return how many peers fit between two places, if all of them are clean, else 0.

        Entries of one length stand in columns: a word that must be the same in each is compared
        for all of them at once, four times as fast as by `match`.
        """
        count = min((end - position) // self.clean, _MOST)
        words = memoryview(buffer)[position : position + count * self.clean].cast("I")
        step = self.clean // 4
        if all(words[place::step] == same[:count] for place, same in self._columns):
            return count
        return 0


def _columns(length: int, pads: tuple[bytes, bytes]) -> list[tuple[int, memoryview]]:
    """Return the words of a clean entry that are always the same: where they are, and as a column."""
    before_tx, before_rx = pads
    before = _head(NLA_F_NESTED, length - 4) + _KEY + bytes(32) + _PRESHARED + bytes(32)
    state = _HANDSHAKE + bytes(16) + _KEEPALIVE + bytes(4)
    counters = before_tx + _TX + bytes(8) + before_rx + _RX + bytes(8)
    entry = memoryview(before + state + counters + _VERSION + _head(_ALLOWEDIPS, 68)).cast("I")
    places = [0, 1, 10, *range(19, 25), *range(26, len(entry))]
    return [(place, memoryview(array("I", [entry[place]] * _MOST))) for place in places]


def _entries(
    length: int,
    pads: tuple[bytes, bytes],
    *,
    number: bytes = b".{8}",
    keepalive: bytes = b".{4}",
    endpoint: int = 0,
    addresses: bytes = b".{68}",
) -> bytes:
    """Return the pattern of any number of entries of this length."""
    before_tx, before_rx = pads
    parts = (
        re.escape(_head(NLA_F_NESTED, length - 4) + _KEY) + b".{32}",
        re.escape(_PRESHARED) + b".{32}",
        re.escape(_HANDSHAKE) + number * 2,
        re.escape(_KEEPALIVE) + keepalive,
        re.escape(before_tx + _TX) + number,
        re.escape(before_rx + _RX) + number,
        re.escape(_VERSION),
        re.escape(_head(PeerAttribute.ENDPOINT, endpoint)) + b".{%d}" % endpoint if endpoint else b"",
        re.escape(_head(_ALLOWEDIPS, 68)) + addresses,
    )
    # Not possessive: Python before 3.11.5, Debian 12's among them, ends such a match too late
    # (CPython's gh-106052). Nothing behind it can fail, so that nothing is ever matched twice.
    return b"(?:" + b"".join(parts) + b")*"


def _lengths(pads: tuple[bytes, bytes]) -> tuple[int, int, int]:
    """Return the length of an entry without, with an IPv4, and with an IPv6 endpoint."""
    shortest = 208 + len(pads[0]) + len(pads[1])
    return shortest, shortest + 4 + _SOCKADDR_IN, shortest + 4 + _SOCKADDR_IN6


def _head(kind: int, payload: int) -> bytes:
    return ATTRIBUTE_HEADER.pack(4 + payload, kind)


def _address(family: int, prefix: int, length: int) -> bytes:
    """Return the pattern of an allowed IP that is one host, whatever its address."""
    sample = nest(
        0,
        attribute(AllowedIPAttribute.CIDR_MASK, prefix.to_bytes(1, sys.byteorder)),
        attribute(AllowedIPAttribute.FAMILY, family.to_bytes(2, sys.byteorder)),
        attribute(AllowedIPAttribute.IPADDR, bytes(length)),
    )
    return re.escape(sample[:-length]) + b".{%d}" % length


_MOST = 160
"""Entries in a message, at most: a message has 32 KiB."""
_SOCKADDR_IN, _SOCKADDR_IN6 = 16, 28
_KEY = _head(PeerAttribute.PUBLIC_KEY, 32)
_PRESHARED = _head(PeerAttribute.PRESHARED_KEY, 32)
_HANDSHAKE = _head(PeerAttribute.LAST_HANDSHAKE_TIME, 16)
_KEEPALIVE = _head(PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL, 2)
_TX = _head(PeerAttribute.TX_BYTES, 8)
_RX = _head(PeerAttribute.RX_BYTES, 8)
_VERSION = attribute(PeerAttribute.PROTOCOL_VERSION, (1).to_bytes(4, sys.byteorder))
_ALLOWEDIPS = PeerAttribute.ALLOWEDIPS | NLA_F_NESTED

_PAD = ATTRIBUTE_HEADER.pack(4, PeerAttribute.UNSPEC)
_PADS = ((b"", b""), (_PAD, _PAD), (b"", _PAD))
"""
Some machines put an empty attribute before a 64-bit counter that would otherwise not be
aligned (nla_put_u64_64bit); whether before one or both depends on where the peer lies.
"""
LAYOUTS = tuple(Layout(pads) for pads in _PADS)
LAYOUT_OF = {length: layout for layout in LAYOUTS for length in (layout.clean, layout.with4, layout.with6)}
"""The layout that an entry of this length may have."""


class TunnelLayout:
    """
    Runs of entries of one length that are each some TunnelPeer, whatever their keys and addresses.

    `match` finds them; `names` reads public key, IPv4 and IPv6 address of one.
    """

    def __init__(self, length: int, pads: tuple[bytes, bytes], endpoint: int) -> None:
        addresses = _address(AF_INET, 32, 4) + _address(AF_INET6, 128, 16)
        keepalive = re.escape(bytes(4))
        pattern = _entries(length, pads, keepalive=keepalive, endpoint=endpoint, addresses=addresses)
        self.match = re.compile(pattern, re.DOTALL).match
        self.names = Struct(f"=8x32s{length - 84}x4s24x16s").unpack_from


TUNNEL_LAYOUTS = {
    length: TunnelLayout(length, pads, endpoint)
    for pads in _PADS
    for length, endpoint in zip(_lengths(pads), (0, _SOCKADDR_IN, _SOCKADDR_IN6), strict=True)
}
"""By the length of an entry."""
