"""A billing system that is told of events, as a server that answers as a test wants."""

import base64
import contextlib
import hashlib
import hmac
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

SECRET = b"what only billing and exuvia know"
SECRET_TEXT = "whsec_" + base64.b64encode(SECRET).decode()
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
Send = Callable[[bytes], None]


@dataclass
class Told:
    """One request that came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    def is_signed(self, secret: bytes = SECRET) -> bool:
        """Return whether one of its signatures is right, as a receiver finds out."""
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        right = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
        return f"v1,{right}" in self.headers["webhook-signature"].split(" ")


@dataclass
class BillingSystem:
    """What was told, and how to answer."""

    port: int = 0
    told: list[Told] = field(default_factory=list)
    answer: Callable[[Told, Send], None] = lambda told, send: send(OK)
    news: threading.Condition = field(default_factory=threading.Condition)

    def url(self, scheme: str = "http", path: str = "/exuvia") -> str:
        """Where it is told."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def wait(self, count: int) -> list[Told]:
        """Wait until it was told so often."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.told) >= count, 20)
            return list(self.told)

    def take(self, told: Told) -> None:
        """Note what came."""
        with self.news:
            self.told.append(told)
            self.news.notify_all()


def always(answer: bytes) -> Callable[[Told, Send], None]:
    """Return what answers the same to everything."""
    return lambda told, send: send(answer)


def with_status(status: int) -> Callable[[Told, Send], None]:
    """Return what answers with this status to everything."""
    return always(b"HTTP/1.1 %d So\r\nContent-Length: 0\r\n\r\n" % status)


@contextlib.contextmanager
def billing_system(certificate: Path | None = None) -> Iterator[BillingSystem]:
    """Be told for as long as the block lasts; over TLS with this certificate and its key, if it is given."""
    system = BillingSystem()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                line, *lines = iter(lambda: self.rfile.readline().decode().rstrip(), "")
                headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
                told = Told(line, headers, self.rfile.read(int(headers.get("content-length", 0))))
                system.take(told)
                system.answer(told, self.connection.sendall)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        system.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield system
        finally:
            server.shutdown()
            thread.join()
