"""
Traffic that is counted at both ends: datagrams by their numbers, connections by their bytes.

A program: `python -m exuvia.testing.traffic serve|echo|transfer …`, so that nothing that a test
does meanwhile delays it. What it has counted it prints at the end, as one line of JSON.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from exuvia.testing.namespaces import Namespace

PORT = 7007
_FLOW, _NUMBER = 4, 8
_LENGTH = 64
_CHUNK = 1024
_SO_RCVBUFFORCE = 33
"""Beyond the system's limit, so that a program that gets no CPU for a while loses nothing itself."""
_STRAGGLERS = 5.0
"""Seconds that the last answers may take."""
_DOUBLES = 0.3
"""Seconds for which to look out for what comes twice."""


@dataclass
class Count:
    """What became of the datagrams of one flow, as one end saw it."""

    received: int = 0
    duplicated: int = 0
    worst_gap: float = 0.0
    """Seconds between two arrivals."""
    addresses: list[str] = field(default_factory=list)
    """All that they came from."""
    seen: bytearray = field(default_factory=bytearray)
    """By number: 0 if it has not come, or else which of the addresses it came from, counted from 1."""
    latest: float | None = None

    def see(self, number: int, now: float, address: str = "") -> None:
        """Note that a datagram has arrived."""
        if number >= len(self.seen):
            self.seen.extend(bytes(2 * number + 4096 - len(self.seen)))
        self.duplicated += bool(self.seen[number])
        self.received += not self.seen[number]
        if address not in self.addresses:
            self.addresses.append(address)
        self.seen[number] = 1 + self.addresses.index(address)
        if self.latest is not None:
            self.worst_gap = max(self.worst_gap, now - self.latest)
        self.latest = now

    def told(self) -> dict[str, Any]:
        """
        Return it as JSON.

        `missing`: a few that did not come although later ones did. `addresses`: where they came from,
        in the order of their numbers, for two tunnels may overtake each other; `since`: the number of
        the first one from each of these.
        """
        came = bytes(self.seen).rstrip(b"\0")
        runs = [(place, next(run)[0]) for place, run in groupby(_that_came(came), key=itemgetter(1))]
        return {
            "missing": [number for number, place in enumerate(came) if not place][:20],
            "since": [first for _, first in runs],
            "received": self.received,
            "duplicated": self.duplicated,
            "worst_gap": self.worst_gap,
            "addresses": [self.addresses[place - 1] for place, _ in runs],
        }


def _that_came(places: bytes) -> Iterator[tuple[int, int]]:
    return ((number, place) for number, place in enumerate(places) if place)


def serve() -> None:
    """Answer datagrams and connections with what they say, until told to end."""
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    datagrams.bind(("::", PORT))
    listener = socket.create_server(("::", PORT), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True)
    connections: dict[int, socket.socket] = {}
    counts: dict[int, Count] = {}
    poll = select.poll()
    poll.register(datagrams, select.POLLIN)
    poll.register(listener, select.POLLIN)
    print("ready", flush=True)
    with _until_told_to_end():
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == datagrams.fileno():
                    _answer(datagrams, counts)
                elif descriptor == listener.fileno():
                    connection, _ = listener.accept()
                    connections[connection.fileno()] = connection
                    poll.register(connection, select.POLLIN)
                elif not _echo(connections[descriptor]):
                    poll.unregister(descriptor)
                    connections.pop(descriptor).close()
    print(json.dumps({flow: count.told() for flow, count in counts.items()}))


def _answer(datagrams: socket.socket, counts: dict[int, Count]) -> None:
    # Answered from the address that it was sent to.
    data, ancillary, _, source = datagrams.recvmsg(2048, 256)
    datagrams.sendmsg([data], ancillary, 0, source)
    flow, number = int.from_bytes(data[:_FLOW]), int.from_bytes(data[_FLOW : _FLOW + _NUMBER])
    counts.setdefault(flow, Count()).see(number, time.monotonic(), source[0].removeprefix("::ffff:"))


def _echo(connection: socket.socket) -> bool:
    try:
        data = connection.recv(1 << 16)
        connection.sendall(data)
    except OSError:
        return False
    return bool(data)


