"""
WireGuard run by a program instead of the kernel: its text protocol, as bytes and values.

One operation is a paragraph that ends with an empty line; so does its answer, whose last
line is errno=N (the cross-platform interface at wireguard.com/xplatform, and wireguard-go's
device/uapi.go). What comes back holds the private key, preshared keys and endpoints, like
the kernel's dump, and is treated alike: no endpoint ever becomes a Python object.
"""

import re
from collections.abc import Container, Iterable, Iterator
from ipaddress import ip_network

from exuvia.errors import GarbledAnswer
from exuvia.wg.interface import Configured, Facts
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey
from exuvia.wg.netlink import Endpoint
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer

GET = b"get=1\n\n"
LONGEST_LINE = 4096

_LINE = re.compile(
    rb"(?:public_key=([0-9a-f]{64})"
    rb"|last_handshake_time_sec=(\d{1,19})"
    rb"|last_handshake_time_nsec=(\d{1,19})"
    rb"|tx_bytes=(\d{1,20})"
    rb"|rx_bytes=(\d{1,20})"
    rb"|(endpoint)=[^\n]*"
    rb"|preshared_key=([0-9a-f]{64})"
    rb"|persistent_keepalive_interval=(\d{1,5})"
    rb"|allowed_ip=([0-9a-f.:]{2,45}/\d{1,3})"
    rb"|private_key=([0-9a-f]{64})"
    rb"|listen_port=(\d{1,5})"
    rb"|errno=(-?\d{1,5})"
    rb"|(?!(?:public_key|last_handshake_time_n?sec|[tr]x_bytes|preshared_key|allowed_ip|private_key"
    rb"|persistent_keepalive_interval|listen_port|errno)=)[a-z0-9_]+=[^\n]*"
    rb"|)\n"
)
(
    _PUBLIC_KEY,
    _SECONDS,
    _NANOSECONDS,
    _TX,
    _RX,
    _ENDPOINT,
    _PRESHARED_KEY,
    _KEEPALIVE,
    _ALLOWED_IP,
    _PRIVATE_KEY,
    _LISTEN_PORT,
    _ERRNO,
) = range(1, 13)

_NEXT = rb"(?=public_key=|errno=)"
_NUMBERS = rb"last_handshake_time_sec=%b\nlast_handshake_time_nsec=%b\ntx_bytes=%b\nrx_bytes=%b\n"
_BEGIN = rb"public_key=%b\npreshared_key=[0-9a-f]{64}\nprotocol_version=1\n"
_END = rb"persistent_keepalive_interval=\d{1,5}\n(?:allowed_ip=[0-9a-f.:/]{4,49}\n)*"
_CLEAN_PEERS = re.compile(
    rb"(?:" + _BEGIN % rb"[0-9a-f]{64}" + _NUMBERS % (b"0", b"0", b"0", b"0") + _END + _NEXT + rb")*"
)
_PEER = re.compile(
    _BEGIN % rb"([0-9a-f]{64})"
    + rb"(?:(endpoint)=[^\n]{1,80}\n)?"
    + _NUMBERS % (rb"(\d{1,19})", rb"(\d{1,19})", rb"(\d{1,20})", rb"(\d{1,20})")
    + _END
    + _NEXT
)
"""Peers as wireguard-go tells of them, whole: passed over, or read, several times as fast as line by line."""


def put(peer: Peer | TunnelPeer, *, endpoint: Endpoint | None = None) -> bytes:
    """Return the lines that add this peer, or make the one with its key exactly so."""
    if isinstance(peer, TunnelPeer):
        peer = peer.peer()
    lines = [
        f"public_key={peer.public_key.hex()}",
        f"preshared_key={(peer.preshared_key or bytes(32)).hex()}",
        f"persistent_keepalive_interval={peer.persistent_keepalive}",
        "replace_allowed_ips=true",
        *(f"allowed_ip={network}" for network in peer.allowed_ips),
    ]
    if endpoint is not None:
        address, port = endpoint
        lines.append(f"endpoint={address}:{port}" if address.version == 4 else f"endpoint=[{address}]:{port}")
    return _text(lines)


def remove(key: bytes) -> bytes:
    """Return the lines that remove the peer with this key, if there is one."""
    return _text([f"public_key={bytes(key).hex()}", "remove=true"])


def purge(peer: Peer | TunnelPeer) -> bytes:
    """Return the lines that remove the peer and reinstate it as given: for one operation."""
    key = peer[:32] if isinstance(peer, TunnelPeer) else peer.public_key
    return remove(key) + put(peer)


def interface(
    *, private_key: PrivateKey | None = None, listen_port: int | None = None, fwmark: int | None = None
) -> bytes:
    """Return the lines that change what the interface itself is; None leaves a thing as it is."""
    lines = []
    if private_key is not None:
        lines.append(f"private_key={private_key.expose().hex()}")
    if listen_port is not None:
        lines.append(f"listen_port={listen_port}")
    if fwmark is not None:
        lines.append(f"fwmark={fwmark}")
    return _text(lines)


def operation(lines: Iterable[bytes]) -> bytes:
    """Return the one operation that does what all these lines say, in their order."""
    return b"set=1\n" + b"".join(lines) + b"\n"


def answer(text: bytes) -> int | None:
    """Return the errno of an operation's answer, 0 if it was carried out, None if it is not complete."""
    if not text.endswith(b"\n\n"):
        return None
    found = re.fullmatch(rb"errno=(-?\d{1,5})\n\n", text)
    if found is None:
        raise _garbled()
    return abs(int(found[1]))


