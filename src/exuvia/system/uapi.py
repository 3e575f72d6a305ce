"""
A WireGuard interface that a program runs, such as wireguard-go: carries text to it and back.

It listens on a Unix socket, whatever its network namespace. Reading and changing use a
connection each; an answer is always read to its end before anything is changed, because
wireguard-go holds a lock until all of it has been taken.
"""

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Self, TypeVar

from exuvia.errors import GarbledAnswer, InterfaceUnavailable, NotPermitted
from exuvia.system.interface import index_of
from exuvia.system.netlink import lock
from exuvia.system.userspace import SOCKETS
from exuvia.wg import uapi
from exuvia.wg.interface import Comparison, Configured, Facts, Look
from exuvia.wg.keys import PrivateKey
from exuvia.wg.netlink import Endpoint
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer
from exuvia.wg.reading import Tally

T = TypeVar("T")

BATCH = 64
PART = 256
"""Peers that are told of at once."""

_TIMEOUT = 10.0
_BUFFER = 1 << 18


class UserspaceInterface:
    """An interface of wireguard-go or the like; see WireGuardInterface."""

    def __init__(self, name: str, *, alone: bool = True) -> None:
        self.name = name
        self.index = index_of(name)
        self._lock = lock(self.index) if alone else None
        self._buffer = bytearray(_BUFFER)
        self._asking: socket.socket | None = None
        self._changing: socket.socket | None = None

    @classmethod
    def open(cls, name: str, *, alone: bool = True) -> Self:
        """Open the interface with this name."""
        interface = cls(name, alone=alone)
        try:
            interface.facts()
        except BaseException:
            interface.close()
            raise
        return interface

    @staticmethod
    def answers(name: str) -> bool:
        """Whether a program runs an interface with this name."""
        try:
            _connect(name).close()
        except (InterfaceUnavailable, NotPermitted):
            return False
        return True

    def facts(self) -> Facts:
        """Return what the interface is, apart from its peers."""
        reading = uapi.Reading(facts=True)
        for _ in self._read(reading):
            pass
        return reading.facts

    def look(self, see: Callable[[list[Sighting]], None], *, small: bool = False) -> Look:
        """Read all peers, then tell of those that have something to forget, part by part."""
        reading = uapi.Reading()
        sightings = [found for found in self._read(reading) if isinstance(found, Sighting) and any(found[1:])]
        for start in range(0, len(sightings), PART):
            see(sightings[start : start + PART])
        return Look(reading.peers, whole=True)

    def compare(self, table: Mapping[bytes, TunnelPeer], pools: Iterable[Network] = ()) -> Comparison:
        """Return how the interface differs from the table."""
        tally = Tally(table, pools)
        for found in self._read(uapi.Reading(None)):
            if isinstance(found, Configured):
                tally.add(found.peer)
        return tally.result(whole=True)

    def configurations(
        self, wanted: Collection[bytes] | None, see: Callable[[list[Configured]], None]
    ) -> Look:
        """Read the configuration of the peers with these keys, or of all, then tell of it."""
        reading = uapi.Reading(wanted)
        configured = [found for found in self._read(reading) if isinstance(found, Configured)]
        for start in range(0, len(configured), PART):
            see(configured[start : start + PART])
        return Look(reading.peers, whole=True)

    def apply(self, put: Iterable[TunnelPeer | Peer] = (), remove: Iterable[bytes] = ()) -> list[bytes]:
        """Remove, then add or correct peers; return the keys that failed."""
        return self._each(remove, uapi.remove, BATCH) + self._each(put, uapi.put, BATCH)

    def purge(self, peers: Iterable[TunnelPeer | Peer]) -> list[bytes]:
        """Remove and reinstate each peer by an operation of its own; return the keys that failed."""
        return self._each(peers, uapi.purge, 1)

    def put_with_endpoint(self, peer: Peer, endpoint: Endpoint) -> None:
        """Add a gateway as peer, or make it exactly so."""
        self._refuse(self._change([uapi.put(peer, endpoint=endpoint)]))

    def configure(
        self,
        *,
        private_key: PrivateKey | None = None,
        listen_port: int | None = None,
        fwmark: int | None = None,
    ) -> None:
        """Change what the interface itself is."""
        lines = uapi.interface(private_key=private_key, listen_port=listen_port, fwmark=fwmark)
        self._refuse(self._change([lines]))

    def close(self) -> None:
        """Let go of the interface."""
        for sock in (self._asking, self._changing, self._lock):
            if sock is not None:
                sock.close()

    def _read(self, reading: uapi.Reading) -> Iterator[Configured | Sighting]:
        """Yield all peers; the whole answer is read even if nobody wants the rest."""
        sock, self._asking = self._asking or _connect(self.name), None
        kept = used = 0
        try:
            _send(sock, uapi.GET)
            with memoryview(self._buffer) as view:
                while not reading.done:
                    length = kept + _receive(sock, view[kept:])
                    used = max(used, length)
                    found, position = reading.feed(self._buffer, length)
                    kept = length - position
                    view[:kept] = view[position:length]
                    yield from found
                _rest(sock, kept)
            self._asking = sock
        finally:
            self._buffer[:used] = bytes(used)
            if self._asking is not sock:
                sock.close()
        self._refuse(reading.errno)

    def _each(self, items: Iterable[T], lines: Callable[[T], bytes], size: int) -> list[bytes]:
        """Do something with each item, so many in an operation; return the keys that failed."""
        failed: list[bytes] = []
        rest = iter(items)
        while batch := list(islice(rest, size)):
            if self._change(map(lines, batch)) == 0:
                continue
            # Which of them was refused is not said: ask again for each.
            failed += [_key(item) for item in batch if self._change([lines(item)])]
        return failed

    def _change(self, lines: Iterable[bytes]) -> int:
        """Carry out one operation; return its errno or 0."""
        sock, self._changing = self._changing or _connect(self.name), None
        try:
            _send(sock, uapi.operation(lines))
            text = b""
            while (code := uapi.answer(text)) is None:
                text += _chunk(sock)
        except BaseException:
            sock.close()
            raise
        if code:
            # What it had not read of the operation, it would take for another one.
            sock.close()
        else:
            self._changing = sock
        return code

    def _refuse(self, code: int) -> None:
        if code == errno.EADDRINUSE:
            raise InterfaceUnavailable("another program uses the listen port")
        if code:
            raise InterfaceUnavailable(f"{self.name}: {os.strerror(code)}")