def echo(address: str, flow: int, rate: float, connected: bool) -> None:
    """
    Send so many datagrams a second and count the answers, until told to end.

    What it could not send in time, because it got no CPU, is not made up for: a burst would test the
    queues on the way.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
    sock.setblocking(False)
    if connected:
        sock.connect((address, PORT))
    count, sent, refused, late = Count(), 0, 0, 0.0
    print("ready", flush=True)
    with _until_told_to_end():
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now < due:
                if select.select([sock], [], [], due - now)[0]:
                    _collect(sock, count)
                continue
            late = max(late, now - due)
            due = max(due + 1 / rate, now)
            with contextlib.suppress(BlockingIOError):
                refused += not _send(sock, flow, sent, None if connected else (address, PORT))
                sent += 1
    _await(sock, count, sent - refused)
    print(json.dumps({"sent": sent, "refused": refused, "late": late, **count.told()}))


def _await(sock: socket.socket, count: Count, expected: int) -> None:
    """Collect answers until all have come, and for a moment longer."""
    ended = time.monotonic()
    while (now := time.monotonic()) < ended + (_DOUBLES if count.received == expected else _STRAGGLERS):
        if select.select([sock], [], [], max(0.01, ended + _DOUBLES - now))[0]:
            _collect(sock, count)


def _send(sock: socket.socket, flow: int, number: int, to: tuple[str, int] | None) -> bool:
    """Return whether the network takes a datagram; BlockingIOError if its queue is full."""
    data = flow.to_bytes(_FLOW) + number.to_bytes(_NUMBER)
    try:
        sock.send(data.ljust(_LENGTH)) if to is None else sock.sendto(data.ljust(_LENGTH), to)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _collect(sock: socket.socket, count: Count) -> None:
    with contextlib.suppress(OSError):
        while True:
            data = sock.recv(2048)
            count.see(int.from_bytes(data[_FLOW : _FLOW + _NUMBER]), time.monotonic())


def transfer(address: str, rate: float) -> None:
    """Send so many chunks a second over one connection and take them back, until told to end."""
    sock = socket.create_connection((address, PORT), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = received = 0
    stall, latest, broken = 0.0, time.monotonic(), ""
    print("ready", flush=True)
    with _until_told_to_end():
        due = time.monotonic()
        while not broken:
            if select.select([sock], [], [], max(0.0, due - time.monotonic()))[0]:
                data, broken = _take(sock)
                received += data
                now = time.monotonic()
                stall, latest = max(stall, now - latest), now
            elif time.monotonic() >= due:
                due += 1 / rate
                sent += _give(sock)
    stall = max(stall, time.monotonic() - latest)
    sock.settimeout(_STRAGGLERS)
    while not broken and received < sent:
        data, broken = _take(sock)
        received += data
    print(json.dumps({"sent": sent, "received": received, "stall": stall, "broken": broken}))


def _take(sock: socket.socket) -> tuple[int, str]:
    try:
        data = sock.recv(1 << 16)
    except OSError as error:
        return 0, error.strerror or "silence"
    return len(data), "" if data else "closed"


def _give(sock: socket.socket) -> int:
    try:
        return sock.send(bytes(_CHUNK), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0
    except OSError:
        return 0  # the next receive says why


class _End(BaseException):
    """It is told to end."""


@contextlib.contextmanager
def _until_told_to_end() -> Iterator[None]:
    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _End

    signal.signal(signal.SIGTERM, end)
    with contextlib.suppress(_End):
        yield


class Program:
    """One of the programs above, running in a namespace."""

    def __init__(self, namespace: Namespace, *arguments: object) -> None:
        command = (sys.executable, "-m", "exuvia.testing.traffic", *map(str, arguments))
        self._process = subprocess.Popen(namespace.command(*command), stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            self.kill()
            raise RuntimeError(f"{arguments} does not begin")

    def tell_to_end(self) -> None:
        """Let it end, which may take seconds, without waiting for it."""
        self._process.terminate()

    def end(self) -> dict[str, Any]:
        """Let it end; return what it has counted."""
        self.tell_to_end()
        told, _ = self._process.communicate(timeout=30)
        found: dict[str, Any] = json.loads(told)
        return found

    def kill(self) -> None:
        """End it without an answer, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def main() -> None:
    """Run one of them, before all that is not as urgent: what is measured is the network."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["echo", address, flow, rate, *connected]:
            echo(address, int(flow), float(rate), bool(connected))
        case ["transfer", address, rate]:
            transfer(address, float(rate))


if __name__ == "__main__":
    main()
