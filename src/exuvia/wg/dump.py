"""
What the kernel tells of an interface, read where it lies.

A dump holds the interface's private key, every preshared key and every endpoint. It is
received into one buffer that is used again and overwritten, and nothing is taken out of it
but what is asked for: the purge scan takes public keys, times, counters, and whether an
endpoint is set. No endpoint and no private key ever becomes a Python object.
"""

import sys
from collections.abc import Iterator
from struct import Struct

from exuvia.errors import GarbledAnswer
from exuvia.wg.attributes import (
    ATTRIBUTE_HEADER,
    GENERIC_HEADER,
    MESSAGE_HEADER,
    NLA_TYPE_MASK,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_MIN_TYPE,
    InterfaceAttribute,
    PeerAttribute,
)
from exuvia.wg.layout import LAYOUT_OF, LAYOUTS, Layout
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
        self._layout = LAYOUTS[0]

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
        fresh = True
        while position + 4 <= end:
            if fresh and (clean := layout.clean_peers(buffer, position, end)):
                self.peers += clean
                position += clean * layout.clean
                continue
            fresh = False
            stop = self._run(layout, buffer, position, end, sightings)
            if stop == position:
                length, _ = _header(buffer, position)
                layout = self._layout = LAYOUT_OF.get(length, layout)
                stop = self._run(layout, buffer, position, end, sightings)
                if stop == position:
                    fresh = True  # it goes on behind the rest of a split peer
                    stop = position + (length + 3 & ~3)
                    if length < 4 or position + length > end:
                        raise garbled()
                    self._one(buffer, position + 4, position + length, sightings)
            position = stop
        if position != end:
            raise garbled()

    def _run(
        self, layout: Layout, buffer: bytearray, position: int, end: int, sightings: list[Sighting]
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


def garbled() -> GarbledAnswer:
    """Return the one error for a dump that can't be read; it repeats nothing of it."""
    return GarbledAnswer("what the interface says of its peers can't be read")


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
