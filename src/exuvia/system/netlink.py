"""
The kernel's WireGuard: carries bytes to it and back, over generic netlink.

Needs CAP_NET_ADMIN in the network namespace of the interface, even to look.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol, Self, TypeVar

from exuvia.errors import GarbledAnswer, InterfaceInUse, InterfaceUnavailable, NotPermitted
from exuvia.system.interface import index_of
from exuvia.wg.dump import LARGEST_MESSAGE, Dump, Scan
from exuvia.wg.interface import Comparison, Configured, Facts, Look
from exuvia.wg.keys import PrivateKey
from exuvia.wg.netlink import Acknowledgements, Endpoint, Requests, family_of, family_request
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer
from exuvia.wg.reading import Comparing, Configurations, facts

T = TypeVar("T")

LOCK = 0x6578_0000
"""Plus the interface's index: the port id that only one daemon can have ("ex")."""

BATCH = 256
"""Messages in a send: their answers must fit into the receive buffer all at once."""

TRIES = 3
_RECEIVE_BUFFER = 1 << 20
_SEND_BUFFER = 1 << 20
_TIMEOUT = struct.pack("@ll", 10, 0)
_GENERIC, _SOL_NETLINK, _CAP_ACK, _EXT_ACK = 16, 270, 10, 11
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


class Transport(Protocol):
    """What carries messages to a kernel and back; the buffer is used for every dump."""

    buffer: bytearray

    def dumping(
        self, request: bytes, *, small: bool, whole: bool = True
    ) -> contextlib.AbstractContextManager[Callable[[], int]]:
        """Ask for a dump; what is given returns the length of the next datagram in the buffer."""

    def send(self, messages: list[bytes], first: int) -> list[int]:
        """Send messages numbered from `first`, and return the errno of each, or 0."""

    def close(self) -> None:
        """Close what is open."""


