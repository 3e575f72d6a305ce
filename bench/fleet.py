"""
Many WireGuard clients in one process, against a kernel interface on loopback.

Their first messages are made beforehand, so that a benchmark can send them at full speed.
"""

import os
import random
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from exuvia.testing.initiator import RESPONSE_LENGTH, Initiator, tai64n
from exuvia.wg.keys import PrivateKey, PublicKey
from exuvia.wg.peers import TunnelPeer

BASE4 = int(IPv4Address("10.0.0.0"))
BASE6 = int(IPv6Address("fd00:65:7875:7669::"))


def run(*command: str, text: str | None = None) -> str:
    """Run a command to its end and return what it prints."""
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def strangers(count: int, *, first_number: int = 2) -> list[TunnelPeer]:
    """Return peers with random public keys: nobody holds their private keys."""
    return [_peer(PublicKey(_any_point()), number) for number in range(first_number, first_number + count)]


def _any_point() -> bytes:
    raw = bytearray(os.urandom(32))
    raw[31] &= 0x3F
    return bytes(raw)


def _peer(key: PublicKey, number: int) -> TunnelPeer:
    return TunnelPeer.pack(
        key, IPv4Address(BASE4 + number), IPv6Address(BASE6 + random.getrandbits(64)), os.urandom(32)
    )


@dataclass(slots=True)
class Client:
    """One client: its place in the gateway's table, and its side of the handshake."""

    peer: TunnelPeer
    initiator: Initiator
    first_message: bytes = b""

    def prepare(self, index: int, wall: float) -> None:
        """Make the first message of the next handshake."""
        self.first_message = self.initiator.initiation(index, tai64n(wall))


class Fleet:
    """Clients that share one UDP socket to the gateway."""

    def __init__(self, count: int, gateway_key: bytes, port: int, *, first_number: int) -> None:
        self.clients = []
        for number in range(first_number, first_number + count):
            private = PrivateKey(os.urandom(32))
            peer = _peer(private.public_key(), number)
            self.clients.append(Client(peer, Initiator(private, gateway_key, peer.preshared_key)))
        self._wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._wire.connect(("127.0.0.1", port))

    def prepare(self, wall: float) -> None:
        """Make everybody's first messages."""
        for index, client in enumerate(self.clients):
            client.prepare(index, wall)

    def shake_hands(self, numbers: list[int], *, window: int = 16, patience: float = 1.0) -> list[int]:
        """
        Complete a handshake for each of these clients; return who completed it, in that order.

        At most `window` are under way at once. Nobody tries twice.
        """
        waiting, done, queue = set(), [], list(reversed(numbers))
        self._wire.settimeout(patience)
        while queue or waiting:
            while queue and len(waiting) < window:
                number = queue.pop()
                self._wire.send(self.clients[number].first_message)
                waiting.add(number)
            try:
                answer = self._wire.recv(2048)
            except TimeoutError:
                waiting.clear()
                continue
            if len(answer) != RESPONSE_LENGTH:
                continue
            (number,) = struct.unpack_from("<I", answer, 8)
            if number in waiting:
                waiting.discard(number)
                self._wire.send(self.clients[number].initiator.finish(answer).data())
                done.append(number)
        return done


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print rows under a title, in columns."""
    print(f"\n{title}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def seconds_of(work: object, *arguments: object) -> tuple[float, object]:
    """Return how long a call takes, and what it returns."""
    began = time.perf_counter()
    result = work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - began, result
