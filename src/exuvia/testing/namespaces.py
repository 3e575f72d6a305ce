"""Network namespaces for tests: hosts on wires, sockets inside them, and what crosses a wire."""

import contextlib
import ctypes
import itertools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_OUTGOING = 4
_SO_RCVBUFFORCE, _SOL_PACKET, _PACKET_STATISTICS = 33, 263, 6

_count = itertools.count()


class Namespace:
    """A network namespace of its own, until it is closed."""

    def __init__(self, name: str) -> None:
        self.name = f"{name}-{unique()}"
        _run("ip", "netns", "add", self.name)
        self.ip("link set lo up")
        # No waiting for other holders of an address: there are none.
        self.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")

    def ip(self, *lines: str) -> None:
        """Do what these lines of `ip -batch` say inside."""
        _run("ip", "-n", self.name, "-batch", "-", text="\n".join(lines))

    def run(self, *command: str, text: str = "") -> str:
        """Run a command inside to its end, which must be a good one; return what it printed."""
        return _run(*self.command(*command), text=text)

    def command(self, *command: str) -> list[str]:
        """Return the command that runs this one inside."""
        return ["ip", "netns", "exec", self.name, *command]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread be inside: sockets that are made there stay there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as home, Path("/run/netns", self.name).open() as there:
            _enter(libc, there.fileno())
            try:
                yield
            finally:
                _enter(libc, home.fileno())

    def close(self) -> None:
        """Take it away, and every interface in it."""
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


def unique() -> str:
    """Return a short word that no other test on this machine uses just now."""
    return f"{os.getpid()}x{next(_count)}"


def wire(one: Namespace, name: str, other: Namespace, other_name: str) -> None:
    """Join two namespaces by a wire with these ends."""
    _run(
        *("ip", "link", "add", name, "netns", one.name),
        *("type", "veth", "peer", "name", other_name, "netns", other.name),
    )
    one.ip(f"link set {name} up")
    other.ip(f"link set {other_name} up")


@dataclass(frozen=True)
class Packet:
    """What a wire showed of one packet."""

    kind: str
    """arp, udp, tcp, icmp, icmpv6, or a number."""
    source: str = ""
    destination: str = ""
    port: int = 0
    """Where to; of ICMPv6 its type."""
    data: bytes = b""


class Wiretap:
    """Everything that arrives at an interface, until it is closed."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        with namespace.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 256 << 20)
            self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def packets(self) -> list[Packet]:
        """Return what has arrived since it was last asked; RuntimeError if anything was missed."""
        found = []
        if self._missed():
            raise RuntimeError("there was more on the wire than could be listened to")
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, address = self._socket.recvfrom(65536)
                if address[2] != _OUTGOING:
                    found.append(_read(frame))
        return found

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _missed(self) -> int:
        counts = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int.from_bytes(counts[4:], sys.byteorder)


def _read(frame: bytes) -> Packet:
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == 0x0806:
        return Packet("arp", str(ip_address(frame[28:32])), str(ip_address(frame[38:42])))
    if kind == 0x0800:
        header = 14 + (frame[14] & 15) * 4
        return _transport(frame[23], frame[26:30], frame[30:34], frame[header:])
    if kind == 0x86DD:
        return _transport(frame[20], frame[22:38], frame[38:54], frame[54:])
    return Packet(f"{kind:#06x}")


def _transport(protocol: int, source: bytes, destination: bytes, rest: bytes) -> Packet:
    kind = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}.get(protocol, str(protocol))
    if kind in ("udp", "tcp"):
        (port,) = struct.unpack_from("!H", rest, 2)
    else:
        port = rest[0] if rest else 0
    return Packet(kind, str(ip_address(source)), str(ip_address(destination)), port, rest)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")
    return done.stdout
