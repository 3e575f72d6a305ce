"""
What we tell the kernel's WireGuard, as bytes: values in, generic netlink messages out.

One message for each peer, so that each succeeds or fails by itself and none holds the
kernel's lock for long; many messages in a send. A purge is one message, too: the kernel
takes the entries of a message in order and under one lock (wg_set_device in
drivers/net/wireguard/netlink.c), so nobody ever sees the peer missing, not even when we
are killed in the middle.
"""

import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from exuvia.errors import GarbledAnswer
from exuvia.wg.attributes import (
    AF_INET,
    AF_INET6,
    ATTRIBUTE_HEADER,
    CONTROL_FAMILY,
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_FAMILY_NAME,
    CTRL_CMD_GETFAMILY,
    FAMILY_NAME,
    FAMILY_VERSION,
    GENERIC_HEADER,
    MESSAGE_HEADER,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    AllowedIPAttribute,
    Command,
    InterfaceAttribute,
    PeerAttribute,
    PeerFlag,
    attribute,
    nest,
)
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Network, Peer, TunnelPeer

Endpoint = tuple[IPv4Address | IPv6Address, int]
"""Address and port of a gateway, which are published; a client's never becomes a value."""

_ORDER = sys.byteorder
_FLAGS_AT = 6 if _ORDER == "little" else 7
_NO_KEY = bytes(32)
_SPLIT_PEER = Struct("32s4s16s32s").unpack


class Requests:
    """Requests to one interface; sequence numbers are chosen by whoever sends them."""

    def __init__(self, family: int, interface_index: int) -> None:
        self._family = family
        self._interface = attribute(InterfaceAttribute.IFINDEX, interface_index.to_bytes(4, _ORDER))
        self._put = _Template(self, removed_first=False)
        self._purge = _Template(self, removed_first=True)

    def dump(self, sequence: int) -> bytes:
        """Return the request to be told everything of the interface."""
        return self.message(Command.GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, b"")

    def put(self, peer: Peer | TunnelPeer, sequence: int, *, endpoint: Endpoint | None = None) -> bytes:
        """Return the request to add this peer, or to make the one with its key exactly so."""
        if isinstance(peer, TunnelPeer):
            return self._put.fill(peer, sequence)
        return self._set_peers(sequence, _peer(peer, endpoint))

    def remove(self, key: bytes, sequence: int) -> bytes:
        """Return the request to remove the peer with this key, if there is one."""
        return self._set_peers(sequence, _removal(key))

    def purge(self, peer: Peer | TunnelPeer, sequence: int) -> bytes:
        """Return the one request that removes the peer and reinstates it as given."""
        if isinstance(peer, TunnelPeer):
            return self._purge.fill(peer, sequence)
        return self._set_peers(sequence, _removal(peer.public_key), _peer(peer, None))

    def interface(
        self,
        sequence: int,
        *,
        private_key: PrivateKey | None = None,
        listen_port: int | None = None,
        fwmark: int | None = None,
    ) -> bytes:
        """Return the request to change what the interface itself is; None leaves a thing as it is."""
        parts = b""
        if private_key is not None:
            parts += attribute(InterfaceAttribute.PRIVATE_KEY, private_key.expose())
        if listen_port is not None:
            parts += attribute(InterfaceAttribute.LISTEN_PORT, listen_port.to_bytes(2, _ORDER))
        if fwmark is not None:
            parts += attribute(InterfaceAttribute.FWMARK, fwmark.to_bytes(4, _ORDER))
        return self.message(Command.SET, NLM_F_REQUEST, sequence, parts)

    def message(self, command: int, flags: int, sequence: int, attributes: bytes) -> bytes:
        """Return a message about the interface with these attributes."""
        body = GENERIC_HEADER.pack(command, FAMILY_VERSION, 0) + self._interface + attributes
        return MESSAGE_HEADER.pack(16 + len(body), self._family, flags, sequence, 0) + body

    def _set_peers(self, sequence: int, *entries: bytes) -> bytes:
        peers = nest(InterfaceAttribute.PEERS, *entries)
        return self.message(Command.SET, NLM_F_REQUEST, sequence, peers)


def family_request(sequence: int) -> bytes:
    """Return the request for the number that this kernel gave to WireGuard's family."""
    body = GENERIC_HEADER.pack(CTRL_CMD_GETFAMILY, 1, 0)
    body += attribute(CTRL_ATTR_FAMILY_NAME, FAMILY_NAME + b"\0")
    return MESSAGE_HEADER.pack(16 + len(body), CONTROL_FAMILY, NLM_F_REQUEST, sequence, 0) + body


def family_of(answer: bytes) -> int | None:
    """Return the family's number from the kernel's answer; None if it knows no WireGuard."""
    for kind, start, end in _messages(answer):
        if kind == NLMSG_ERROR:
            return None
        position = start + GENERIC_HEADER.size
        while position + 4 <= end:
            length, name = ATTRIBUTE_HEADER.unpack_from(answer, position)
            if name & NLA_TYPE_MASK == CTRL_ATTR_FAMILY_ID and length == 6:
                return int.from_bytes(answer[position + 4 : position + 6], _ORDER)
            position += max(4, length + 3 & ~3)
    raise GarbledAnswer("the kernel's answer about WireGuard can't be read")


def joined(messages: Sequence[bytes]) -> bytes:
    """
    Return messages as they are sent together: the last one asks for an answer.

    The kernel takes them in order, and answers those that fail without being asked; so the
    answer to the last says of all others, too, that they have been carried out.
    """
    *others, last = messages
    asking = bytearray(last)
    asking[_FLAGS_AT] |= NLM_F_ACK
    return b"".join([*others, asking])