class Reading:
    """
    The answer to GET, piece by piece, out of one buffer that is used again.

    `wanted` are the keys whose configuration is taken out, None for all. The protocol tells
    an interface's private key and not its public key: only for `facts` it is looked at.
    """

    def __init__(self, wanted: Container[bytes] | None = (), *, facts: bool = False) -> None:
        self.done = False
        self.errno = 0
        self.peers = 0
        self.facts = Facts(None, 0)
        self._wanted = wanted
        self._own = facts
        self._entry: _Entry | None = None

    def feed(self, buffer: bytearray, length: int) -> tuple[list["Configured | Sighting"], int]:
        """
        Return the peers that are complete, and how many bytes were read: all but an unfinished line.

        A wanted peer comes with its configuration; any other, unless it is clean, as what there
        is to forget.
        """
        found: list[Configured | Sighting] = []
        position = 0
        while not self.done:
            if not self._wanted and self._wanted is not None:
                position = self._usual(buffer, position, length, found)
            line = _LINE.match(buffer, position, length)
            if line is None:
                break
            position = line.end()
            found += self._line(line)
        if self.done and position != length - 1 and position != length:
            raise _garbled()
        if not self.done and (buffer.find(b"\n", position, length) >= 0 or length - position > LONGEST_LINE):
            raise _garbled()
        return found, position

    def _usual(
        self, buffer: bytearray, position: int, length: int, found: list["Configured | Sighting"]
    ) -> int:
        """Read complete peers that are told of as wireguard-go does; return where they end."""
        if not buffer.startswith(b"public_key=", position):
            return position
        found += self._complete()
        while True:
            clean = _CLEAN_PEERS.match(buffer, position, length)
            if clean is not None:
                self.peers += buffer.count(b"public_key=", position, clean.end())
                position = clean.end()
            peer = _PEER.match(buffer, position, length)
            if peer is None:
                return position
            self.peers += 1
            key, endpoint, seconds, nanoseconds, tx, rx = peer.groups()
            handshake = int(seconds) * 1_000_000_000 + int(nanoseconds)
            sighting = Sighting(
                bytes.fromhex(key.decode()), handshake, int(rx), int(tx), endpoint is not None
            )
            found.append(sighting)
            position = peer.end()

    def _complete(self) -> list["Configured | Sighting"]:
        """Return the peer that was being read: another line shows that it is complete."""
        entry, self._entry = self._entry, None
        if entry is None:
            return []
        self.peers += 1
        found = entry.value()
        return [found] if isinstance(found, Configured) or any(found[1:]) else []

    def _line(self, line: "re.Match[bytes]") -> Iterator["Configured | Sighting"]:
        kind = line.lastindex
        if kind in (_PUBLIC_KEY, _ERRNO):
            yield from self._complete()
        if kind == _PUBLIC_KEY:
            key = bytes.fromhex(line[kind].decode())
            self._entry = _Entry(key, whole=self._wanted is None or key in self._wanted)
        elif kind == _ERRNO:
            self.done = True
            self.errno = abs(int(line[kind]))
        elif kind == _PRIVATE_KEY:
            if not self._own:
                return
            public_key = PrivateKey(bytes.fromhex(line[kind].decode())).public_key()
            self.facts = self.facts._replace(public_key=public_key)
        elif kind == _LISTEN_PORT:
            self.facts = self.facts._replace(listen_port=int(line[kind]))
        elif kind is not None:
            if self._entry is None:
                raise _garbled()
            self._entry.line(kind, line)


class _Entry:
    """One peer while its lines are read."""

    __slots__ = ("_numbers", "allowed_ips", "endpoint", "key", "preshared", "whole")

    def __init__(self, key: bytes, *, whole: bool) -> None:
        self.key = key
        self.whole = whole
        self.endpoint = False
        self.preshared: PresharedKey | None = None
        self.allowed_ips: list[Network] = []
        self._numbers = {_SECONDS: 0, _NANOSECONDS: 0, _TX: 0, _RX: 0, _KEEPALIVE: 0}

    def line(self, kind: int, line: "re.Match[bytes]") -> None:
        """Take what one line says."""
        if kind in self._numbers:
            self._numbers[kind] = int(line[kind])
        elif kind == _ENDPOINT:
            self.endpoint = True
        elif not self.whole:
            return
        elif kind == _PRESHARED_KEY:
            preshared = PresharedKey(bytes.fromhex(line[kind].decode()))
            self.preshared = preshared if any(preshared) else None
        elif kind == _ALLOWED_IP:
            try:
                self.allowed_ips.append(ip_network(line[kind].decode()))
            except ValueError:
                raise _garbled() from None

    def value(self) -> "Configured | Sighting":
        """Return it as a value."""
        number = self._numbers
        handshake = number[_SECONDS] * 1_000_000_000 + number[_NANOSECONDS]
        sighting = Sighting(self.key, handshake, number[_RX], number[_TX], self.endpoint)
        if not self.whole:
            return sighting
        peer = Peer(PublicKey(self.key), tuple(self.allowed_ips), self.preshared, number[_KEEPALIVE])
        return Configured(peer, sighting)


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _garbled() -> GarbledAnswer:
    return GarbledAnswer("what the interface says of its peers can't be read")
