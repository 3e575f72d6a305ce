"""
What the kernel tells of an interface, read where it lies.

A dump holds the interface's private key, every preshared key and every endpoint. It is
received into one buffer that is used again and overwritten, and nothing is taken out of it
but what is asked for: the purge scan takes public keys, times, counters, and whether an
endpoint is set. No endpoint and no private key ever becomes a Python object.
"""

import re
import sys
from collections.abc import Iterator
from struct import Struct

from exuvia.errors import GarbledAnswer
from exuvia.wg.attributes import (
    ATTRIBUTE_HEADER,
    GENERIC_HEADER,
    MESSAGE_HEADER,
    NLA_F_NESTED,
    NLA_TYPE_MASK,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_MIN_TYPE,
    InterfaceAttribute,
    PeerAttribute,
    attribute,
)
from exuvia.wg.peers import Sighting

LARGEST_MESSAGE = 32_768
"""Bytes: the kernel makes no dump message longer (netlink_dump in net/netlink/af_netlink.c)."""

_header = ATTRIBUTE_HEADER.unpack_from
_sighting = tuple.__new__


class Dump:
    """
    How far one dump has come, and whether it was whole.

    Changes by others while the dump runs set NLM_F_DUMP_INTR on any one of its messages, not
    on the last. What such a dump says of a peer is true; what it leaves out proves nothing.
    """

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence
        self.done = False
        self.errno = 0
        self.interrupted = False

    @property
    def whole(self) -> bool:
        """Whether it came to its end without an error and without interruption."""
        return self.done and not self.errno and not self.interrupted

    def attributes(self, buffer: bytearray, length: int) -> Iterator[tuple[int, int]]:
        """Yield start and end of the attributes of each message in a received datagram."""
        position = 0
        while position < length:
            if self.done or length - position < 16:
                raise garbled()
            size, kind, flags, sequence, _port = MESSAGE_HEADER.unpack_from(buffer, position)
            end = position + size
            if size < 16 or end > length or sequence != self._sequence:
                raise garbled()
            if flags & NLM_F_DUMP_INTR:
                self.interrupted = True
            start = position + 16
            if kind >= NLMSG_MIN_TYPE:
                yield start + GENERIC_HEADER.size, end
            elif kind in (NLMSG_DONE, NLMSG_ERROR):
                self._finish(buffer, start, end)
            position += size + 3 & ~3

    def _finish(self, buffer: bytearray, start: int, end: int) -> None:
        if end - start < 4:
            raise garbled()
        self.done = True
        self.errno = -int.from_bytes(buffer[start : start + 4], sys.byteorder, signed=True)


class Scan:
    """
    One look at an interface for what there is to forget, datagram by datagram.

    Entries that continue a peer split over two messages carry its key and allowed IPs only:
    they are the same peer, and say nothing of its endpoint or handshake.
    """

    def __init__(self, sequence: int) -> None:
        self.dump = Dump(sequence)
        self.peers = 0
        self._layout = _LAYOUTS[0]

    def feed(self, buffer: bytearray, length: int) -> list[Sighting]:
        """
        Return the peers of this datagram that are not clean.

        Not clean is whoever has an endpoint, a handshake, or has received or sent a byte.
        Raises GarbledAnswer if the datagram can't be read.
        """
        sightings: list[Sighting] = []
        for start, end in self.dump.attributes(buffer, length):
            for kind, first, last in walk(buffer, start, end):
                if kind == InterfaceAttribute.PEERS:
                    self._peers(buffer, first, last, sightings)
        return sightings

    def _peers(self, buffer: bytearray, position: int, end: int, sightings: list[Sighting]) -> None:
        layout = self._layout
        while position + 4 <= end:
            stop = self._run(layout, buffer, position, end, sightings)
            if stop == position:
                length, _ = _header(buffer, position)
                layout = self._layout = _LAYOUT_OF.get(length, layout)
                stop = self._run(layout, buffer, position, end, sightings)
                if stop == position:
                    stop = position + (length + 3 & ~3)
                    if length < 4 or position + length > end:
                        raise garbled()
                    self._one(buffer, position + 4, position + length, sightings)
            position = stop
        if position != end:
            raise garbled()

    def _run(
        self, layout: "_Layout", buffer: bytearray, position: int, end: int, sightings: list[Sighting]
    ) -> int:
        """Read peers that are laid out as usual, clean ones first; return where they end."""
        run = layout.match(buffer, position, end)
        if run is None:
            return position
        clean, with4, with6 = run.span(1)[0], run.span(2)[0], run.end()
        self.peers += (clean - position) // layout.clean
        if clean == with6:
            return clean
        read, add = layout.numbers, sightings.append
        for first, last, length in ((clean, with4, layout.with4), (with4, with6, layout.with6)):
            self.peers += (last - first) // length
            for start in range(first, last, length):
                key, seconds, nanoseconds, tx, rx = read(buffer, start)
                add(_sighting(Sighting, (key, seconds * 1_000_000_000 + nanoseconds, rx, tx, True)))
        return with6

    def _one(self, buffer: bytearray, start: int, end: int, sightings: list[Sighting]) -> None:
        """Read a peer that is laid out differently, or what continues a split one."""
        entry = _any_order(buffer, start, end)
        if entry is not None:
            self.peers += 1
            if entry.endpoint or entry.handshake or entry.rx or entry.tx:
                sightings.append(entry)