def _key(item: object) -> bytes:
    return item.public_key if isinstance(item, Peer) else bytes(item[:32])  # type: ignore[index]


def _connect(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_TIMEOUT)
    try:
        sock.connect(str(SOCKETS / f"{name}.sock"))
    except OSError as error:
        sock.close()
        raise _unavailable(name, error) from None
    return sock


def _send(sock: socket.socket, text: bytes) -> None:
    try:
        sock.sendall(text)
    except OSError as error:
        raise _unavailable("the interface", error) from None


def _receive(sock: socket.socket, view: memoryview) -> int:
    try:
        length = sock.recv_into(view)
    except OSError as error:
        raise _unavailable("the interface", error) from None
    if not length:
        raise InterfaceUnavailable("the program that runs the interface has ended")
    return length


def _chunk(sock: socket.socket) -> bytes:
    buffer = bytearray(256)
    with memoryview(buffer) as view:
        return bytes(buffer[: _receive(sock, view)])


def _rest(sock: socket.socket, kept: int) -> None:
    """Take the empty line that ends an answer, if it has not come with the rest."""
    if not kept and _chunk(sock) != b"\n":
        raise GarbledAnswer("what the interface says of its peers can't be read")


def _unavailable(name: str, error: OSError) -> Exception:
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted("talking to WireGuard needs root")
    if isinstance(error, TimeoutError):
        return InterfaceUnavailable("the program that runs the interface does not answer")
    return InterfaceUnavailable(f"no program runs {name}, or it has ended")
