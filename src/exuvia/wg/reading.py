"""
Peers' configuration out of a dump: compared where it lies, or as values for chosen peers.

Allowed IPs of one peer may be split over several messages; the parts are put together
before anything is concluded from them.
"""

import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from struct import Struct
from typing import Self

from exuvia.wg.attributes import (
    AF_INET,
    AF_INET6,
    ATTRIBUTE_HEADER,
    AllowedIPAttribute,
    InterfaceAttribute,
    PeerAttribute,
)
from exuvia.wg.dump import Dump, garbled, walk
from exuvia.wg.interface import Comparison, Configured, Facts
from exuvia.wg.keys import PresharedKey, PublicKey
from exuvia.wg.layout import TUNNEL_LAYOUTS
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer

_ORDER = sys.byteorder
_header = ATTRIBUTE_HEADER.unpack_from


class Configurations:
    """Reads the configuration of chosen peers, or of all if `wanted` is None."""

    def __init__(self, sequence: int, wanted: Container[bytes] | None = None) -> None:
        self.dump = Dump(sequence)
        self.peers = 0
        self._wanted = wanted
        self._passed_over = b""
        self._merge = _Merge()

    def feed(self, buffer: bytearray, length: int) -> list[Configured]:
        """Return the chosen peers of which this datagram tells, or completes, the configuration."""
        read = []
        for position, end in _peers(self.dump, buffer, length):
            key = bytes(buffer[position + 8 : position + 40])
            if self._is_passed_over(key, buffer, position):
                read += self._chosen(self._merge.end())
                self._passed_over = key
                self.peers += 1
            elif key != self._passed_over:
                read += self._chosen(self._merge.entry(_Entry.read(buffer, position, end)))
        if self.dump.done:
            read += self._chosen(self._merge.end())
        return read

    def _is_passed_over(self, key: bytes, buffer: bytearray, position: int) -> bool:
        """Whether nobody wants the peer that begins here; if it can't be told at a glance, no."""
        at = buffer.startswith
        unwanted = self._wanted is not None and key not in self._wanted
        return unwanted and at(_KEY, position + 4) and at(_PRESHARED, position + 40)

    def _chosen(self, entry: "_Entry | None") -> list[Configured]:
        if entry is None:
            return []
        self.peers += 1
        if self._wanted is not None and entry.key not in self._wanted:
            return []
        return [entry.configured()]


class Tally:
    """Counts how peers of an interface differ from a peer table, whose addresses are in `pools`."""

    def __init__(self, table: Mapping[bytes, TunnelPeer], pools: Iterable[Network] = ()) -> None:
        self._table = table
        self._pools = tuple(pools)
        self._seen: list[TunnelPeer] = []
        self._comparison = Comparison()

    def equal(self, peers: Iterable[TunnelPeer]) -> None:
        """Count peers of the table that are exactly so."""
        self._seen += peers

    def add(self, peer: Peer) -> None:
        """Count any peer."""
        key = peer.public_key
        expected = self._table.get(key)
        if expected is not None and peer.same_as(expected.peer()):
            self.equal((expected,))
        elif expected is not None:
            self._comparison.different.append(key)
        elif not peer.allowed_ips:
            self._comparison.bare.append(key)
        elif all(self._is_ours(network) for network in peer.allowed_ips):
            self._comparison.strangers.append(key)
        else:
            self._comparison.foreign += 1

    def result(self, *, whole: bool) -> Comparison:
        """Return what was counted, when all peers have been."""
        found, seen = self._comparison, self._seen
        found.whole = whole
        found.equal = len(seen)
        if len(seen) + len(found.different) != len(self._table):
            there = {peer[:32] for peer in seen}.union(found.different)
            found.missing = [key for key in self._table if key not in there]
        return found

    def _is_ours(self, network: Network) -> bool:
        return any(
            network.version == pool.version and network.subnet_of(pool)  # type: ignore[arg-type]
            for pool in self._pools
        )


