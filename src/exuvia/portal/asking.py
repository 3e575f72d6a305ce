"""A request from a browser as pages see it, and what they answer."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import msgspec

from exuvia.api import problems
from exuvia.api.bodies import read_body
from exuvia.api.routes import Receive
from exuvia.errors import InvalidRequest
from exuvia.portal.sessions import Session
from exuvia.portal.site import Headers
from exuvia.store.accounts import Account

if TYPE_CHECKING:
    from exuvia.portal.state import State

_FORM = b"application/x-www-form-urlencoded"
MOST_FIELDS = 50


class Who(Enum):
    """Who may see a page."""

    ANYBODY = "anybody"
    NUMBER_GIVEN = "whoever gave the account's number, and has yet to give its second factor"
    HOLDER = "whoever gave all that the account asks for"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a browser is answered."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(slots=True)
class Request:
    """A request that may be answered: who asks is known, and forms are our own."""

    state: "State"
    method: str
    path: dict[str, str]
    query: dict[str, str]
    headers: Headers
    form: dict[str, str]
    session_id: str | None = None
    session: Session | None = None
    client: bytes | None = None
    """What failures of whoever asks are counted by; None if nobody counts."""
    found: Account | None = field(default=None)
    """The account that is logged in."""

    @property
    def wants_json(self) -> bool:
        """Whether a script asks."""
        accepted = self.headers.get(b"accept", b"")
        return b"application/json" in accepted and b"text/html" not in accepted

    @property
    def known(self) -> Session:
        """The session, on pages that need one."""
        assert self.session is not None  # noqa: S101  its page asks for one
        return self.session

    @property
    def account(self) -> Account:
        """The account, on pages of its holder."""
        assert self.found is not None  # noqa: S101  its page asks for one
        return self.found


Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Page:
    """One line of the table of pages."""

    method: str
    path: str
    who: Who
    handler: Handler


def redirect(to: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return the answer after which a browser asks for another page."""
    return Answer(HTTPStatus.SEE_OTHER, b"", ((b"location", to.encode()), *headers))


def json(value: object, status: int = 200) -> Answer:
    """Return what a script is answered."""
    return Answer(status, msgspec.json.encode(value), ((b"content-type", b"application/json"),))


async def read_form(headers: Headers, receive: Receive) -> dict[str, str]:
    """Return the fields of a form: of one that comes several times the last that is not empty."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != _FORM:
        raise problems.WrongMediaType("send it as a form does")
    return fields(await read_body(headers, receive))


def fields(text: bytes) -> dict[str, str]:
    """Return the fields of a form or of a query; InvalidRequest if they can't be read."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise InvalidRequest("the form can't be read") from None
    return _last(pairs)


def _last(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if value or name not in found:
            found[name] = value
    return found
