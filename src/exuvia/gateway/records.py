"""
What the two processes of a gateway say to each other: records of 128 bytes, and nothing else.

A record has fixed fields and no length that somebody else chose. The network process may be
in anybody's hands: whatever comes from it is read here, or refused here.
"""

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from struct import Struct
from typing import NamedTuple, TypeVar

from exuvia.errors import GarbledRecord, InvalidConfiguration, InvalidKey
from exuvia.rules.feed import Position
from exuvia.rules.ownership import Pools
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

T = TypeVar("T")

LENGTH = 128
LONGEST_EPOCH = 64
_EPOCH_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


# From the network process.


class Alive(NamedTuple):
    """The network process is there and not stuck; said every few seconds."""

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"A", _NOTHING)


class Welcome(NamedTuple):
    """The control plane knows this gateway; these are the pools, and the gateways' own addresses."""

    pools: Pools

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        pool4, pool6, address4, address6 = self.pools
        return _encode(
            *(b"W", _POOLS, pool4.network_address.packed, pool4.prefixlen, address4.packed),
            *(pool6.network_address.packed, pool6.prefixlen, address6.packed),
        )


class StreamLost(NamedTuple):
    """There is no stream any more, or none yet: where is it to begin?"""

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"L", _NOTHING)


class StreamBegins(NamedTuple):
    """What follows belongs to the stream that was asked for with this number."""

    number: int

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"N", _NUMBER, self.number)


class WentBack(NamedTuple):
    """The control plane says itself that it is at an earlier revision than this gateway."""

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"B", _NOTHING)


class SnapshotBegins(NamedTuple):
    """So many rows follow, and then SnapshotEnds."""

    position: Position
    rows: int

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"S", _EPOCH_AND_TWO, _epoch_out(self.position), self.position.revision, self.rows)


class SnapshotEnds(NamedTuple):
    """Those were all rows of the snapshot."""

    digest: bytes

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"E", _KEY, self.digest)


class ChangeBegins(NamedTuple):
    """So many removals and then so many rows follow, which lead to another revision."""

    after: Position
    revision: int
    removals: int
    puts: int

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(
            *(b"C", _EPOCH_AND_FOUR, _epoch_out(self.after), self.after.revision, self.revision),
            *(self.removals, self.puts),
        )


class Removal(NamedTuple):
    """A peer that goes, within a change."""

    key: PublicKey

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"R", _KEY, self.key)


class Row(NamedTuple):
    """A peer, within a snapshot or a change."""

    peer: TunnelPeer

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"P", _PEER, self.peer)


class Beat(NamedTuple):
    """Nothing changed: the table is that of this position."""

    position: Position

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"H", _EPOCH_AND_ONE, _epoch_out(self.position), self.position.revision)


# From the kernel process.


class Identity(NamedTuple):
    """This gateway's public key, and whether it outlives the interface."""

    public_key: PublicKey
    lasting: bool

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"I", _IDENTITY, self.public_key, self.lasting)


class Follow(NamedTuple):
    """Leave the stream that there is, and begin one at this position; with a snapshot, if at none."""

    number: int
    position: Position | None

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        position = self.position or Position("", 0)
        return _encode(b"F", _EPOCH_AND_TWO, _epoch_out(position), position.revision, self.number)


class Applied(NamedTuple):
    """The interface is equal to the table of this position."""

    position: Position

    def encode(self) -> bytes:
        """Return its 128 bytes."""
        return _encode(b"D", _EPOCH_AND_ONE, _epoch_out(self.position), self.position.revision)


FromNetwork = (
    Alive
    | Welcome
    | StreamLost
    | StreamBegins
    | WentBack
    | SnapshotBegins
    | SnapshotEnds
    | ChangeBegins
    | Removal
    | Row
    | Beat
)
FromKernel = Identity | Follow | Applied


def from_network(record: bytes) -> FromNetwork:
    """Return what the network process said, or raise GarbledRecord."""
    # Nearly all records are rows: they are looked at first, and unpacked by hand.
    if record[:1] == b"P" and len(record) == LENGTH and record[85:] == _AFTER_PEER:
        return Row(TunnelPeer(record[1:85]))
    return _decode(record, _FROM_NETWORK)


