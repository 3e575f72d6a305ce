"""
How a gateway and a client speak with the control plane: HTTP/1.1 over one kept-alive connection.

httptools reads the answers, asyncio carries the bytes. Nothing here decides whether to try again.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httptools
import msgspec

from exuvia.errors import ControlPlaneUnreachable, InvalidConfiguration
from exuvia.messages import Problem
from exuvia.system import sockets

T = TypeVar("T")

LONGEST_BODY = 4 * 1024 * 1024
LONGEST_LINE = 256 * 1024
LONGEST_HEAD = 64 * 1024
_CHUNK = 64 * 1024
_PRINTABLE = re.compile("[!-~]*").fullmatch


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the control plane, whatever its status."""

    status: int
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """Return the body as this kind of message; ControlPlaneUnreachable if it is none."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ControlPlaneUnreachable("the answer is not a control plane's") from None

    def problem(self) -> Problem | None:
        """Return the problem document that explains a refusal, if there is one."""
        try:
            return msgspec.json.decode(self.body, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


class Connection:
    """
    One connection to a control plane, opened when it is needed and again after a failure.

    `mark` is the SO_MARK of its packets, so that a kill switch can tell them apart;
    `timeout` is in seconds, for each request as a whole. With `addresses` the host's name is
    not looked up, which a kill switch would not let through.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        mark: int | None = None,
        timeout: float = 10.0,
        addresses: Sequence[str] = (),
    ) -> None:
        self._host, self._port, self._tls, self._path = _parse(url)
        self._context = _context(ca_file) if self._tls else None
        self._mark = mark
        self._addresses = addresses
        self._timeout = timeout
        self._open: Opened | None = None

    async def request(
        self, method: str, path: str, *, bearer: str | None = None, body: object | None = None
    ) -> Response:
        """Send a request and return the answer; ControlPlaneUnreachable if there is none."""
        data = b"" if body is None else msgspec.json.encode(body)
        reused = self._open is not None
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._exchange(method, path, bearer, data)
                except Closed:
                    # A kept-alive connection may have been closed meanwhile: that is no failure,
                    # and all our requests may safely be made twice.
                    if not reused:
                        raise
                    return await self._exchange(method, path, bearer, data)
        except (OSError, TimeoutError, Closed, httptools.HttpParserError) as error:
            self._abandon()
            raise ControlPlaneUnreachable(_reason(error)) from None

    async def lines(
        self, path: str, *, bearer: str | None = None, idle_timeout: float
    ) -> AsyncGenerator[bytes, None]:
        """
        Yield the lines of a streamed answer as they come; the connection is closed afterwards.

        Raises StreamRefused if the status is not 200, ControlPlaneUnreachable when the stream
        ends or is silent for idle_timeout seconds.
        """
        try:
            async with asyncio.timeout(self._timeout):
                current = await self._connected()
                await current.send("GET", self._path + path, bearer, b"")
                status = await current.status()
                if status != 200:
                    raise StreamRefused(Response(status, await current.body()))
            rest = b""
            while True:
                async with asyncio.timeout(idle_timeout):
                    chunk = await current.chunk()
                *complete, rest = (rest + chunk).split(b"\n")
                for line in complete:
                    yield line
                if len(rest) > LONGEST_LINE:
                    raise ControlPlaneUnreachable("the control plane sent a line that is too long")
        except (OSError, TimeoutError, Closed, httptools.HttpParserError) as error:
            raise ControlPlaneUnreachable(_reason(error)) from None
        finally:
            self._abandon()

    async def close(self) -> None:
        """Close the connection, at once: nothing is under way, so there is nothing to wait for."""
        if self._open is not None:
            self._open.abort()
            self._open = None
            await asyncio.sleep(0)

    async def _exchange(self, method: str, path: str, bearer: str | None, data: bytes) -> Response:
        current = await self._connected()
        try:
            await current.send(method, self._path + path, bearer, data)
            status = await current.status()
            response = Response(status, await current.body())
        except BaseException:
            self._abandon()
            raise
        if not current.stays:
            self._abandon()
        return response

    async def _connected(self) -> "Opened":
        if self._open is None:
            sock = await sockets.connected(self._host, self._port, mark=self._mark, addresses=self._addresses)
            self._open = await Opened.over(sock, self._host, self._port, self._context)
        return self._open

    def _abandon(self) -> None:
        if self._open is not None:
            self._open.abandon()
            self._open = None