class KernelInterface:
    """An interface of the kernel's WireGuard; see WireGuardInterface."""

    def __init__(self, name: str, index: int, transport: Transport, family: int) -> None:
        self.name = name
        self.index = index
        self._transport = transport
        self._requests = Requests(family, index)
        self._sequence = 0

    @classmethod
    def open(cls, name: str) -> Self:
        """Open the interface with this name."""
        index = index_of(name)
        transport = Netlink(index)
        try:
            family = family_of(transport.ask(family_request(0)))
            if family is None:
                raise InterfaceUnavailable(
                    "this kernel has no WireGuard: load its module, or use wireguard-go"
                )
            interface = cls(name, index, transport, family)
            interface.facts()
        except BaseException:
            transport.close()
            raise
        return interface

    def facts(self) -> Facts:
        """Return what the interface is, apart from its peers."""
        dump = Dump(self._next())
        request = self._requests.dump(self._sequence)
        with self._transport.dumping(request, small=True, whole=False) as receive:
            found = facts(self._transport.buffer, receive(), dump)
        self._refuse(dump.errno)
        if found is None:
            raise GarbledAnswer("what the interface says of itself can't be read")
        return found

    def look(self, see: Callable[[list[Sighting]], None], *, small: bool = False) -> Look:
        """Read all peers and tell `see` of those that have something to forget, as they come."""
        scan = Scan(self._next())

        def feed(buffer: bytearray, length: int) -> None:
            if sightings := scan.feed(buffer, length):
                see(sightings)

        self._read(scan.dump, feed, small=small)
        return Look(scan.peers, scan.dump.whole)

    def compare(self, table: Mapping[bytes, TunnelPeer], pools: Iterable[Network] = ()) -> Comparison:
        """Return how the interface differs from the table; try again if others interfere."""
        pools = tuple(pools)
        for _ in range(TRIES):
            comparing = Comparing(self._next(), table, pools)
            self._read(comparing.dump, comparing.feed)
            result = comparing.result()
            if result.whole:
                break
        return result

    def configurations(
        self, wanted: Collection[bytes] | None, see: Callable[[list[Configured]], None]
    ) -> Look:
        """Tell `see` the configuration of these peers, or of all, as it comes."""
        reading = Configurations(self._next(), wanted)

        def feed(buffer: bytearray, length: int) -> None:
            if configured := reading.feed(buffer, length):
                see(configured)

        self._read(reading.dump, feed)
        return Look(reading.peers, reading.dump.whole)

    def apply(self, put: Iterable[TunnelPeer | Peer] = (), remove: Iterable[bytes] = ()) -> list[bytes]:
        """Remove, then add or correct peers, a message for each; return the keys that failed."""
        return self._each(remove, self._requests.remove) + self._each(put, self._requests.put)

    def purge(self, peers: Iterable[TunnelPeer | Peer]) -> list[bytes]:
        """Remove and reinstate each peer by one message; return the keys that failed."""
        return self._each(peers, self._requests.purge)

    def put_with_endpoint(self, peer: Peer, endpoint: Endpoint) -> None:
        """Add a gateway as peer, or make it exactly so."""
        self._one(self._requests.put(peer, self._next(), endpoint=endpoint))

    def configure(
        self,
        *,
        private_key: PrivateKey | None = None,
        listen_port: int | None = None,
        fwmark: int | None = None,
    ) -> None:
        """Change what the interface itself is."""
        self._one(
            self._requests.interface(
                self._next(), private_key=private_key, listen_port=listen_port, fwmark=fwmark
            )
        )

    def close(self) -> None:
        """Close all sockets."""
        self._transport.close()

    def _next(self, count: int = 1) -> int:
        """Return the first of so many unused sequence numbers."""
        first = self._sequence + 1
        if first + count > 0xFFFF_FFFF:
            first = 1
        self._sequence = first + count - 1
        return first

    def _read(self, dump: Dump, feed: Callable[[bytearray, int], None], *, small: bool = False) -> None:
        with self._transport.dumping(self._requests.dump(self._sequence), small=small) as receive:
            while not dump.done:
                feed(self._transport.buffer, receive())
        self._refuse(dump.errno)

    def _each(self, items: Iterable[T], request: Callable[[T, int], bytes]) -> list[bytes]:
        """Send the request about each item; return the keys of those that failed."""
        failed: list[bytes] = []
        rest = iter(items)
        while batch := list(islice(rest, BATCH)):
            first = self._next(len(batch))
            messages = [request(item, first + place) for place, item in enumerate(batch)]
            for item, code in zip(batch, self._transport.send(messages, first), strict=True):
                if code:
                    self._refuse(code, if_gone_only=True)
                    failed.append(_key(item))
        return failed

    def _one(self, message: bytes) -> None:
        self._refuse(self._transport.send([message], self._sequence)[0])

    def _refuse(self, code: int, *, if_gone_only: bool = False) -> None:
        """Raise what an errno of the kernel means."""
        if code in (errno.ENODEV, errno.EOPNOTSUPP):
            raise InterfaceUnavailable(
                f"{self.name} is gone"
                if code == errno.ENODEV
                else f"{self.name} is not a WireGuard interface"
            )
        if code == errno.EPERM:
            raise NotPermitted("changing a WireGuard interface needs CAP_NET_ADMIN: run as root")
        if code == errno.EADDRINUSE and not if_gone_only:
            raise InterfaceUnavailable("another program uses the listen port")
        if code and not if_gone_only:
            raise InterfaceUnavailable(f"{self.name}: {os.strerror(code)}")


def _key(item: object) -> bytes:
    return item.public_key if isinstance(item, Peer) else bytes(item[:32])  # type: ignore[index]


