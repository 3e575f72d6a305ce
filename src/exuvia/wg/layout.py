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
from collections.abc import Iterator
from operator import itemgetter
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


class Layout:
    """
    Runs of entries with the same pads: clean ones, then some with an IPv4, some with an IPv6 endpoint.

    `match` finds them, with an empty group before each kind but the first; `numbers` reads key,
    seconds, nanoseconds, tx and rx of one. `clean_peers` counts clean ones.
    """

    def __init__(self, pads: tuple[bytes, bytes]) -> None:
        self.clean, self.with4, self.with6 = _lengths(pads)
        clean = _entry(self.clean, pads, number=bytes(8), keepalive=bytes(4))
        runs = (
            clean,
            _entry(self.with4, pads, endpoint=_SOCKADDR_IN),
            _entry(self.with6, pads, endpoint=_SOCKADDR_IN6),
        )
        self.match = re.compile(b"()".join(map(_any_number, runs)), re.DOTALL).match
        before_tx, before_rx = pads
        numbers = f"=8x32s40xqq8x{len(before_tx)}x4xQ{len(before_rx)}x4xQ"
        self.numbers = Struct(numbers).unpack_from
        self.clean_peers = Columns(clean).count


class Columns:
    """
    Entries of one length, which stand in columns.

    A word that must be the same in each is compared for all of them at once, several times as
    fast as by a regular expression.
    """

    def __init__(self, entry: "_Parts") -> None:
        self._length = _length(entry)
        self._fixed = [(place, memoryview(array("I", [word] * _MOST))) for place, word in _fixed_words(entry)]

    def count(self, buffer: bytearray, position: int, end: int) -> int:
        """Return how many entries fit between two places, if all of them are such, else 0."""
        count = min((end - position) // self._length, _MOST)
        words = memoryview(buffer)[position : position + count * self._length].cast("I")
        step = self._length // 4
        if all(words[place::step] == same[:count] for place, same in self._fixed):
            return count
        return 0


_Parts = tuple[bytes | int, ...]
"""An entry, part by part: bytes that are always the same, or how many may be any."""


def _entry(
    length: int,
    pads: tuple[bytes, bytes],
    *,
    number: bytes | int = 8,
    keepalive: bytes | int = 4,
    endpoint: int = 0,
    addresses: _Parts = (68,),
) -> _Parts:
    """Return the parts of an entry of this length."""
    before_tx, before_rx = pads
    return (
        _head(NLA_F_NESTED, length - 4) + _KEY,
        32,
        _PRESHARED,
        32,
        _HANDSHAKE,
        number,
        number,
        _KEEPALIVE,
        keepalive,
        before_tx + _TX,
        number,
        before_rx + _RX,
        number,
        _VERSION,
        *((_head(PeerAttribute.ENDPOINT, endpoint), endpoint) if endpoint else ()),
        _head(_ALLOWEDIPS, 68),
        *addresses,
    )


def _any_number(entry: _Parts) -> bytes:
    """Return the pattern of any number of such entries."""
    parts = (b".{%d}" % part if isinstance(part, int) else re.escape(part) for part in entry)
    # Not possessive: Python before 3.11.5, Debian 12's among them, ends such a match too late
    # (CPython's gh-106052). Nothing behind it can fail, so that nothing is ever matched twice.
    return b"(?:" + b"".join(parts) + b")*"


def _length(entry: _Parts) -> int:
    return sum(part if isinstance(part, int) else len(part) for part in entry)


def _fixed_words(entry: _Parts) -> Iterator[tuple[int, int]]:
    """Yield place and value of each word that is always the same."""
    place = 0
    for part in entry:
        if isinstance(part, int):
            place += part // 4
        else:
            for word in memoryview(part).cast("I"):
                yield place, word
                place += 1


def _lengths(pads: tuple[bytes, bytes]) -> tuple[int, int, int]:
    """Return the length of an entry without, with an IPv4, and with an IPv6 endpoint."""
    shortest = 208 + len(pads[0]) + len(pads[1])
    return shortest, shortest + 4 + _SOCKADDR_IN, shortest + 4 + _SOCKADDR_IN6


def _head(kind: int, payload: int) -> bytes:
    return ATTRIBUTE_HEADER.pack(4 + payload, kind)


def _address(family: int, prefix: int, length: int) -> _Parts:
    """Return the parts of an allowed IP that is one host, whatever its address."""
    sample = nest(
        0,
        attribute(AllowedIPAttribute.CIDR_MASK, prefix.to_bytes(1, sys.byteorder)),
        attribute(AllowedIPAttribute.FAMILY, family.to_bytes(2, sys.byteorder)),
        attribute(AllowedIPAttribute.IPADDR, bytes(length)),
    )
    return sample[:-length], length


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
    """Runs of entries of one length that are each some TunnelPeer, whatever their keys and addresses."""

    def __init__(self, length: int, pads: tuple[bytes, bytes], endpoint: int) -> None:
        addresses = _address(AF_INET, 32, 4) + _address(AF_INET6, 128, 16)
        entry = _entry(length, pads, keepalive=bytes(4), endpoint=endpoint, addresses=addresses)
        self._length = length
        self._count = Columns(entry).count
        self._match = re.compile(_any_number(entry), re.DOTALL).match
        self._parts = Struct(f"=8x32s4x32s{length - 120}x4s24x16s").iter_unpack

    def run(self, buffer: bytearray, position: int, end: int) -> int:
        """Return where the run ends that begins here; `position` if none does."""
        count = self._count(buffer, position, end)
        if position + count * self._length == end:
            return end
        run = self._match(buffer, position, end)
        return run.end() if run else position

    def peers(self, buffer: bytearray, position: int, end: int) -> tuple[list[bytes], list[bytes]]:
        """Return the keys of a run's peers, and each peer packed as a TunnelPeer is."""
        parts = list(self._parts(memoryview(buffer)[position:end]))
        return list(map(_key_of, parts)), list(map(b"".join, map(_packed, parts)))


_key_of = itemgetter(0)
_packed = itemgetter(0, 2, 3, 1)
TUNNEL_LAYOUTS = {
    length: TunnelLayout(length, pads, endpoint)
    for pads in _PADS
    for length, endpoint in zip(_lengths(pads), (0, _SOCKADDR_IN, _SOCKADDR_IN6), strict=True)
}
"""By the length of an entry."""
