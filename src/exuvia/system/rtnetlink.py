"""
The kernel's rtnetlink: questions about links, addresses, routes and rules, and its answers.

Numbers are those of include/uapi/linux/{rtnetlink,if_link,if_addr,fib_rules}.h.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from exuvia.errors import GarbledAnswer, InterfaceUnavailable, NotInKernel, NotPermitted
from exuvia.system.netlink import opened
from exuvia.wg.attributes import (
    ATTRIBUTE_HEADER,
    MESSAGE_HEADER,
    NLA_TYPE_MASK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)

Attributes = dict[int, bytes]

_EXPLAINED = 0x200
"""NLM_F_ACK_TLVS: the kernel's own words follow."""
_EXPLANATION = 1
_LARGEST = 32_768
_TRIES = 10


class Rtnetlink:
    """A socket for it, in this network namespace."""

    def __init__(self) -> None:
        self._sequence = 0
        try:
            self._socket = opened(socket.NETLINK_ROUTE, explained=True)
        except OSError as error:
            raise _unavailable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, kind: int, flags: int, body: bytes) -> bytes | None:
        """
        Return the body of the one answer, empty if it only says that it is done.

        None if there is no such link. Raises NotPermitted or InterfaceUnavailable.
        """
        self._send(kind, flags, body)
        while True:
            for answer_kind, _flags, answer in self._receive():
                if answer_kind != NLMSG_ERROR:
                    return answer
                return b"" if _is_done(answer) else None

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of all answers; asked again if something changed meanwhile."""
        for _ in range(_TRIES):
            found, whole = self._dump(kind, body)
            if whole:
                return found
        raise InterfaceUnavailable("links, addresses or rules change too fast to be read")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _dump(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        self._send(kind, NLM_F_DUMP, body)
        found: list[bytes] = []
        whole = True
        while True:
            for answer_kind, flags, answer in self._receive():
                whole = whole and not flags & NLM_F_DUMP_INTR
                if answer_kind == NLMSG_DONE:
                    return found, whole
                if answer_kind == NLMSG_ERROR:
                    _is_done(answer)
                    return found, whole
                found.append(answer)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        header = MESSAGE_HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        try:
            self._socket.send(header + body)
        except OSError as error:
            raise _unavailable(error) from None

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield type, flags and body of the answers in one datagram, but for those to earlier questions."""
        try:
            data = self._socket.recv(_LARGEST)
        except OSError as error:
            raise _unavailable(error) from None
        position = 0
        while position < len(data):
            if len(data) - position < 16:
                raise GarbledAnswer("an answer of rtnetlink is cut short")
            length, kind, flags, sequence, _port = MESSAGE_HEADER.unpack_from(data, position)
            if not 16 <= length <= len(data) - position:
                raise GarbledAnswer("an answer of rtnetlink is cut short")
            if sequence == self._sequence:
                body = data[position + 16 : position + length]
                yield kind, flags, _explained(flags, body) if kind == NLMSG_ERROR else body
            position += length + 3 & ~3


def attributes(body: bytes, start: int) -> Attributes:
    """Return the attributes that begin there, by their types; GarbledAnswer if they can't be read."""
    if len(body) < start:
        raise GarbledAnswer("an answer of rtnetlink is cut short")
    found: Attributes = {}
    position = start
    while position + 4 <= len(body):
        size, kind = ATTRIBUTE_HEADER.unpack_from(body, position)
        if size < 4 or position + size > len(body):
            raise GarbledAnswer("an answer of rtnetlink can't be read")
        found[kind & NLA_TYPE_MASK] = body[position + 4 : position + size]
        position += size + 3 & ~3
    return found


def _explained(flags: int, body: bytes) -> bytes:
    """Return errno, negative, and the kernel's own words, if there are any."""
    # What the kernel says of an error repeats the header of the question first.
    words = attributes(body, 20).get(_EXPLANATION, b"") if flags & _EXPLAINED else b""
    return body[:4] + words.rstrip(b"\0")


def _is_done(answer: bytes) -> bool:
    """Say whether all went well; False if there is no such link."""
    code = -int.from_bytes(answer[:4], sys.byteorder, signed=True)
    if code == errno.ENODEV:
        return False
    if code == errno.EPERM:
        raise NotPermitted("changing network interfaces needs root, or the capability CAP_NET_ADMIN")
    if code == errno.EOPNOTSUPP:
        raise NotInKernel("this kernel can't do that")
    if code:
        raise InterfaceUnavailable(f"rtnetlink: {answer[4:].decode('ascii', 'replace') or os.strerror(code)}")
    return True


def _unavailable(error: OSError) -> InterfaceUnavailable:
    return InterfaceUnavailable(f"rtnetlink: {os.strerror(error.errno or 0)}")