class Netlink:
    """Generic netlink sockets, the first of which is the lock on the interface with this index."""

    def __init__(self, interface_index: int) -> None:
        self.buffer = bytearray(LARGEST_MESSAGE)
        self._small = min(os.sysconf("SC_PAGE_SIZE"), 8192)
        self._dumps: dict[int, socket.socket] = {}
        self._dumping = False
        self._commands = lock(interface_index)

    def ask(self, message: bytes) -> bytes:
        """Send a message that has one answer, and return it."""
        try:
            self._commands.send(message)
            return self._commands.recv(self._small)
        except OSError as error:
            raise _unavailable(error) from None

    @contextlib.contextmanager
    def dumping(self, request: bytes, *, small: bool, whole: bool = True) -> Iterator[Callable[[], int]]:
        """
        Ask for a dump; what is given returns the length of the next datagram in the buffer.

        Unless the dump is read to its end, its socket is closed: a dump left half-read keeps
        a removed peer, with its endpoint, in the kernel's memory. The kernel makes messages
        as large as the largest buffer that ever received on the socket: so small ones need
        a socket of their own.
        """
        if self._dumping:
            raise RuntimeError("one dump at a time: they share a buffer")
        self._dumping = True
        size = self._small if small else LARGEST_MESSAGE
        used = 0

        def receive() -> int:
            nonlocal used
            length = _receive(open_sock, self.buffer, size)
            used = max(used, length)
            return length

        try:
            open_sock = self._dumps.pop(size, None) or _socket(0)
            try:
                _send(open_sock, request)
                yield receive
            except BaseException:
                open_sock.close()
                raise
            if whole:
                self._dumps[size] = open_sock
            else:
                open_sock.close()
        finally:
            self.buffer[:used] = bytes(used)
            self._dumping = False

    def send(self, messages: list[bytes], first: int) -> list[int]:
        """Send messages numbered from `first`, and return the errno of each, or 0."""
        answers = Acknowledgements(first, len(messages))
        try:
            self._commands.send(b"".join(messages))
            while answers.missing:
                answers.feed(self._commands.recv(self._small))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise _unavailable(error) from None
            self._drain(answers)
        return [errno.ENOBUFS if code is None else code for code in answers.errors]

    def close(self) -> None:
        """Close all sockets, and with them the lock."""
        for sock in (self._commands, *self._dumps.values()):
            sock.close()

    def _drain(self, answers: Acknowledgements) -> None:
        """Take the answers that are left; the kernel could not deliver the others."""
        with contextlib.suppress(OSError):
            while True:
                answers.feed(self._commands.recv(self._small, socket.MSG_DONTWAIT))


def lock(interface_index: int) -> socket.socket:
    """
    Return the socket that only one daemon can hold for each interface, while it is open.

    Port ids are unique in a network namespace, and freed when their holder dies, however it dies.
    """
    return _socket(LOCK + interface_index)


def _socket(port: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC)
    except OSError as error:
        raise _unavailable(error) from None
    try:
        # Without it an error message repeats the whole request, preshared keys and all.
        sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        sock.setsockopt(_SOL_NETLINK, _EXT_ACK, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        if port:
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        sock.bind((port, 0))
    except OSError as error:
        sock.close()
        raise _unavailable(error) from None
    return sock


def _send(sock: socket.socket, message: bytes) -> None:
    try:
        sock.send(message)
    except OSError as error:
        raise _unavailable(error) from None


def _receive(sock: socket.socket, buffer: bytearray, size: int) -> int:
    """Receive one datagram of the kernel's into the buffer and return its length."""
    while True:
        try:
            length, (port, _groups) = sock.recvfrom_into(buffer, size, socket.MSG_TRUNC)
        except OSError as error:
            raise _unavailable(error) from None
        if port:
            continue
        if length > size:
            raise GarbledAnswer("the kernel's answer does not fit into the buffer")
        return length


def _unavailable(error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return InterfaceInUse("another exuvia daemon looks after this interface")
    if error.errno == errno.EPERM:
        return NotPermitted("talking to WireGuard needs CAP_NET_ADMIN: run as root")
    if error.errno in (errno.EAGAIN, errno.EINTR):
        return InterfaceUnavailable("the kernel did not answer in time")
    return InterfaceUnavailable(f"generic netlink: {os.strerror(error.errno or 0)}")
