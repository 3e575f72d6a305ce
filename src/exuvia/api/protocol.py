"""
uvicorn's HTTP/1.1, held to limits: how large a request's head may be, and how long it may take.

What breaks them is answered with a problem document, like everything else.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from exuvia.api import problems
from exuvia.api.crowd import Crowd
from exuvia.api.failures import Failures, Who
from exuvia.api.problems import Kind
from exuvia.rules.failing import forwarded
from exuvia.rules.limits import LONGEST_BODY, LONGEST_HEADERS, MOST_AT_ONCE, SLOWEST_READER, SLOWEST_REQUEST

_MALFORMED = Kind(400, "malformed", "This is not HTTP that can be understood")
_HEAD_TOO_LARGE = Kind(431, "head-too-large", "The request's head is too large")
_FORWARDED = b"x-forwarded-for"
_TELL_ADDRESSES = frozenset(
    {_FORWARDED, b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)
"""Headers by which proxies pass on whose request it is."""
_SPREAD = 256
_TOO_SLOW = Kind(408, "too-slow", "The request took too long to arrive")


class _HeadTooLarge(Exception):
    """Raised into the parser, which stops at it."""


class _TooManyAtOnce(Exception):
    """The same, for what is sent without ever waiting for an answer."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head = 0
    _body = 0
    _began = False
    """Whether the first byte of a request has come, and not yet its last."""
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _refusal: Kind = _MALFORMED
    _who: Who = None
    """What failures of this client are counted by. Nothing behind this class sees its address."""

    def __init__(
        self, *given: Any, crowd: Crowd, failures: Failures | None = None, behind_proxy: bool = False
    ) -> None:
        """`failures`: None where nobody is limited."""
        super().__init__(*given)
        self._crowd = crowd
        self._failures = failures
        self._behind_proxy = behind_proxy

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that says nothing is not kept either."""
        super().connection_made(transport)
        if self._failures is not None and self.client is not None and not self._behind_proxy:
            self._who = self._failures.who(self.client[0])
        self.client = None  # nobody has to know
        self._watch()
        self._crowd.came(self, now=self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._crowd.left(self)
        self._unwatch()
        self._forget_unread()
        super().connection_lost(exc)

    def cut(self) -> None:
        """End at once."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Start the clock also for a client that does not read its answer."""
        super().pause_writing()
        self._unread = self.loop.call_later(SLOWEST_READER, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop it."""
        super().resume_writing()
        self._forget_unread()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has come already."""
        super().on_response_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._crowd.waits(self, now=self.loop.time())

    def data_received(self, data: bytes) -> None:
        """Read on, and see to it that a request that has begun also ends."""
        super().data_received(data)
        if self._began and self._deadline is None:
            self._watch()
        elif not self._began and self._deadline is not None:
            self._unwatch()

    def on_message_begin(self) -> None:
        """Begin to count."""
        if len(self.pipeline) >= MOST_AT_ONCE:
            raise _TooManyAtOnce
        super().on_message_begin()
        self._head = self._body = 0
        self._began = True
        self.scope["abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope["exuvia.client"] = self._who  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        """Count the target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; one that tells an address goes no further."""
        self._count(len(name) + len(value))
        lowered = name.lower()
        if lowered not in _TELL_ADDRESSES:
            super().on_header(name, value)
        elif lowered == _FORWARDED and self._behind_proxy and self._failures is not None:
            who = self._failures.who(forwarded(value.decode("latin-1")))
            self.scope["exuvia.client"] = who  # type: ignore[typeddict-unknown-key]

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; the rest of one that was refused is not waited for without end."""
        self._body += len(body)
        if self._body > LONGEST_BODY and self.cycle.response_complete:
            self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request has arrived whole."""
        self._began = False
        super().on_message_complete()
        if not self.cycle.response_complete:
            self._crowd.is_served(self)

    def send_400_response(self, msg: str) -> None:
        """Explain and close, unless what is malformed comes after an answer that is under way."""
        if self._began and not self.pipeline and self._is_not_answered_yet():
            self.cycle.disconnected = True  # whoever answers it has nobody to tell any more
            self.cycle.message_event.set()
            self._refuse(self._refusal)
        elif self._is_answered() or (self.cycle is not None and not self.cycle.response_complete):
            self.transport.close()
        else:
            self._refuse(self._refusal)

    def _count(self, length: int) -> None:
        self._head += length + 4
        if self._head > LONGEST_HEADERS:
            self._refusal = _HEAD_TOO_LARGE
            raise _HeadTooLarge

    def _watch(self) -> None:
        # Thousands that came at once must not end at once: others would wait meanwhile.
        earlier = len(self._crowd) % _SPREAD / _SPREAD * SLOWEST_REQUEST / 5
        self._deadline = self.loop.call_later(SLOWEST_REQUEST - earlier, self._give_up)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._began and not self._is_answered():
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()

    def _is_answered(self) -> bool:
        """Return whether an answer to the request that is coming in has begun."""
        return self.cycle is not None and self.cycle.scope is self.scope and self.cycle.response_started

    def _is_not_answered_yet(self) -> bool:
        """Return whether the request that is coming in is being worked at."""
        return (
            self.cycle is not None
            and self.cycle.scope is self.scope
            and not self.cycle.response_started
            and not self.cycle.disconnected
        )

    def _refuse(self, kind: Kind) -> None:
        if not self.transport.is_closing():
            body = problems.document(kind)
            head = b"".join(b"%s: %s\r\n" % header for header in problems.headers(kind, body))
            self.transport.write(STATUS_LINE[kind.status] + head + b"connection: close\r\n\r\n" + body)
            self.transport.close()
