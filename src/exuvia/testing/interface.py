"""
An interface that is not there: it decodes the same netlink bytes and behaves like the kernel.

The behaviour is that of drivers/net/wireguard/{netlink,allowedips}.c, where it can be seen
from outside; tests/kernel compares the two.
"""

import contextlib
import errno
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from exuvia.system.kernel import KernelInterface
from exuvia.testing.dumps import DumpWriter
from exuvia.wg.attributes import (
    AF_INET,
    AF_INET6,
    GENERIC_HEADER,
    MESSAGE_HEADER,
    AllowedIPAttribute,
    Command,
    InterfaceAttribute,
    InterfaceFlag,
    PeerAttribute,
    PeerFlag,
)
from exuvia.wg.dump import LARGEST_MESSAGE, walk
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey
from exuvia.wg.peers import Peer

_ORDER = sys.byteorder
_NO_KEY = bytes(32)
AllowedIP = tuple[int, bytes, int]
"""Family, address, prefix length."""


@dataclass(eq=False, slots=True)
class KernelPeer:
    """A peer as the kernel holds it."""

    public_key: bytes
    place: int
    """Peers are dumped in the order in which they were made."""
    preshared_key: bytes = _NO_KEY
    persistent_keepalive: int = 0
    allowed_ips: list[AllowedIP] = field(default_factory=list)
    endpoint: bytes = b""
    handshake: int = 0
    rx: int = 0
    tx: int = 0
    dead: bool = False

    def configuration(self) -> Peer:
        """Return what it is configured with."""
        networks = [
            IPv4Network((address, length)) if family == AF_INET else IPv6Network((address, length))
            for family, address, length in self.allowed_ips
        ]
        preshared = None if self.preshared_key == _NO_KEY else PresharedKey(self.preshared_key)
        return Peer(PublicKey(self.public_key), tuple(networks), preshared, self.persistent_keepalive)