class StreamRefused(Exception):
    """The control plane answered a stream with something else than 200."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class Closed(Exception):
    """The other side closed the connection."""


class Opened:
    """An open connection, and what has come of the answer to the latest request."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    @classmethod
    async def over(
        cls, sock: socket.socket, host: str, port: int, context: ssl.SSLContext | None
    ) -> "Opened":
        """Return a connection over a connected socket, once TLS is agreed on, if there is to be TLS."""
        try:
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=context, server_hostname=host if context else None, limit=_CHUNK
            )
        except BaseException:
            sock.close()
            raise
        if hasattr(writer.transport, "max_size"):
            # asyncio without TLS would ask the system for 256 KiB at each read, and give them back.
            setattr(writer.transport, "max_size", _CHUNK)  # noqa: B010
        return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", reader, writer)

    @property
    def stays(self) -> bool:
        """Whether another request can be sent: nobody closes, and nothing came that was not asked for."""
        return self._keeps and not self._surplus

    async def send(
        self, method: str, target: str, bearer: str | None, data: bytes, headers: Sequence[str] = ()
    ) -> None:
        """Send a request, with headers as they stand beside the usual ones."""
        self._begin()
        self._writer.write(_request(method, target, self._host, bearer, data, headers))
        try:
            await self._writer.drain()
        except ConnectionError:
            raise Closed from None

    async def status(self) -> int:
        """Return the status of the answer, once its head has come."""
        while not self._status:
            if self._head_length > LONGEST_HEAD:
                raise httptools.HttpParserError
            self._head_length += await self._read()
        return self._status

    async def chunk(self) -> bytes:
        """Return what has come of the body; wait until there is something."""
        while not self._body:
            if self._complete:
                raise Closed
            await self._read()
        chunk = bytes(self._body)
        self._body.clear()
        return chunk

    async def body(self) -> bytes:
        """Return the whole body."""
        while not self._complete:
            await self._read()
            if len(self._body) > LONGEST_BODY:
                raise ControlPlaneUnreachable("the control plane's answer is too long")
        return bytes(self._body)

    def abandon(self) -> None:
        """Close it, when what was sent has gone."""
        self._writer.close()

    def abort(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()

    def _begin(self) -> None:
        self._status = self._head_length = 0
        self._body = bytearray()
        self._complete = self._keeps = self._surplus = False

    async def _read(self) -> int:
        try:
            data = await self._reader.read(_CHUNK)
        except ConnectionError:
            raise Closed from None
        if not data:
            raise Closed
        self._parser.feed_data(data)
        return len(data)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Notice an answer that nobody asked for."""
        self._surplus = self._complete

    def on_headers_complete(self) -> None:
        """Take the status."""
        status = self._parser.get_status_code()
        if status >= 200 and not self._surplus:  # those below only announce the answer
            self._status = status

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._surplus:
            self._body += body

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        if self._status:
            self._complete, self._keeps = True, self._parser.should_keep_alive()


def _request(
    method: str, target: str, host: str, bearer: str | None, data: bytes, headers: Sequence[str]
) -> bytes:
    """Return a request as it is sent."""
    if not (_PRINTABLE(target) and _PRINTABLE(host) and _PRINTABLE(bearer or "")):
        raise InvalidConfiguration("a token is one word of letters and digits, and this one is not")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept: application/json", "User-Agent: exuvia"]
    lines += headers
    if bearer is not None:
        lines.append(f"Authorization: Bearer {bearer}")
    if data:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    elif method not in ("GET", "DELETE"):
        lines.append("Content-Length: 0")
    return "\r\n".join((*lines, "", "")).encode("ascii") + data


def location(url: str) -> tuple[str, int]:
    """Return host and port of a control plane's URL; InvalidConfiguration if it can't be one."""
    host, port, _tls, _path = _parse(url)
    return host, port


def _parse(url: str) -> tuple[str, int, bool, str]:
    """Return host, port, whether TLS, and path prefix of a control plane's URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidConfiguration("the control plane's URL can't be read") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise InvalidConfiguration("the control plane's URL must look like https://control.example")
    tls = parts.scheme == "https"
    if not tls and not is_loopback(host):
        raise InvalidConfiguration(
            "plain http would show every token on the way: use https:// for a control plane beyond loopback"
        )
    return host, port or (443 if tls else 80), tls, parts.path.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether what is sent to this host stays on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise InvalidConfiguration(f"{ca_file}: no certificates could be read from it") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "the control plane's certificate can't be trusted: check this machine's clock, or give --ca-file"
        )
    if isinstance(error, TimeoutError):
        return "the control plane did not answer in time"
    if isinstance(error, httptools.HttpParserError):
        return "the answer is not a control plane's"
    return "the control plane can't be reached"