class Comparing:
    """Compares an interface with a peer table, of which `pools` hold every tunnel address."""

    def __init__(
        self, sequence: int, table: Mapping[bytes, TunnelPeer], pools: Iterable[Network] = ()
    ) -> None:
        self.dump = Dump(sequence)
        self._table = table
        self._tally = Tally(table, pools)
        self._merge = _Merge()
        self._last: TunnelPeer | None = None
        """The last peer of a message, which may go on in the next one."""

    def feed(self, buffer: bytearray, length: int) -> None:
        """Compare the peers of one datagram."""
        for position, end in _nests(self.dump, buffer, length):
            while position + 4 <= end:
                size, _ = _header(buffer, position)
                stop = self._run(buffer, position, end, size)
                if stop == position:
                    if size < 4 or position + size > end:
                        raise garbled()
                    self._one(_Entry.read(buffer, position, position + size))
                    stop += size + 3 & ~3
                position = stop
            if position != end:
                raise garbled()
        if self.dump.done:
            self._settle()

    def result(self) -> Comparison:
        """Return what was found; to be asked once the dump is done."""
        return self._tally.result(whole=self.dump.whole)

    def _run(self, buffer: bytearray, position: int, end: int, size: int) -> int:
        """Compare a run of peers that are laid out alike, all at once; return where it ends."""
        layout = TUNNEL_LAYOUTS.get(size)
        stop = layout.run(buffer, position, end) if layout else position
        if layout is None or stop == position:
            return position
        self._settle()
        keys, peers = layout.peers(buffer, position, stop)
        if stop == end:
            self._last = TunnelPeer(peers.pop())
            keys.pop()
        self._compare(keys, peers)
        return stop

    def _compare(self, keys: list[bytes], peers: list[bytes]) -> None:
        expected = [peer for peer in map(self._table.get, keys) if peer is not None]
        if peers == expected:
            self._tally.equal(expected)
            return
        for key, peer in zip(keys, peers, strict=True):
            wanted = self._table.get(key)
            if wanted == peer:
                self._tally.equal((wanted,))
            else:
                self._tally.add(TunnelPeer(peer).peer())

    def _one(self, entry: "_Entry") -> None:
        """Compare a peer that is laid out differently, or take what continues a split one."""
        if self._last is not None and entry.continues:
            self._merge.entry(_Entry.of(self._last))
            self._last = None
        elif self._last is not None:
            self._settle()
        self._add(self._merge.entry(entry))

    def _settle(self) -> None:
        """Compare the peer that was read last: it does not go on."""
        self._add(self._merge.end())
        last, self._last = self._last, None
        if last is not None:
            self._compare([last[:32]], [last])

    def _add(self, entry: "_Entry | None") -> None:
        if entry is not None:
            self._tally.add(entry.configured().peer)


def facts(buffer: bytearray, length: int, dump: Dump) -> Facts | None:
    """Return what the first datagram of a dump says of the interface itself; None if it is no dump."""
    found, public_key, listen_port = False, None, 0
    for start, end in dump.attributes(buffer, length):
        for kind, first, last in walk(buffer, start, end):
            if kind == InterfaceAttribute.IFINDEX:
                found = True
            elif kind == InterfaceAttribute.LISTEN_PORT:
                listen_port = int.from_bytes(buffer[first:last], _ORDER)
            elif kind == InterfaceAttribute.PUBLIC_KEY and last - first == 32:
                public_key = PublicKey(buffer[first:last])
    return Facts(public_key, listen_port) if found else None