class _Errno(Exception):
    """The kernel's answer to a message that it does not carry out to the end."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class FakeKernel:
    """
    The kernel's end of the transport.

    A test may set `gone`, let messages fail by key in `refuse`, look into `messages`, be
    called `before_message`, and have a dump set the sign of interruption by itself.
    """

    def __init__(self, index: int = 7, *, padded: bool = False) -> None:
        self.buffer = bytearray(LARGEST_MESSAGE)
        self.index = index
        self.peers: dict[bytes, KernelPeer] = {}
        self.private_key: PrivateKey | None = None
        self.listen_port = 51820
        self.fwmark = 0
        self.gone = False
        self.closed = False
        self.refuse: dict[bytes, int] = {}
        self.messages: list[bytes] = []
        self.before_message: Callable[[bytes], None] | None = None
        self.interrupt_message: int | None = None
        self.dump_errno = 0
        self.largest = LARGEST_MESSAGE - 344
        self.smallest = 3776
        self._owners: dict[AllowedIP, KernelPeer] = {}
        self._padded = padded
        self._generation = 0
        self._places = 0

    def meet(
        self, key: bytes, *, handshake: int = 0, rx: int = 0, tx: int = 0, endpoint: bytes = b""
    ) -> None:
        """Let a peer have had traffic; the endpoint is a sockaddr, or any 16 bytes."""
        peer = self.peers[key]
        peer.handshake, peer.rx, peer.tx, peer.endpoint = handshake, rx, tx, endpoint

    def configuration(self) -> dict[bytes, Peer]:
        """Return what the peers are configured with, by key."""
        return {key: peer.configuration() for key, peer in self.peers.items()}

    def touch(self) -> None:
        """Do as if another program had changed the interface."""
        self._generation += 1

    def send(self, messages: list[bytes], first: int) -> list[int]:
        """Carry out each message, as the kernel does: what fails does not undo what was done."""
        codes = []
        for place, message in enumerate(messages):
            if MESSAGE_HEADER.unpack_from(message)[3] != first + place:
                raise ValueError("messages must be numbered in their order")
            if self.before_message is not None:
                self.before_message(message)
            self.messages.append(message)
            try:
                self._set(bytearray(message))
                codes.append(0)
            except _Errno as answer:
                codes.append(answer.code)
        return codes

    @contextlib.contextmanager
    def dumping(self, request: bytes, *, small: bool, whole: bool = True) -> Iterator[Callable[[], int]]:
        """Dump like the kernel: a message is made when the one before it has been read."""
        sequence = MESSAGE_HEADER.unpack_from(request)[3]
        messages = self._dump(sequence, self.smallest if small else self.largest)
        ahead = [next(messages)]

        def receive() -> int:
            message = ahead.pop()
            self.buffer[: len(message)] = message
            ahead.extend(message for message in [next(messages, None)] if message is not None)
            return len(message)

        try:
            yield receive
        finally:
            self.buffer[:] = bytes(len(self.buffer))

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _dump(self, sequence: int, size: int) -> Iterator[bytes]:
        writer = DumpWriter(sequence, padded=self._padded)
        if self.gone:
            yield writer.error(errno.ENODEV)
            return
        cursor: KernelPeer | None = None
        resume: int | None = None
        generation, number = self._generation, 0
        complete = False
        while not complete:
            interrupted = generation != self._generation or number == self.interrupt_message
            generation, number = self._generation, number + 1
            message = writer.begin(size, interrupted=interrupted)
            if cursor is None:
                message.interface(self.index, self.private_key, self.listen_port, self.fwmark)
            complete = True
            for peer in self._after(cursor):
                complete, resume = message.peer(peer, resume)
                if not complete:
                    break
                cursor = peer
            yield message.finish() + (writer.done(self.dump_errno) if complete else b"")

    def _after(self, cursor: KernelPeer | None) -> list[KernelPeer]:
        """Return the peers behind the cursor; none if it was removed, as in wg_get_device_dump."""
        peers = list(self.peers.values())
        if cursor is None:
            return peers
        if cursor.dead:
            return []
        return peers[bisect_right(peers, cursor.place, key=lambda peer: peer.place) :]

    def _set(self, message: bytearray) -> None:
        """wg_set_device()."""
        start = MESSAGE_HEADER.size + GENERIC_HEADER.size
        if message[MESSAGE_HEADER.size] != Command.SET:
            raise _Errno(errno.EOPNOTSUPP)
        found = {kind: (first, last) for kind, first, last in walk(message, start, len(message))}
        index = found.pop(InterfaceAttribute.IFINDEX)
        if self.gone or _number(message, index) != self.index:
            raise _Errno(errno.ENODEV)
        self._generation += 1
        if _number(message, found.get(InterfaceAttribute.FLAGS)) & InterfaceFlag.REPLACE_PEERS:
            for key in list(self.peers):
                self._remove(key)
        if place := found.get(InterfaceAttribute.LISTEN_PORT):
            self.listen_port = _number(message, place)
        if place := found.get(InterfaceAttribute.FWMARK):
            self.fwmark = _number(message, place)
        if place := found.get(InterfaceAttribute.PRIVATE_KEY):
            self.private_key = PrivateKey(bytes(message[slice(*place)]))
            self._remove(self.private_key.public_key())
        for _, first, last in walk(message, *found.get(InterfaceAttribute.PEERS, (0, 0))):
            self._set_peer(message, first, last)

    def _set_peer(self, message: bytearray, start: int, end: int) -> None:
        """set_peer()."""
        found = {kind: (first, last) for kind, first, last in walk(message, start, end)}
        key = bytes(message[slice(*found[PeerAttribute.PUBLIC_KEY])])
        flags = PeerFlag(_number(message, found.get(PeerAttribute.FLAGS)))
        if len(key) != 32:
            raise _Errno(errno.EINVAL)
        if flags & PeerFlag.REMOVE_ME:
            self._remove(key)
            return
        peer = self.peers.get(key)
        if peer is None:
            if flags & PeerFlag.UPDATE_ONLY or self._is_own(key):
                return
            self._places += 1
            peer = self.peers[key] = KernelPeer(key, self._places)
        if place := found.get(PeerAttribute.PRESHARED_KEY):
            peer.preshared_key = bytes(message[slice(*place)])
        if place := found.get(PeerAttribute.ENDPOINT):
            peer.endpoint = bytes(message[slice(*place)])
        if flags & PeerFlag.REPLACE_ALLOWEDIPS:
            self._strip(peer)
        if key in self.refuse:
            raise _Errno(self.refuse[key])
        for _, first, last in walk(message, *found.get(PeerAttribute.ALLOWEDIPS, (0, 0))):
            self._give(peer, _allowed_ip(message, first, last))
        if place := found.get(PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL):
            peer.persistent_keepalive = _number(message, place)

    def _is_own(self, key: bytes) -> bool:
        return self.private_key is not None and key == self.private_key.public_key()

    def _give(self, peer: KernelPeer, allowed_ip: AllowedIP) -> None:
        """Give the peer an allowed IP, taking it away from whoever has it."""
        if (owner := self._owners.get(allowed_ip)) is not None:
            owner.allowed_ips.remove(allowed_ip)
        self._owners[allowed_ip] = peer
        peer.allowed_ips.append(allowed_ip)

    def _strip(self, peer: KernelPeer) -> None:
        for allowed_ip in peer.allowed_ips:
            del self._owners[allowed_ip]
        peer.allowed_ips.clear()

    def _remove(self, key: bytes) -> None:
        peer = self.peers.pop(key, None)
        if peer is not None:
            peer.dead = True
            self._strip(peer)


class FakeInterface(KernelInterface):
    """The real interface on top of a kernel that is not there: see FakeKernel."""

    def __init__(self, name: str = "wg0", index: int = 7, *, padded: bool = False) -> None:
        self.kernel = FakeKernel(index, padded=padded)
        super().__init__(name, index, self.kernel, family=21)


def _number(message: bytearray, place: tuple[int, int] | None) -> int:
    return int.from_bytes(message[slice(*place)], _ORDER) if place else 0


def _allowed_ip(message: bytearray, start: int, end: int) -> AllowedIP:
    """Return an allowed IP as the kernel stores it: without bits behind its prefix."""
    found = {kind: (first, last) for kind, first, last in walk(message, start, end)}
    family = _number(message, found[AllowedIPAttribute.FAMILY])
    address = bytes(message[slice(*found[AllowedIPAttribute.IPADDR])])
    length = _number(message, found[AllowedIPAttribute.CIDR_MASK])
    if (family, len(address)) not in ((AF_INET, 4), (AF_INET6, 16)) or length > 8 * len(address):
        raise _Errno(errno.EINVAL)
    network = (IPv4Network if family == AF_INET else IPv6Network)((address, length), strict=False)
    return family, network.network_address.packed, length