def from_kernel(record: bytes) -> FromKernel:
    """Return what the kernel process said, or raise GarbledRecord."""
    return _decode(record, _FROM_KERNEL)


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take all whole records out of a buffer, and leave the beginning of the next one in it."""
    whole = len(buffer) - len(buffer) % LENGTH
    data = bytes(buffer[:whole])
    del buffer[:whole]
    for start in range(0, whole, LENGTH):
        yield data[start : start + LENGTH]


_NOTHING = Struct("")
_NUMBER = Struct("=I")
_KEY = Struct("=32s")
_PEER = Struct(f"={TunnelPeer.LENGTH}s")
_IDENTITY = Struct("=32s?")
_POOLS = Struct("=4sB4s16sB16s")
_EPOCH_AND_ONE = Struct(f"={LONGEST_EPOCH}sQ")
_EPOCH_AND_TWO = Struct(f"={LONGEST_EPOCH}sQI")
_EPOCH_AND_FOUR = Struct(f"={LONGEST_EPOCH}sQQII")
_AFTER_PEER = bytes(LENGTH - 1 - TunnelPeer.LENGTH)


def _encode(mark: bytes, layout: Struct, *fields: bytes | int) -> bytes:
    try:
        return (mark + layout.pack(*fields)).ljust(LENGTH, b"\0")
    except struct.error:
        raise GarbledRecord("a number that does not fit into a record") from None


def _decode(record: bytes, kinds: "dict[bytes, tuple[Struct, Callable[..., T]]]") -> T:
    """Return what a record says; every byte of it has to have a meaning, or be zero."""
    if len(record) != LENGTH or record[:1] not in kinds:
        raise GarbledRecord("no record of a kind that may come from there")
    layout, build = kinds[record[:1]]
    if any(record[1 + layout.size :]):
        raise GarbledRecord("a record with something behind its end")
    try:
        return build(*layout.unpack_from(record, 1))
    except (ValueError, InvalidConfiguration, InvalidKey):
        raise GarbledRecord("a record with a field that can't be so") from None


def _welcome(pool4: bytes, length4: int, own4: bytes, pool6: bytes, length6: int, own6: bytes) -> Welcome:
    networks = IPv4Network((pool4, length4)), IPv6Network((pool6, length6))
    pools = Pools(*networks, IPv4Address(own4), IPv6Address(own6))
    pools.check()
    return Welcome(pools)


def _position(epoch: bytes, revision: int) -> Position:
    name = epoch.rstrip(b"\0")
    if not name or not _EPOCH_LETTERS.issuperset(name):
        raise GarbledRecord("the name of an epoch can't be so")
    return Position(name.decode(), revision)


def _follow(epoch: bytes, revision: int, number: int) -> Follow:
    return Follow(number, _position(epoch, revision) if any(epoch) else None)


def _epoch_out(position: Position) -> bytes:
    epoch = position.epoch.encode()
    if len(epoch) > LONGEST_EPOCH:
        raise GarbledRecord("the name of an epoch is too long")
    return epoch


_FROM_NETWORK: "dict[bytes, tuple[Struct, Callable[..., FromNetwork]]]" = {
    b"A": (_NOTHING, Alive),
    b"W": (_POOLS, _welcome),
    b"L": (_NOTHING, StreamLost),
    b"N": (_NUMBER, StreamBegins),
    b"B": (_NOTHING, WentBack),
    b"S": (_EPOCH_AND_TWO, lambda epoch, revision, rows: SnapshotBegins(_position(epoch, revision), rows)),
    b"E": (_KEY, SnapshotEnds),
    b"C": (
        _EPOCH_AND_FOUR,
        lambda epoch, after, revision, removals, puts: ChangeBegins(
            _position(epoch, after), revision, removals, puts
        ),
    ),
    b"R": (_KEY, lambda key: Removal(PublicKey(key))),
    b"H": (_EPOCH_AND_ONE, lambda epoch, revision: Beat(_position(epoch, revision))),
}
_FROM_KERNEL: "dict[bytes, tuple[Struct, Callable[..., FromKernel]]]" = {
    b"I": (_IDENTITY, lambda key, lasting: Identity(PublicKey.from_bytes_checked(key), lasting)),
    b"F": (_EPOCH_AND_TWO, _follow),
    b"D": (_EPOCH_AND_ONE, lambda epoch, revision: Applied(_position(epoch, revision))),
}