def _peers(dump: Dump, buffer: bytearray, length: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each peer's entry in a datagram, its header included."""
    for position, last in _nests(dump, buffer, length):
        while position + 4 <= last:
            size, _ = _header(buffer, position)
            end = position + size
            if size < 4 or end > last:
                raise garbled()
            yield position, end
            position = end + 3 & ~3
        if position != last:
            raise garbled()


def _nests(dump: Dump, buffer: bytearray, length: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the peers in each message of a datagram."""
    for start, stop in dump.attributes(buffer, length):
        for kind, first, last in walk(buffer, start, stop):
            if kind == InterfaceAttribute.PEERS:
                yield first, last


class _Entry:
    """One entry of a dump about one peer, or about a part of its allowed IPs."""

    __slots__ = ("allowed_ips", "endpoint", "handshake", "keepalive", "key", "preshared", "rx", "tx")

    def __init__(self) -> None:
        self.key = b""
        self.allowed_ips: list[Network] = []
        self.preshared: bytes | None = None
        self.handshake: int | None = None
        self.endpoint = False
        self.keepalive = self.rx = self.tx = 0

    @classmethod
    def read(cls, buffer: bytearray, position: int, end: int) -> Self:
        """Return what stands here."""
        entry = cls()
        for kind, first, last in walk(buffer, position + 4, end):
            entry._attribute(kind, buffer, first, last)
        if len(entry.key) != 32:
            raise garbled()
        return entry

    @classmethod
    def of(cls, peer: TunnelPeer) -> Self:
        """Return a peer that was read already."""
        entry = cls()
        entry.key, entry.preshared, entry.handshake = peer[:32], peer[52:], 0
        entry.allowed_ips += peer.peer().allowed_ips
        return entry

    @property
    def continues(self) -> bool:
        """Whether it only goes on with the allowed IPs of the peer before."""
        return self.handshake is None

    def configured(self) -> Configured:
        """Return it as values."""
        preshared = PresharedKey(self.preshared) if self.preshared and any(self.preshared) else None
        peer = Peer(PublicKey(self.key), tuple(self.allowed_ips), preshared, self.keepalive)
        return Configured(peer, Sighting(self.key, self.handshake or 0, self.rx, self.tx, self.endpoint))

    def _attribute(self, kind: int, buffer: bytearray, first: int, last: int) -> None:
        if kind == PeerAttribute.PUBLIC_KEY:
            self.key = bytes(buffer[first:last])
        elif kind == PeerAttribute.PRESHARED_KEY:
            self.preshared = bytes(buffer[first:last])
        elif kind == PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL:
            self.keepalive = int.from_bytes(buffer[first:last], _ORDER)
        elif kind == PeerAttribute.LAST_HANDSHAKE_TIME:
            if last - first != 16:
                raise garbled()
            seconds, nanoseconds = _TIME(buffer, first)
            self.handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == PeerAttribute.RX_BYTES:
            self.rx = int.from_bytes(buffer[first:last], _ORDER)
        elif kind == PeerAttribute.TX_BYTES:
            self.tx = int.from_bytes(buffer[first:last], _ORDER)
        elif kind == PeerAttribute.ENDPOINT:
            self.endpoint = True
        elif kind == PeerAttribute.ALLOWEDIPS:
            for _, inner, inner_end in walk(buffer, first, last):
                self.allowed_ips.append(_allowed_ip(buffer, inner, inner_end))


class _Merge:
    """Puts the parts of split peers together: gives each peer back when it is complete."""

    def __init__(self) -> None:
        self._pending: _Entry | None = None

    def entry(self, entry: _Entry) -> _Entry | None:
        """Take the next entry; return the peer that it shows to be complete, if any."""
        if not entry.continues:
            complete, self._pending = self._pending, entry
            return complete
        if self._pending is None or self._pending.key != entry.key:
            raise garbled()
        self._pending.allowed_ips += entry.allowed_ips
        return None

    def end(self) -> _Entry | None:
        """Return the last peer, now that nothing can follow that belongs to it."""
        complete, self._pending = self._pending, None
        return complete


def _allowed_ip(buffer: bytearray, position: int, end: int) -> Network:
    family, address, length = 0, b"", -1
    for kind, first, last in walk(buffer, position, end):
        if kind == AllowedIPAttribute.FAMILY:
            family = int.from_bytes(buffer[first:last], _ORDER)
        elif kind == AllowedIPAttribute.IPADDR:
            address = bytes(buffer[first:last])
        elif kind == AllowedIPAttribute.CIDR_MASK:
            length = int.from_bytes(buffer[first:last], _ORDER)
    try:
        if family == AF_INET and len(address) == 4:
            return IPv4Network((address, length))
        if family == AF_INET6 and len(address) == 16:
            return IPv6Network((address, length))
    except ValueError:
        raise garbled() from None
    raise garbled()


_TIME = Struct("=qq").unpack_from
_KEY = ATTRIBUTE_HEADER.pack(36, PeerAttribute.PUBLIC_KEY)
_PRESHARED = ATTRIBUTE_HEADER.pack(36, PeerAttribute.PRESHARED_KEY)
