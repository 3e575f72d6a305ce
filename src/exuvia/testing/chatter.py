"""Everything that a program at home might send, and what of it may leave by the wire: for tests of leaks."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator

from exuvia.client.killswitch import CONTROL_MARK, TUNNEL_MARK
from exuvia.testing.home import (
    CONTROL,
    CONTROL_PORT,
    LAN,
    NEIGHBOUR,
    NEIGHBOUR6,
    PORT,
    RESOLVER,
    WEB,
    WEB6,
    World,
)
from exuvia.testing.namespaces import Namespace, Packet

WORD = b"said by somebody at home"
_SAID = b"\x77\x77\x00\x01" + WORD
_PORTS = range(7000, 7100)
"""Source ports of what is said here, which the client itself never uses."""
_DNS, _OTHER = 53, 9
_HANDSHAKE_TO_DATA = range(1, 5)


class Chatter:
    """Programs at home that talk to everybody, by whatever way they find; some insist on the wire."""

    def __init__(self, namespace: Namespace, gateways: Iterable[str] = ()) -> None:
        self._namespace = namespace
        with namespace.inside():
            self._talkers = [*_ordinary(gateways, ""), *_ordinary(gateways, "eth0"), *_cunning()]

    def talk(self) -> None:
        """Say everything once."""
        for talker in self._talkers:
            talker.talk()
        with self._namespace.inside():
            _connect([(WEB, 80), (NEIGHBOUR, 53), (CONTROL, CONTROL_PORT), (WEB6, 80)])

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        """Go on talking while the block runs, in another thread."""
        done = threading.Event()

        def go_on() -> None:
            while not done.is_set():
                self.talk()
                time.sleep(0.01)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def close(self) -> None:
        """Be silent."""
        for talker in self._talkers:
            talker.close()


def _ordinary(gateways: Iterable[str], device: str) -> list["_Talker"]:
    four = [
        *((WEB, _OTHER), (WEB, _DNS), (NEIGHBOUR, _DNS), (LAN, _DNS), (LAN, _OTHER), (RESOLVER, _DNS)),
        *(("255.255.255.255", _OTHER), ("224.0.0.251", 5353), ("192.0.2.255", 137)),
        *((gateway, PORT) for gateway in gateways),
    ]
    six = [(WEB6, _OTHER), (WEB6, _DNS), (NEIGHBOUR6, _DNS), ("ff02::fb", 5353)]
    return [
        _Talker(_datagrams(4, device), WORD, four),
        _Talker(_datagrams(6, device), WORD, six),
        _Talker(_raw(4, device), _echo4(), [(WEB, 0), (NEIGHBOUR, 0), (LAN, 0)]),
        _Talker(_raw(6, device, hops=255), b"\x80\0\0\0" + _SAID, [(WEB6, 0), (NEIGHBOUR6, 0)]),
    ]


def _cunning() -> list["_Talker"]:
    """Programs of root's that look like what may leave: by mark, by port, by type."""
    found = [
        _Talker(_datagrams(4, "eth0", port=68), WORD, [(WEB, 67), (NEIGHBOUR, 67)]),
        _Talker(_datagrams(6, "eth0", port=546), WORD, [(WEB6, 547), (NEIGHBOUR6, 547)]),
        _Talker(_raw(6, "eth0"), b"\x87\0\0\0" + _SAID, [(WEB6, 0)]),
    ]
    for mark in (TUNNEL_MARK, CONTROL_MARK):
        marked = _datagrams(4, "")
        marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        found.append(_Talker(marked, WORD, [(WEB, PORT), (CONTROL, CONTROL_PORT), (CONTROL, _OTHER)]))
    return found


class _Talker:
    def __init__(self, sock: socket.socket, said: bytes, to: list[tuple[str, int]]) -> None:
        self._socket, self._said, self._to = sock, said, to

    def talk(self) -> None:
        for address in self._to:
            with contextlib.suppress(OSError):
                self._socket.sendto(self._said, address)

    def close(self) -> None:
        self._socket.close()


def leaks(packets: Iterable[Packet], world: World) -> list[Packet]:
    """Return the packets that a home whose client is up must not let out."""
    gateways = {gateway.address for gateway in world.gateways}
    return [packet for packet in packets if not _may_leave(packet, gateways)]


def is_tunnel(packet: Packet, world: World) -> bool:
    """Say whether a packet is WireGuard's, to a gateway."""
    gateways = {gateway.address for gateway in world.gateways}
    return packet.kind == "udp" and packet.destination in gateways and _may_leave(packet, gateways)


def _may_leave(packet: Packet, gateways: set[str]) -> bool:
    if packet.kind == "arp":
        return True
    if packet.kind == "icmpv6":
        return 133 <= packet.port <= 136 and WORD not in packet.data
    if packet.kind not in ("udp", "tcp") or int.from_bytes(packet.data[:2], "big") in _PORTS:
        return False
    if packet.kind == "tcp":
        return (packet.destination, packet.port) == (CONTROL, CONTROL_PORT)
    is_wireguard = packet.data[8] in _HANDSHAKE_TO_DATA and packet.data[9:12] == bytes(3)
    return is_wireguard and packet.destination in gateways and packet.port == PORT


def _connect(to: list[tuple[str, int]]) -> None:
    """Begin connections that are given up at once."""
    for address in to:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(sock)
            sock.connect(address)


def _datagrams(version: int, device: str, *, port: int | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    if version == 4:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    _bind(sock) if port is None else sock.bind(("", port))
    return _prepared(sock, device)


def _raw(version: int, device: str, *, hops: int = 64) -> socket.socket:
    if version == 4:
        return _prepared(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), device)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    return _prepared(sock, device)


def _prepared(sock: socket.socket, device: str) -> socket.socket:
    sock.setblocking(False)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return sock


def _bind(sock: socket.socket) -> None:
    for port in _PORTS:
        with contextlib.suppress(OSError):
            sock.bind(("", port))
            return
    raise OSError("no port is free")


def _echo4() -> bytes:
    """Return an echo request with its checksum, which for ICMPv6 the kernel makes itself."""
    words = b"\x08\0\0\0" + _SAID
    total = sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2))
    total = (total & 0xFFFF) + (total >> 16)
    return b"\x08\0" + (0xFFFF - total).to_bytes(2, "big") + _SAID
