"""
Connection tracking: forgets where a tunnel address was connected to.

By ctnetlink. The kernel is asked for the entries of an address, each is looked at again here,
and deleted by name: kernels before 5.8 do not know the filter and answer with every entry,
and a deletion by filter would there delete every entry.
"""

import errno
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from exuvia.errors import GarbledAnswer, InterfaceUnavailable
from exuvia.wg.attributes import (
    AF_INET,
    AF_INET6,
    MESSAGE_HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    nest,
)
from exuvia.wg.dump import walk

FEW = 4
"""Addresses up to which the kernel is asked for each; beyond, it is asked for all entries once."""

_NETFILTER = 12
_GET, _DELETE = 0x0101, 0x0102
_TUPLE_ORIG, _ID, _ZONE, _FILTER = 1, 12, 18, 25
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_TUPLE_IP = 1
_SOURCE, _DESTINATION = {AF_INET: 1, AF_INET6: 3}, {AF_INET: 2, AF_INET6: 4}
_MATCH_SOURCE, _MATCH_DESTINATION = 1, 2
_GENERAL_HEADER = struct.Struct("=BBH")
_TIMEOUT = struct.pack("@ll", 10, 0)
_LARGEST = 32_768
_TRACKED = Path("/proc/sys/net/netfilter/nf_conntrack_count")

Address = bytes
"""4 bytes of IPv4 or 16 of IPv6, as they stand in a packet."""


def is_tracking() -> bool:
    """Say whether the kernel of this namespace has connection tracking at all."""
    return _TRACKED.exists()


def forget(addresses: Collection[Address]) -> int:
    """
    Delete the entries of connections that one of these addresses opened or received; return how many.

    Raises InterfaceUnavailable if the kernel refuses.
    """
    if not addresses or not is_tracking():
        # Asking would load the module.
        return 0
    wanted = frozenset(addresses)
    with _socket() as sock:
        buffer = bytearray(_LARGEST)
        names: list[tuple[int, bytes]] = []
        try:
            for request in _requests(wanted):
                names += _entries(sock, request, wanted, buffer)
            return sum(_delete(sock, family, name) for family, name in names)
        except OSError as error:
            raise InterfaceUnavailable(f"conntrack: {os.strerror(error.errno or 0)}") from None
        finally:
            buffer[:] = bytes(len(buffer))


def _requests(wanted: Collection[Address]) -> Iterator[bytes]:
    if len(wanted) > FEW:
        for family in (AF_INET, AF_INET6):
            yield _message(_GET, NLM_F_REQUEST | NLM_F_DUMP, family)
        return
    for address in wanted:
        family = _family(address)
        for place, flag in ((_SOURCE, _MATCH_SOURCE), (_DESTINATION, _MATCH_DESTINATION)):
            tuple_ip = nest(_TUPLE_IP, attribute(place[family], address))
            flags = nest(_FILTER, *_flags(flag))
            yield _message(_GET, NLM_F_REQUEST | NLM_F_DUMP, family, nest(_TUPLE_ORIG, tuple_ip), flags)


def _flags(orig: int) -> tuple[bytes, bytes]:
    return (
        attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", orig)),
        attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", 0)),
    )


def _entries(
    sock: socket.socket, request: bytes, wanted: Collection[Address], buffer: bytearray
) -> list[tuple[int, bytes]]:
    """Return family and name of each entry of one of the addresses."""
    sock.send(request)
    names: list[tuple[int, bytes]] = []
    while True:
        length = sock.recv_into(buffer)
        for kind, start, end in _messages(buffer, length):
            if kind == NLMSG_DONE:
                return names
            if kind == NLMSG_ERROR:
                code = -struct.unpack_from("=i", buffer, start)[0]
                raise OSError(code, os.strerror(code))
            name = _name_if_wanted(buffer, start, end, wanted)
            if name is not None:
                names.append((buffer[start], name))


def _messages(buffer: bytearray, length: int) -> Iterator[tuple[int, int, int]]:
    position = 0
    while position < length:
        if length - position < MESSAGE_HEADER.size:
            raise GarbledAnswer("what the kernel says of connections can't be read")
        size, kind, *_ = MESSAGE_HEADER.unpack_from(buffer, position)
        if size < MESSAGE_HEADER.size + 4 or position + size > length:
            raise GarbledAnswer("what the kernel says of connections can't be read")
        yield kind, position + MESSAGE_HEADER.size, position + size
        position += size + 3 & ~3


def _name_if_wanted(buffer: bytearray, start: int, end: int, wanted: Collection[Address]) -> bytes | None:
    """Return the attributes that name an entry, if one of the addresses opened or received it."""
    family, name, is_wanted = buffer[start], b"", False
    for kind, first, last in walk(buffer, start + _GENERAL_HEADER.size, end):
        if kind == _TUPLE_ORIG:
            name += nest(kind, bytes(buffer[first:last]))
            is_wanted = any(
                bytes(buffer[a:b]) in wanted
                for part, lower, upper in walk(buffer, first, last)
                if part == _TUPLE_IP
                for place, a, b in walk(buffer, lower, upper)
                if place in (_SOURCE.get(family), _DESTINATION.get(family))
            )
        elif kind in (_ID, _ZONE):
            name += attribute(kind, bytes(buffer[first:last]))
    return name if is_wanted else None


def _delete(sock: socket.socket, family: int, name: bytes) -> bool:
    sock.send(_message(_DELETE, NLM_F_REQUEST | NLM_F_ACK, family, name))
    answer = sock.recv(_LARGEST)
    code: int = -struct.unpack_from("=i", answer, MESSAGE_HEADER.size)[0]
    if code not in (0, errno.ENOENT):
        raise OSError(code, os.strerror(code))
    return not code


def _message(kind: int, flags: int, family: int, *attributes: bytes) -> bytes:
    body = _GENERAL_HEADER.pack(family, 0, 0) + b"".join(attributes)
    return MESSAGE_HEADER.pack(MESSAGE_HEADER.size + len(body), kind, flags, 1, 0) + body


def _family(address: Address) -> int:
    return AF_INET if len(address) == 4 else AF_INET6


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
    sock.bind((0, 0))
    return sock