def walk(buffer: bytearray, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of the payload of each attribute between two places."""
    while position + 4 <= end:
        length, kind = _header(buffer, position)
        if length < 4 or position + length > end:
            raise garbled()
        yield kind & NLA_TYPE_MASK, position + 4, position + length
        position += length + 3 & ~3
    if position < end:
        raise garbled()


def _any_order(buffer: bytearray, start: int, end: int) -> Sighting | None:
    """Return an entry whatever the order of its attributes; None if it continues a split peer."""
    found: dict[int, int] = {}
    for kind, first, last in walk(buffer, start, end):
        if last - first != _LENGTHS.get(kind, last - first):
            raise garbled()
        found[kind] = first
    found.pop(PeerAttribute.UNSPEC, None)
    if PeerAttribute.PUBLIC_KEY not in found:
        raise garbled()
    if found.keys() <= {PeerAttribute.PUBLIC_KEY, PeerAttribute.ALLOWEDIPS}:
        return None
    try:
        seconds, nanoseconds = _TIME(buffer, found[PeerAttribute.LAST_HANDSHAKE_TIME])
        (rx,) = _COUNT(buffer, found[PeerAttribute.RX_BYTES])
        (tx,) = _COUNT(buffer, found[PeerAttribute.TX_BYTES])
    except KeyError:
        raise garbled() from None
    key = found[PeerAttribute.PUBLIC_KEY]
    handshake = seconds * 1_000_000_000 + nanoseconds
    return Sighting(bytes(buffer[key : key + 32]), handshake, rx, tx, PeerAttribute.ENDPOINT in found)


class _Layout:
    """
    Peers' entries as today's kernels write them, each with one IPv4 and one IPv6 address.

    Nearly all peers of a gateway are so. A regular expression checks the headers of a whole
    run of them, several times as fast as anything that looks at each from Python: first
    clean peers, then some with an IPv4 endpoint, then some with an IPv6 endpoint.
    """

    def __init__(self, before_tx: bytes, before_rx: bytes) -> None:
        self.clean = _SHORTEST + len(before_tx) + len(before_rx)
        self.with4 = self.clean + 4 + _SOCKADDR_IN
        self.with6 = self.clean + 4 + _SOCKADDR_IN6
        pads = (before_tx, before_rx)
        runs = (
            _entries(self.clean, pads, re.escape(bytes(8)), b""),
            _entries(self.with4, pads, b".{8}", _endpoint(_SOCKADDR_IN)),
            _entries(self.with6, pads, b".{8}", _endpoint(_SOCKADDR_IN6)),
        )
        self.match = re.compile(b"()".join(runs), re.DOTALL).match
        numbers = f"=8x32s40xqq8x{len(before_tx)}x4xQ{len(before_rx)}x4xQ"
        self.numbers = Struct(numbers).unpack_from


def _entries(length: int, pads: tuple[bytes, bytes], number: bytes, endpoint: bytes) -> bytes:
    """Return the pattern of any number of such entries, each of this length."""
    before_tx, before_rx = pads
    parts = (
        re.escape(_head(NLA_F_NESTED, length - 4) + _KEY) + b".{32}",
        re.escape(_PRESHARED) + b".{32}",
        re.escape(_HANDSHAKE) + number * 2,
        re.escape(_KEEPALIVE) + b".{4}",
        re.escape(before_tx + _TX) + number,
        re.escape(before_rx + _RX) + number,
        re.escape(_VERSION) + endpoint,
        re.escape(_head(_ALLOWEDIPS, _TUNNEL_IPS)) + b".{%d}" % _TUNNEL_IPS,
    )
    return b"(?:" + b"".join(parts) + b")*+"


def _endpoint(length: int) -> bytes:
    """Return the pattern of any endpoint of this length."""
    return re.escape(_head(PeerAttribute.ENDPOINT, length)) + b".{%d}" % length


def _head(kind: int, payload: int) -> bytes:
    return ATTRIBUTE_HEADER.pack(4 + payload, kind)


def garbled() -> GarbledAnswer:
    """Return the one error for a dump that can't be read; it repeats nothing of it."""
    return GarbledAnswer("what the interface says of its peers can't be read")


_KEY = _head(PeerAttribute.PUBLIC_KEY, 32)
_PRESHARED = _head(PeerAttribute.PRESHARED_KEY, 32)
_HANDSHAKE = _head(PeerAttribute.LAST_HANDSHAKE_TIME, 16)
_KEEPALIVE = _head(PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL, 2)
_TX = _head(PeerAttribute.TX_BYTES, 8)
_RX = _head(PeerAttribute.RX_BYTES, 8)
_VERSION = attribute(PeerAttribute.PROTOCOL_VERSION, (1).to_bytes(4, sys.byteorder))
_ALLOWEDIPS = PeerAttribute.ALLOWEDIPS | NLA_F_NESTED
_TUNNEL_IPS = 28 + 40
_SHORTEST = 208
_SOCKADDR_IN = 16
_SOCKADDR_IN6 = 28
_TIME = Struct("=qq").unpack_from
_COUNT = Struct("=Q").unpack_from
_LENGTHS: dict[int, int] = {
    PeerAttribute.PUBLIC_KEY: 32,
    PeerAttribute.PRESHARED_KEY: 32,
    PeerAttribute.LAST_HANDSHAKE_TIME: 16,
    PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL: 2,
    PeerAttribute.RX_BYTES: 8,
    PeerAttribute.TX_BYTES: 8,
}
_PAD = ATTRIBUTE_HEADER.pack(4, PeerAttribute.UNSPEC)
_LAYOUTS = (_Layout(b"", b""), _Layout(_PAD, _PAD), _Layout(b"", _PAD))
"""
Some machines put an empty attribute before a 64-bit counter that would otherwise not be
aligned (nla_put_u64_64bit); whether before one or both depends on where the peer lies.
"""
_LAYOUT_OF = {length: layout for layout in _LAYOUTS for length in (layout.clean, layout.with4, layout.with6)}