class Acknowledgements:
    """
    Which of `count` messages, numbered from `first`, were carried out, as the kernel answers.

    `errors` holds for each an errno or 0; it is true of the first `answered` ones.
    """

    def __init__(self, first: int, count: int) -> None:
        self._first = first
        self.errors = [0] * count
        self.answered = 0

    def feed(self, answer: bytes) -> None:
        """Note what one received datagram says; answers to anything else are passed over."""
        for kind, start, end in _messages(answer):
            if kind not in (NLMSG_ERROR, NLMSG_DONE):
                continue
            if end - start < 4:
                raise GarbledAnswer("an acknowledgement of the kernel can't be read")
            sequence = int.from_bytes(answer[start - 8 : start - 4], _ORDER)
            place = (sequence - self._first) & 0xFFFFFFFF
            if self.answered <= place < len(self.errors):
                self.errors[place] = -int.from_bytes(answer[start : start + 4], _ORDER, signed=True)
                self.answered = place + 1

    def lost(self, code: int) -> None:
        """Note that nothing more will be heard: the rest has failed with this errno, or may have."""
        for place in range(self.answered, len(self.errors)):
            self.errors[place] = code


def _messages(answer: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of the payload of each message in a datagram."""
    position = 0
    while position < len(answer):
        if len(answer) - position < 16:
            raise GarbledAnswer("an answer of the kernel is cut short")
        length, kind, _flags, _sequence, _port = MESSAGE_HEADER.unpack_from(answer, position)
        if length < 16 or position + length > len(answer):
            raise GarbledAnswer("an answer of the kernel is cut short")
        yield kind, position + 16, position + length
        position += length + 3 & ~3


def _removal(key: bytes) -> bytes:
    return nest(
        0,
        attribute(PeerAttribute.PUBLIC_KEY, key),
        attribute(PeerAttribute.FLAGS, PeerFlag.REMOVE_ME.to_bytes(4, _ORDER)),
    )


def _peer(peer: Peer, endpoint: Endpoint | None) -> bytes:
    """Return the entry that makes a peer exactly so: what it doesn't say is cleared."""
    parts = [
        attribute(PeerAttribute.PUBLIC_KEY, peer.public_key),
        attribute(PeerAttribute.FLAGS, PeerFlag.REPLACE_ALLOWEDIPS.to_bytes(4, _ORDER)),
        attribute(PeerAttribute.PRESHARED_KEY, peer.preshared_key or _NO_KEY),
        attribute(PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL, peer.persistent_keepalive.to_bytes(2, _ORDER)),
    ]
    if endpoint is not None:
        parts.append(attribute(PeerAttribute.ENDPOINT, _socket_address(endpoint)))
    parts.append(nest(PeerAttribute.ALLOWEDIPS, *map(_allowed_ip, peer.allowed_ips)))
    return nest(0, *parts)


def _allowed_ip(network: Network) -> bytes:
    return nest(
        0,
        attribute(
            AllowedIPAttribute.FAMILY, (AF_INET if network.version == 4 else AF_INET6).to_bytes(2, _ORDER)
        ),
        attribute(AllowedIPAttribute.IPADDR, network.network_address.packed),
        attribute(AllowedIPAttribute.CIDR_MASK, network.prefixlen.to_bytes(1, _ORDER)),
    )


def _socket_address(endpoint: Endpoint) -> bytes:
    """Return sockaddr_in or sockaddr_in6."""
    address, port = endpoint
    if address.version == 4:
        return AF_INET.to_bytes(2, _ORDER) + port.to_bytes(2, "big") + address.packed + bytes(8)
    return AF_INET6.to_bytes(2, _ORDER) + port.to_bytes(2, "big") + bytes(4) + address.packed + bytes(4)


class _Template:
    """
    A request about a TunnelPeer in which only five fields change.

    Built once from the general encoder, so that the two can't differ.
    """

    def __init__(self, requests: Requests, *, removed_first: bool) -> None:
        self._removed_first = removed_first
        marks = [bytes([mark]) * size for mark, size in ((1, 32), (2, 4), (3, 16), (4, 32))]
        sample = TunnelPeer(b"".join(marks)).peer()
        make = requests.purge if removed_first else requests.put
        message = make(sample, 0xFFFFFFFF)
        key, address4, address6, preshared = marks
        fields = [b"\xff\xff\xff\xff", *([key] if removed_first else []), key, preshared, address4, address6]
        self._constants, layout = _around(message, fields)
        self._pack = Struct(layout).pack

    def fill(self, peer: TunnelPeer, sequence: int) -> bytes:
        """Return the request about this peer."""
        key, address4, address6, preshared = _SPLIT_PEER(peer)
        a, b, c, d, e, f, *g = self._constants
        if not self._removed_first:
            return self._pack(a, sequence, b, key, c, preshared, d, address4, e, address6, f)
        return self._pack(a, sequence, b, key, c, key, d, preshared, e, address4, f, address6, *g)


def _around(message: bytes, fields: list[bytes]) -> tuple[list[bytes], str]:
    """Return what stands between the fields, in their order, and the struct layout of the whole."""
    constants, layout, position = [], "=", 0
    for field in fields:
        start = message.index(field, position)
        constants.append(message[position:start])
        layout += f"{start - position}s" + ("I" if field == fields[0] else f"{len(field)}s")
        position = start + len(field)
    constants.append(message[position:])
    return constants, layout + f"{len(message) - position}s"
