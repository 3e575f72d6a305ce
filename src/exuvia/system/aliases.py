"""
The network links of this namespace: which there are, and the text that can be written on one.

By rtnetlink and not by `ip`, because a gateway writes its alias after every change.
"""

import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass

from exuvia.errors import GarbledAnswer, InterfaceUnavailable, NotPermitted
from exuvia.wg.attributes import (
    ATTRIBUTE_HEADER,
    MESSAGE_HEADER,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
)

GROUP = 0x6578
"""The group ("ex") of links that we made; it is set in the instant in which a link is made."""

_RTM_NEWLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 18, 19
_IFLA_IFNAME, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_EXT_MASK = 3, 20, 27, 29
_SKIP_STATISTICS = struct.pack("=I", 8)
_LINK = struct.Struct("=BxHiII")
_UP = 1
_TIMEOUT = struct.pack("@ll", 10, 0)
_LARGEST = 32_768


@dataclass(frozen=True, slots=True)
class Link:
    """A network link."""

    index: int
    up: bool
    group: int
    alias: str


class Links:
    """A socket that asks for links, and writes their aliases."""

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        self._socket.bind((0, 0))

    def find(self, name: str) -> Link | None:
        """Return the link with this name, or None if there is none."""
        attributes = attribute(_IFLA_IFNAME, name.encode() + b"\0")
        attributes += attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS)
        code, answer = self._ask(_RTM_GETLINK, NLM_F_REQUEST, 0, attributes)
        if code == errno.ENODEV:
            return None
        _refuse(code)
        return _link(answer)

    def write_alias(self, index: int, text: str) -> None:
        """Write a text of at most 255 bytes on a link."""
        attributes = attribute(_IFLA_IFALIAS, text.encode())
        code, _ = self._ask(_RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, index, attributes)
        _refuse(code)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ask(self, kind: int, flags: int, index: int, attributes: bytes) -> tuple[int, bytes]:
        """Send a request and return the errno of its answer and what it says of a link."""
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes
        header = MESSAGE_HEADER.pack(16 + len(body), kind, flags, self._sequence, 0)
        try:
            self._socket.send(header + body)
            while True:
                answer = self._socket.recv(_LARGEST)
                _length, kind, _flags, sequence, _port = MESSAGE_HEADER.unpack_from(answer)
                if sequence == self._sequence:
                    break
        except OSError as error:
            raise InterfaceUnavailable(f"rtnetlink: {os.strerror(error.errno or 0)}") from None
        if kind == NLMSG_ERROR:
            return -int.from_bytes(answer[16:20], sys.byteorder, signed=True), b""
        return 0, answer


def _link(answer: bytes) -> Link:
    (length,) = struct.unpack_from("=I", answer)
    if length != len(answer) or length < 16 + _LINK.size:
        raise GarbledAnswer("what the kernel says of a link can't be read")
    _, _, index, flags, _ = _LINK.unpack_from(answer, 16)
    found: dict[int, bytes] = {}
    position = 16 + _LINK.size
    while position + 4 <= length:
        size, kind = ATTRIBUTE_HEADER.unpack_from(answer, position)
        if size < 4 or position + size > length:
            raise GarbledAnswer("what the kernel says of a link can't be read")
        found[kind & NLA_TYPE_MASK] = answer[position + 4 : position + size]
        position += size + 3 & ~3
    alias = found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode("utf-8", "replace")
    return Link(index, bool(flags & _UP), _number(found.get(_IFLA_GROUP, b"")), alias)


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _refuse(code: int) -> None:
    if code == errno.EPERM:
        raise NotPermitted("changing network interfaces needs root, or the capability CAP_NET_ADMIN")
    if code == errno.ENODEV:
        raise InterfaceUnavailable("the interface is gone")
    if code:
        raise InterfaceUnavailable(f"rtnetlink: {os.strerror(code)}")
