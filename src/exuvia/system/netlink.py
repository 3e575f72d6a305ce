"""
The kernel's generic netlink: carries bytes to WireGuard and back.

Needs CAP_NET_ADMIN in the network namespace of the interface, even to look.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

from exuvia.errors import GarbledAnswer, InterfaceInUse, InterfaceUnavailable, NotPermitted
from exuvia.wg.dump import LARGEST_MESSAGE
from exuvia.wg.netlink import Acknowledgements, joined

LOCK = 0x6578_0000
"""Plus the interface's index: the port id that only one daemon can have ("ex")."""

_RECEIVE_BUFFER = 1 << 20
_SEND_BUFFER = 1 << 20
_TIMEOUT = struct.pack("@ll", 10, 0)
_GENERIC, _SOL_NETLINK, _CAP_ACK, _EXT_ACK = 16, 270, 10, 11
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


class Netlink:
    """Generic netlink sockets, the first of which is the lock on the interface with this index, if any."""

    def __init__(self, interface_index: int | None) -> None:
        self.buffer = bytearray(LARGEST_MESSAGE)
        self._small = min(os.sysconf("SC_PAGE_SIZE"), 8192)
        self._dumps: dict[int, socket.socket] = {}
        self._dumping = False
        self._commands = _socket(0) if interface_index is None else lock(interface_index)

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
        start = 0
        while start < len(messages):
            stop = _as_many_as_fit(messages, start)
            try:
                self._commands.send(joined(messages[start:stop]))
                while answers.answered < stop:
                    answers.feed(self._commands.recv(self._small))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise _unavailable(error) from None
                # The kernel could not deliver an answer: which one, nobody knows.
                answers.lost(errno.ENOBUFS)
                self._drain()
                break
            start = stop
        return answers.errors

    def close(self) -> None:
        """Close all sockets, and with them the lock."""
        for sock in (self._commands, *self._dumps.values()):
            sock.close()

    def _drain(self) -> None:
        """Take the answers that are left."""
        with contextlib.suppress(OSError):
            while True:
                self._commands.recv(self._small, socket.MSG_DONTWAIT)


def lock(interface_index: int) -> socket.socket:
    """
    Return the socket that only one daemon can hold for each interface, while it is open.

    Port ids are unique in a network namespace, and freed when their holder dies, however it dies.
    """
    return _socket(LOCK + interface_index)


def opened(protocol: int, *, explained: bool = False) -> socket.socket:
    """Return a netlink socket that waits ten seconds at most; `explained` lets it hear of errors in words."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        # Without it an error message repeats the whole request, preshared keys and all.
        sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        sock.setsockopt(_SOL_NETLINK, _EXT_ACK, explained)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
    except OSError:
        sock.close()
        raise
    return sock


def _socket(port: int) -> socket.socket:
    try:
        sock = opened(_GENERIC)
    except OSError as error:
        raise _unavailable(error) from None
    try:
        if port:
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        sock.bind((port, 0))
    except OSError as error:
        sock.close()
        raise _unavailable(error) from None
    return sock


def _as_many_as_fit(messages: list[bytes], start: int) -> int:
    """Return where to end a send that begins with this message."""
    size = 0
    for stop in range(start, len(messages)):
        size += len(messages[stop])
        if size > _SEND_BUFFER and stop > start:
            return stop
    return len(messages)


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
