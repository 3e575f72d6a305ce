"""Dumps as the kernel writes them: for the fake kernel, for tests of the decoder, for benchmarks."""

import sys
from struct import Struct
from typing import TYPE_CHECKING

from exuvia.wg.attributes import (
    ATTRIBUTE_HEADER,
    FAMILY_VERSION,
    GENERIC_HEADER,
    MESSAGE_HEADER,
    NLA_F_NESTED,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    AllowedIPAttribute,
    Command,
    InterfaceAttribute,
    PeerAttribute,
    attribute,
    nest,
)
from exuvia.wg.keys import PrivateKey

if TYPE_CHECKING:
    from exuvia.testing.interface import KernelPeer

_ORDER = sys.byteorder
_FAMILY = 21
_MULTI = 2
_TIME = Struct("=qq").pack


class DumpWriter:
    """Writes the messages of one dump; `padded` as on machines that align 64-bit numbers."""

    def __init__(self, sequence: int, *, padded: bool = False) -> None:
        self._sequence = sequence
        self._padded = padded

    def begin(self, size: int, *, interrupted: bool = False) -> "DumpMessage":
        """Return a new message of so many bytes at most."""
        flags = _MULTI | (NLM_F_DUMP_INTR if interrupted else 0)
        return DumpMessage(self._sequence, flags, size, padded=self._padded)

    def done(self, code: int = 0) -> bytes:
        """Return the message that ends a dump."""
        body = (-code).to_bytes(4, _ORDER, signed=True)
        return MESSAGE_HEADER.pack(20, NLMSG_DONE, _MULTI, self._sequence, 0) + body

    def error(self, code: int) -> bytes:
        """Return the answer to a dump that is refused."""
        body = (-code).to_bytes(4, _ORDER, signed=True) + MESSAGE_HEADER.pack(
            16, _FAMILY, 0, self._sequence, 0
        )
        return MESSAGE_HEADER.pack(16 + len(body), NLMSG_ERROR, 0, self._sequence, 0) + body


class DumpMessage:
    """One message of a dump while it is filled."""

    def __init__(self, sequence: int, flags: int, size: int, *, padded: bool) -> None:
        self._sequence = sequence
        self._flags = flags
        self._size = size
        self._padded = padded
        self._bytes = bytearray(MESSAGE_HEADER.size)
        self._bytes += GENERIC_HEADER.pack(Command.GET, FAMILY_VERSION, 0)
        self._nest: int | None = None

    def interface(self, index: int, private_key: PrivateKey | None, listen_port: int, fwmark: int) -> None:
        """Write what only the first message has."""
        self._bytes += attribute(InterfaceAttribute.LISTEN_PORT, listen_port.to_bytes(2, _ORDER))
        self._bytes += attribute(InterfaceAttribute.FWMARK, fwmark.to_bytes(4, _ORDER))
        self._bytes += attribute(InterfaceAttribute.IFINDEX, index.to_bytes(4, _ORDER))
        self._bytes += attribute(InterfaceAttribute.IFNAME, b"wg0\0")
        if private_key is not None:
            self._bytes += attribute(InterfaceAttribute.PRIVATE_KEY, private_key.expose())
            self._bytes += attribute(InterfaceAttribute.PUBLIC_KEY, private_key.public_key())

    def peer(self, peer: "KernelPeer", resume: int | None = None) -> tuple[bool, int | None]:
        """
        Write a peer, or from its allowed IP number `resume` on if an earlier message was full.

        Return whether it is complete, and if not, where to resume.
        """
        if self._nest is None:
            self._nest = self._open(InterfaceAttribute.PEERS)
        start = self._open(0)
        self._bytes += attribute(PeerAttribute.PUBLIC_KEY, peer.public_key)
        if resume is None:
            self._state(peer)
        if len(self._bytes) + ATTRIBUTE_HEADER.size > self._size:
            del self._bytes[start:]
            return False, resume
        written = resume or 0
        if peer.allowed_ips[written:]:
            addresses = self._open(PeerAttribute.ALLOWEDIPS)
            for allowed_ip in peer.allowed_ips[written:]:
                entry = _allowed_ip(*allowed_ip)
                if len(self._bytes) + len(entry) > self._size:
                    break
                self._bytes += entry
                written += 1
            self._close(addresses)
        self._close(start)
        complete = written == len(peer.allowed_ips)
        return complete, None if complete else written

    def finish(self) -> bytes:
        """Return the message."""
        if self._nest is not None:
            self._close(self._nest)
        MESSAGE_HEADER.pack_into(self._bytes, 0, len(self._bytes), _FAMILY, self._flags, self._sequence, 0)
        return bytes(self._bytes)

    def _state(self, peer: "KernelPeer") -> None:
        self._bytes += attribute(PeerAttribute.PRESHARED_KEY, peer.preshared_key)
        seconds, nanoseconds = divmod(peer.handshake, 1_000_000_000)
        self._bytes += attribute(PeerAttribute.LAST_HANDSHAKE_TIME, _TIME(seconds, nanoseconds))
        keepalive = peer.persistent_keepalive.to_bytes(2, _ORDER)
        self._bytes += attribute(PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL, keepalive)
        self._counter(PeerAttribute.TX_BYTES, peer.tx)
        self._counter(PeerAttribute.RX_BYTES, peer.rx)
        self._bytes += attribute(PeerAttribute.PROTOCOL_VERSION, (1).to_bytes(4, _ORDER))
        if peer.endpoint:
            self._bytes += attribute(PeerAttribute.ENDPOINT, peer.endpoint)

    def _counter(self, kind: int, value: int) -> None:
        if self._padded and len(self._bytes) % 8 == 0:
            self._bytes += ATTRIBUTE_HEADER.pack(4, PeerAttribute.UNSPEC)
        self._bytes += attribute(kind, value.to_bytes(8, _ORDER))

    def _open(self, kind: int) -> int:
        self._bytes += ATTRIBUTE_HEADER.pack(0, kind | NLA_F_NESTED)
        return len(self._bytes) - ATTRIBUTE_HEADER.size

    def _close(self, start: int) -> None:
        self._bytes[start : start + 2] = (len(self._bytes) - start).to_bytes(2, _ORDER)


def _allowed_ip(family: int, address: bytes, length: int) -> bytes:
    return nest(
        0,
        attribute(AllowedIPAttribute.CIDR_MASK, length.to_bytes(1, _ORDER)),
        attribute(AllowedIPAttribute.FAMILY, family.to_bytes(2, _ORDER)),
        attribute(AllowedIPAttribute.IPADDR, address),
    )
