"""A control plane from memory, that can be told to misbehave, for tests of the client."""

import asyncio
import contextlib
import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from exuvia.api.possession import Possession
from exuvia.errors import ExuviaError, KeyRefused, KeySuperseded, NotFound, OnlyKey
from exuvia.messages import GatewayListing
from exuvia.rules.overlap import Event, Standing, decide
from exuvia.store.credentials import Hasher
from exuvia.testing.loops import end, loop_beside
from exuvia.wg.keys import PresharedKey, PublicKey

ACCOUNT = "A1B2-C3D4-E5F6-G7H8"
KEYS = "/v1/device/keys/"
_STATUSES: dict[type[ExuviaError], int] = {KeyRefused: 422, NotFound: 404, KeySuperseded: 409, OnlyKey: 409}


@dataclass
class Registered:
    """A key of a device as the control plane knows it; a device has one, or two with the same token."""

    public_key: str
    token: str
    addresses: list[str]
    preshared_key: str
    standing: Literal["current", "next", "old"] = "current"


@dataclass
class FakeControlPlane:
    """
    Answers as the control plane would.

    `refuse` maps (method, path) to (status, what the problem says); requests in `lose` are
    carried out, but their answer is never sent. `changed` is called with all devices after
    each change of theirs. Retired keys are gone at once: who hides among whom is not a client's business.
    """

    gateways: list[GatewayListing] = field(default_factory=list)
    applied: bool = True
    refuse: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    lose: set[tuple[str, str]] = field(default_factory=set)
    changed: Callable[[list[Registered]], None] = lambda devices: None
    devices: list[Registered] = field(default_factory=list)
    retired: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    answer: bytes | None = None
    """Said instead of anything sensible, if set."""
    proven: bool = True
    """Whether a key has to come with a proof; one of before that was possible knows nothing of it."""
    _possession: Possession = field(init=False)

    def __post_init__(self) -> None:
        self._possession = Possession(Hasher(secrets.token_bytes(32)), time.time)
        self._possession.is_required = True

    @contextlib.contextmanager
    def serving(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> Iterator[None]:
        """Answer on this listening socket while the block runs, in a thread of its own."""
        patience = None if tls is None else 1.0
        writers: list[asyncio.StreamWriter] = []

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
            writers.append(writer)
            return self._serve(reader, writer)

        starting = asyncio.start_server(
            serve, sock=sock, ssl=tls, ssl_handshake_timeout=patience, ssl_shutdown_timeout=patience
        )
        with loop_beside() as loop:
            server = asyncio.run_coroutine_threadsafe(starting, loop).result()
            try:
                yield
            finally:
                asyncio.run_coroutine_threadsafe(_close(server, writers), loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError),
        ):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                path = target.partition("?")[0]
                self.asked.append((method, path))
                bearer = head_of(head, "authorization").removeprefix("Bearer ")
                status, content = self._reply(method, path, bearer, body)
                if (method, path) in self.lose:
                    break
                writer.write(_encoded(status, content) if self.answer is None else self.answer)
                await writer.drain()

    def _reply(self, method: str, path: str, bearer: str, body: bytes) -> tuple[int, Any]:
        if (method, path) in self.refuse:
            status, title = self.refuse[method, path]
            return status, _problem(status, title)
        if (method, path) == ("GET", "/v1/possession"):
            if not self.proven:
                return 404, _problem(404, "There is no such thing")
            own_key = self._possession.server_key()
            return 200, {"server_key": own_key.text(), "seconds": self._possession.seconds()}
        if (method, path) == ("POST", "/v1/devices"):
            wish = json.loads(body)
            return self._register(bearer, wish["public_key"], wish["proof"])
        own = [device for device in self.devices if device.token == bearer]
        if not own:
            return 401, _problem(401, "The credential is not accepted")
        if (method, path) == ("GET", "/v1/gateways"):
            return 200, [_listing(gateway) for gateway in self.gateways]
        if (method, path) == ("GET", "/v1/applied"):
            return 200, {"applied": self.applied}
        if (method, path) == ("DELETE", "/v1/device"):
            self.devices = [device for device in self.devices if device not in own]
            self.changed(self.devices)
            return 204, None
        if (method, path) == ("GET", "/v1/device"):
            return 200, _device(own)
        if path.startswith(KEYS):
            return self._turn(method, path, own, bearer, body)
        return 404, _problem(404, "There is no such thing")

    def _turn(
        self, method: str, path: str, own: list[Registered], token: str, body: bytes
    ) -> tuple[int, Any]:
        """Let the real rules decide what becomes of the keys of a device."""
        name = path.removeprefix(KEYS).removesuffix("/confirm")
        event = {"PUT": Event.PUT, "POST": Event.CONFIRM, "DELETE": Event.DELETE}[method]
        key = bytes(PublicKey.from_path(name))
        keys: dict[bytes, Standing] = {
            bytes(PublicKey.from_text(one.public_key)): one.standing for one in own
        }
        keys |= {bytes(PublicKey.from_text(one)): "retired" for one in self.retired}
        try:
            if event is Event.PUT:
                self._check(PublicKey(key), json.loads(body)["proof"] if body else None)
            becomes = decide(event, keys, key)
        except ExuviaError as error:
            status = next(number for kind, number in _STATUSES.items() if isinstance(error, kind))
            return status, _problem(status, str(error))
        text = PublicKey(key).text()
        if event is Event.PUT and becomes.get(key) is not None:
            own.append(self._granted(text, token))
        for one in own:
            standing = becomes.get(bytes(PublicKey.from_text(one.public_key)), one.standing)
            if standing == "retired":
                self.devices.remove(one)
                self.retired.add(one.public_key)
            else:
                one.standing = standing
        if becomes:
            self.changed(self.devices)
        if event is not Event.PUT:
            return 204, None
        return 200, _key(next(one for one in own if one.public_key == text), self.revision)

    @property
    def revision(self) -> int:
        """A number that grows with every change."""
        return len(self.devices) + 2 * len(self.retired)

    def _granted(self, key: str, token: str) -> Registered:
        number = len(self.asked) + 2
        addresses = [f"10.77.{number >> 8}.{number & 255}/32", f"fd77::{number:x}/128"]
        device = Registered(key, token, addresses, PresharedKey(secrets.token_bytes(32)).text())
        self.devices.append(device)
        return device

    def _check(self, key: PublicKey, proof: str | None) -> None:
        """Refuse a key that is not proven, unless nobody asks for proofs; then none may come."""
        if self.proven:
            self._possession.check(key, proof)
        elif proof is not None:
            raise KeyRefused("this control plane knows no proofs")

    def _register(self, account: str, key: str, proof: str | None) -> tuple[int, Any]:
        if account != ACCOUNT:
            return 401, _problem(401, "The credential is not accepted")
        try:
            self._check(PublicKey.from_text(key), proof)
        except KeyRefused as error:
            return 422, _problem(422, str(error))
        device = next((device for device in self.devices if device.public_key == key), None)
        if device is None:
            device = self._granted(key, "")
        before, device.token = device.token, secrets.token_urlsafe(32)
        for other in self.devices:
            if before and other.token == before:
                other.token = device.token
        self.changed(self.devices)
        answer = _key(device, self.revision)
        return 201, {"id": "d-1", "name": "quiet heron", "token": device.token, **answer}


