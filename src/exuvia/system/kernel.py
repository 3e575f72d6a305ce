"""
An interface of the kernel's WireGuard: what is asked of it, as messages; what comes back, as values.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Protocol, Self, TypeVar

from exuvia.errors import GarbledAnswer, InterfaceUnavailable, NotPermitted
from exuvia.system.interface import index_of
from exuvia.system.netlink import Netlink
from exuvia.wg.dump import Dump, Scan
from exuvia.wg.interface import Comparison, Configured, Facts, Look
from exuvia.wg.keys import PrivateKey
from exuvia.wg.netlink import Endpoint, Requests, family_of, family_request
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer
from exuvia.wg.reading import Comparing, Configurations, facts

T = TypeVar("T")

BATCH = 256
"""Messages in a send: if all of them fail, their answers must fit into the receive buffer at once."""

TRIES = 3
"""Dumps that a comparison takes at most, if others change the interface meanwhile."""


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
    def open(cls, name: str, *, alone: bool = True) -> Self:
        """Open the interface with this name."""
        index = index_of(name)
        transport = Netlink(index if alone else None)
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
            sent: list[T] = []
            messages: list[bytes] = []
            for item in batch:
                try:
                    messages.append(request(item, first + len(messages)))
                    sent.append(item)
                except ValueError:  # more allowed IPs than fit into one message
                    failed.append(_key(item))
            for item, code in zip(sent, self._transport.send(messages, first), strict=True):
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
