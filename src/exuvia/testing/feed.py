"""A control plane as gateways see it, from memory, that can be told to misbehave."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import parse_qs, urlsplit

import msgspec

from exuvia.messages import (
    Change,
    FeedMessage,
    GatewayApplied,
    GatewayHello,
    GatewayWelcome,
    Heartbeat,
    Snapshot,
    SnapshotEnd,
    SnapshotPeers,
)
from exuvia.rules.feed import Position, table_digest
from exuvia.testing.loops import end, loop_beside
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import TunnelPeer

TOKEN = "a-gateways-token"  # noqa: S105  of a control plane that is none
WELCOME = GatewayWelcome("10.0.0.0/8", "fd00::/64", "10.0.0.1/8", "fd00::1/64")
_A_LINE = 256


def secret(number: int) -> PrivateKey:
    """Return the private key of a peer."""
    # Not in the first or last bytes, of which some bits are the same in all keys.
    return PrivateKey(number.to_bytes(16, "big").ljust(32, b"\1"))


def peer(number: int) -> TunnelPeer:
    """Return a peer: its keys and addresses tell its number."""
    public = secret(number).public_key()
    four, six = IPv4Address("10.0.1.0") + number, IPv6Address("fd00::1:0") + number
    return TunnelPeer.pack(public, four, six, number.to_bytes(32, "little"))


def lines(*messages: FeedMessage) -> bytes:
    """Return messages as they travel."""
    return b"".join(msgspec.json.encode(message) + b"\n" for message in messages)


def snapshot(position: Position, peers: Iterable[bytes]) -> bytes:
    """Return a whole snapshot as it travels."""
    rows = sorted(map(bytes, peers))
    parts = [SnapshotPeers(rows[start : start + _A_LINE]) for start in range(0, len(rows), _A_LINE)]
    return lines(Snapshot(*position, len(rows)), *parts, SnapshotEnd(table_digest(rows)))


@dataclass
class FakeFeed:
    """
    Tells gateways of a table that a test changes.

    `instead` is asked what to send at the beginning of a stream, if a test wants something else
    than a proper one: bytes of the stream, a status, or None for the proper one.
    """

    epoch: str = "first"
    revision: int = 0
    table: dict[bytes, TunnelPeer] = field(default_factory=dict)
    welcome: GatewayWelcome = WELCOME
    instead: Callable[[Position | None], bytes | int | None] | None = None
    heartbeat_every: float = 15.0
    hellos: list[GatewayHello] = field(default_factory=list)
    asked: list[Position | None] = field(default_factory=list)
    applied: list[Position] = field(default_factory=list)
    silent: bool = False
    """Whether it accepts connections and answers nothing."""
    refuses_claims: bool = False
    """Whether it refuses, after a moment, what gateways say that they have applied."""
    hears_claims: bool = True
    """Whether what gateways say that they have applied arrives at all."""

    def __post_init__(self) -> None:
        self._streams: set[asyncio.Queue[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def position(self) -> Position:
        """Where the table is."""
        return Position(self.epoch, self.revision)

    @contextlib.contextmanager
    def serving(self, sock: socket.socket) -> Iterator[None]:
        """Answer on this listening socket while the block runs, in a thread of its own."""
        with loop_beside() as loop:
            starting = asyncio.start_server(self._serve, sock=sock)
            server = asyncio.run_coroutine_threadsafe(starting, loop).result()
            self._loop = loop
            try:
                yield
            finally:
                asyncio.run_coroutine_threadsafe(end(server), loop).result()
                self._loop = None
                self._streams.clear()

    def change(self, *, put: Iterable[TunnelPeer] = (), remove: Iterable[bytes] = ()) -> None:
        """Change the table and tell every gateway that listens."""
        added, gone, after = list(put), list(remove), self.revision
        for key in gone:
            self.table.pop(key, None)
        self.table.update({row[:32]: row for row in added})
        self.revision += 1
        self.send(lines(Change(self.epoch, after, self.revision, list(map(bytes, added)), gone)))

    def send(self, data: bytes) -> None:
        """Send something on every stream that is open."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._send_all, data)

    def _send_all(self, data: bytes) -> None:
        for queue in self._streams:
            queue.put_nowait(data)

    def cut(self) -> None:
        """End every stream that is open."""
        self.send(b"")

    def wait_applied(self, seconds: float = 30) -> None:
        """Wait until a gateway has acknowledged the table as it is."""
        wait_until(lambda: self.position in self.applied[-1:], seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if self.silent:
                    await asyncio.sleep(1e6)
                url = urlsplit(target)
                if url.path == "/v1/feed":
                    await self._stream(_asked(url.query), writer)
                    break
                if url.path == "/v1/gateway/applied":
                    await asyncio.sleep(0.2 * self.refuses_claims)
                    if not self.hears_claims:
                        break
                status, answer = self._reply(method, url.path, headers.get("authorization", ""), body)
                writer.write(_response(status, answer))
                await writer.drain()
        writer.close()

    def _reply(self, method: str, path: str, credential: str, body: bytes) -> tuple[int, bytes]:
        if credential != f"bearer {TOKEN}":
            return 401, b"{}"
        if (method, path) == ("PUT", "/v1/gateway"):
            self.hellos.append(msgspec.json.decode(body, type=GatewayHello))
            return 200, msgspec.json.encode(self.welcome)
        if (method, path) == ("PUT", "/v1/gateway/applied"):
            said = msgspec.json.decode(body, type=GatewayApplied)
            self.applied.append(Position(said.epoch, said.revision))
            return (409, b"{}") if self.refuses_claims else (204, b"")
        return 404, b"{}"

    async def _stream(self, asked: Position | None, writer: asyncio.StreamWriter) -> None:
        self.asked.append(asked)
        first = None if self.instead is None else self.instead(asked)
        if isinstance(first, int):
            writer.write(_response(first, b"{}"))
            await writer.drain()
            return
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._streams.add(queue)
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await self._send(writer, self._beginning(asked) if first is None else first)
            while True:
                try:
                    async with asyncio.timeout(self.heartbeat_every):
                        data = await queue.get()
                except TimeoutError:
                    data = lines(Heartbeat(*self.position))
                if not data:
                    return
                await self._send(writer, data)
        finally:
            self._streams.discard(queue)

    def _beginning(self, asked: Position | None) -> bytes:
        if asked == self.position:
            return lines(Heartbeat(*self.position))
        return snapshot(self.position, self.table.values())

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await writer.drain()


def wait_until(so: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; TimeoutError if it never comes to be."""
    deadline = time.monotonic() + seconds
    while not so():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come to be so")
        time.sleep(0.01)


def _asked(query: str) -> Position | None:
    fields = parse_qs(query)
    return Position(fields["epoch"][0], int(fields["revision"][0])) if "epoch" in fields else None


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
