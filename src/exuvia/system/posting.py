"""How events are posted to a server of the operator's: a connection for each; only the status is read."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httptools

from exuvia.errors import EventUndelivered, InvalidConfiguration
from exuvia.system import sockets
from exuvia.system.http import Closed, Opened, is_loopback

_URL = "the webhook's URL must look like https://billing.example/exuvia; plain http goes to this machine only"


class Receiver:
    """A URL to post to: https, or http on loopback. No redirect is followed, no proxy is used."""

    def __init__(self, url: str, *, ca_file: Path | None = None, timeout: float = 10.0) -> None:
        self._host, self._port, tls, self._target = _parsed(url)
        self._context = _context(ca_file) if tls else None
        self._timeout = timeout

    async def post(self, data: bytes, headers: Sequence[str]) -> int:
        """Return the status that is answered; EventUndelivered, without a word of the URL, if none is."""
        try:
            async with asyncio.timeout(self._timeout):
                sock = await sockets.connected(self._host, self._port)
                opened = await Opened.over(sock, self._host, self._port, self._context)
                try:
                    await opened.send("POST", self._target, None, data, headers)
                    return await opened.status()
                finally:
                    opened.abandon()
        except (OSError, TimeoutError, Closed, httptools.HttpParserError) as error:
            raise EventUndelivered(_reason(error)) from None


def _parsed(url: str) -> tuple[str, int, bool, str]:
    """Return host, port, whether TLS, and what is asked for."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidConfiguration(_URL) from None
    tls = parts.scheme == "https"
    is_odd = parts.username or parts.fragment or not url.isascii() or not url.isprintable() or " " in url
    if not host or is_odd or not (tls or (parts.scheme == "http" and is_loopback(host))):
        raise InvalidConfiguration(_URL)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, port or (443 if tls else 80), tls, target


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise InvalidConfiguration(f"{ca_file}: no certificates could be read from it") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate there can't be trusted: give --webhook-ca-file if it is your own"
    if isinstance(error, ssl.SSLError):
        return "what answers there does not speak TLS 1.2 or later"
    if isinstance(error, TimeoutError):
        return "nothing was answered in time"
    if isinstance(error, httptools.HttpParserError):
        return "what was answered is not HTTP"
    return "it can't be reached"
