"""A control plane to test: in this process, or as `exuvia serve` in one of its own."""

import base64
import contextlib
import http.client
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from exuvia.api.routes import Scope
from exuvia.api.running import ControlPlane, opened
from exuvia.cli.operator import Operator
from exuvia.messages import (
    AccountCreated,
    CreateAccount,
    DeviceRegistered,
    EnrollGateway,
    FeedMessage,
    GatewayEnrolled,
)
from exuvia.store.store import Wanted
from exuvia.wg.keys import PrivateKey, PublicKey

TODAY_FOR_EVER = "2199-12-31"


def fresh_key() -> PublicKey:
    """Return a valid public key that nobody has."""
    return PublicKey(os.urandom(31) + b"\x01")


def honest_key() -> str:
    """Return the public key of a real private key, as text."""
    return PrivateKey(os.urandom(32)).public_key().text()


def spellings(secret: bytes) -> Iterable[bytes]:
    """Yield the ways in which bytes can be written somewhere: raw, hexadecimal, base64."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    # A base64 text may begin at any of three places: what does not depend on its neighbours is looked for.
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).rstrip(b"=")[:-1]
        yield encode(b"\0" + secret).rstrip(b"=")[2:-1]
        yield encode(b"\0\0" + secret).rstrip(b"=")[3:-1]
    yield base64.b32encode(secret).rstrip(b"=")[:-1]
    yield base64.b32encode(secret).rstrip(b"=").lower()[:-1]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    def as_(self, kind: type[Any]) -> Any:
        """Return the body as a message."""
        return msgspec.json.decode(self.body, type=kind)


@dataclass
class Plane:
    """A control plane in this process, asked without a network."""

    inner: ControlPlane

    async def ask(
        self,
        method: str,
        target: str,
        *,
        bearer: str | None = None,
        body: object | None = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        as_operator: bool = False,
        client: bytes | None = None,
    ) -> Answer:
        """Send a request; `body` is sent as JSON, `raw` as it is. `client`: whose failures count together."""
        sent: list[Any] = []
        data = raw if raw is not None else b"" if body is None else msgspec.json.encode(body)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        application = self.inner.operators if as_operator else self.inner.public
        asked = {**scope(method, target, bearer, headers or {}), "exuvia.client": client}
        await application(asked, receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0].get("headers", [])}
        return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))

    async def account(self, **wanted: Any) -> str:
        """Create an account and return its number."""
        answer = await self.ask("POST", "/v1/admin/accounts", body=CreateAccount(**wanted), as_operator=True)
        assert answer.status == 201, answer
        return str(answer.as_(AccountCreated).account)

    async def account_id(self, number: str) -> str:
        """Return the id of the account with this number."""
        found = await self.ask("POST", "/v1/admin/accounts/find", body={"account": number}, as_operator=True)
        return str(found.json["id"])

    async def act(self, number: str, what: str) -> Answer:
        """Suspend, resume or cancel the account with this number."""
        id = await self.account_id(number)
        return await self.ask("POST", f"/v1/admin/accounts/{id}/{what}", as_operator=True)

    async def gateway(self, name: str = "se1") -> str:
        """Enroll a gateway, let it say hello, and return its token."""
        wanted = EnrollGateway(name, "gateway.example:51820")
        enrolled = await self.ask("POST", "/v1/admin/gateways", body=wanted, as_operator=True)
        token: str = enrolled.as_(GatewayEnrolled).token
        hello = {"public_key": honest_key(), "lasting": False}
        assert (await self.ask("PUT", "/v1/gateway", bearer=token, body=hello)).status == 200
        return token

    async def register(self, number: str, key: str | None = None) -> DeviceRegistered:
        """Register a device, which must be possible."""
        answer = await self.ask(
            "POST", "/v1/devices", bearer=number, body={"public_key": key or honest_key()}
        )
        assert answer.status == 201, answer
        registered: DeviceRegistered = answer.as_(DeviceRegistered)
        return registered


def scope(method: str, target: str, bearer: str | None, headers: dict[str, str]) -> Scope:
    """Return the ASGI scope of a request."""
    path, _, query = target.partition("?")
    given = {**({"authorization": f"Bearer {bearer}"} if bearer is not None else {}), **headers}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
    }


@contextlib.asynccontextmanager
async def plane_at(path: Path, **wanted: Any) -> AsyncIterator[Plane]:
    """Open a control plane in this process, which takes keys without a proof."""
    async with opened(path, Wanted(**wanted)) as inner:
        inner.control.possession.is_required = False
        yield Plane(inner)


@dataclass
class Server:
    """`exuvia serve` as a process of its own; it takes keys without a proof unless it is told not to."""

    folder: Path
    options: list[str] = field(default_factory=list)
    takes_unproven_keys: bool = True
    """Most tests need keys, not proofs; False: as it is by default."""
    url: str = ""
    trusted: ssl.SSLContext | None = None
    """Whom to believe that it is the server, if it speaks TLS."""
    process: "subprocess.Popen[str] | None" = None

    @property
    def path(self) -> Path:
        """Where its database is."""
        return self.folder / "control.db"

    @property
    def database(self) -> str:
        """Its database as an option says it."""
        return f"sqlite:///{self.path}"

    @property
    def operator(self) -> Operator:
        """Whoever may run operator commands."""
        return Operator(self.database)

    @property
    def log(self) -> Path:
        """What it wrote to standard error, of all its lives."""
        return self.folder / "serve.log"

    def start(self) -> "Server":
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*COMMAND, "serve", "--listen", "127.0.0.1:0", "--database", self.database),
                    *(["--unproven-keys", "allow"] if self.takes_unproven_keys else []),
                    *self.options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready at" in line, self.log.read_text()
        self.url = line.split()[-1]
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return status

    def ask(
        self,
        method: str,
        target: str,
        *,
        bearer: str | None = None,
        body: object | None = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        source: str | None = None,
    ) -> Answer:
        """Send a request over a connection of its own, from another address of loopback if one is named."""
        parts = urlsplit(self.url)
        given = dict(headers or {})
        if bearer is not None:
            given["Authorization"] = f"Bearer {bearer}"
        data = raw if raw is not None else None if body is None else msgspec.json.encode(body)
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        host = parts.hostname or ""
        if self.trusted is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=20, context=self.trusted
            )
        else:
            here = None if source is None else (source, 0)
            connection = http.client.HTTPConnection(host, parts.port, timeout=20, source_address=here)
        try:
            connection.request(method, target, data, given)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def account(self, **wanted: Any) -> str:
        """Create an account and return its number."""
        body = CreateAccount(**wanted)
        return self.operator.ask("POST", "/v1/admin/accounts", body, gives=AccountCreated).account

    def gateway(self, name: str = "se1") -> str:
        """Enroll a gateway and return its token."""
        wanted = EnrollGateway(name, "gateway.example:51820")
        return self.operator.ask("POST", "/v1/admin/gateways", wanted, gives=GatewayEnrolled).token

    def register(self, number: str, key: str | None = None) -> DeviceRegistered:
        """Register a device, which must be possible."""
        answer = self.ask("POST", "/v1/devices", bearer=number, body={"public_key": key or honest_key()})
        assert answer.status == 201, answer.status
        registered: DeviceRegistered = answer.as_(DeviceRegistered)
        return registered


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    """A control plane in this process, with a fresh database."""
    async with plane_at(tmp_path / "control.db") as opened_there:
        yield opened_there


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A control plane in a process of its own, with a fresh database."""
    with server_in(tmp_path) as running:
        yield running


COMMAND = [sys.executable, "-m", "exuvia"]


@contextlib.contextmanager
def server_in(folder: Path, *options: str, takes_unproven_keys: bool = True) -> Iterator[Server]:
    """Run a server for as long as the block lasts."""
    server = Server(folder, list(options), takes_unproven_keys).start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.stop(signal.SIGKILL)


def feed_message(line: bytes) -> FeedMessage:
    """Return a line of the feed as a message."""
    message: FeedMessage = msgspec.json.decode(line, type=FeedMessage)
    return message