def head_of(lines: list[str], name: str) -> str:
    """Return a header of a request as it was sent."""
    return next((line.partition(": ")[2] for line in lines if line.lower().startswith(f"{name}: ")), "")


async def _close(server: asyncio.Server, writers: list[asyncio.StreamWriter]) -> None:
    await end(server)
    for writer in writers:
        if not writer.is_closing():
            writer.transport.abort()
    # wait_closed() of Python 3.11 does not wait for connections that are not set up yet.
    while getattr(server, "_active_count", 0):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _problem(status: int, title: str) -> dict[str, Any]:
    return {"type": "urn:exuvia:problem:test", "title": title, "status": status}


def _key(key: Registered, revision: int) -> dict[str, Any]:
    found: dict[str, Any] = {"addresses": key.addresses, "preshared_key": key.preshared_key}
    return {**found, "revision": revision, "epoch": "e1"}


def _device(own: list[Registered]) -> dict[str, Any]:
    keys = [
        {
            "public_key": key.public_key,
            "addresses": key.addresses,
            "preshared_key": key.preshared_key,
            "standing": key.standing,
        }
        for key in own
    ]
    limits = {"shortest": 1, "usual": 7, "longest": 30}
    return {"id": "d-1", "name": "quiet heron", "keys": keys, "rotation_days": limits}


def _listing(gateway: GatewayListing) -> dict[str, Any]:
    return {name: getattr(gateway, name) for name in gateway.__struct_fields__}


def _encoded(status: int, content: Any) -> bytes:
    body = b"" if content is None else json.dumps(content).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
