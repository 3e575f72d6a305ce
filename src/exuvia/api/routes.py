"""
A route: what is asked, by whom, and what is answered. The one table of routes, in table.py,
is both what is dispatched and what OpenAPI tells.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from exuvia.api.problems import NotAllowed
from exuvia.errors import ExuviaError, NotFound
from exuvia.store.credentials import DeviceCredential
from exuvia.store.gateways import Gateway

if TYPE_CHECKING:
    from exuvia.api.control import Control

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Scope = Mapping[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Who(Enum):
    """Whose credential a route asks for."""

    ANYBODY = "anybody"
    ACCOUNT = "account"
    DEVICE = "device"
    DEVICE_OR_ACCOUNT = "device or account"
    GATEWAY = "gateway"
    OPERATOR = "operator"


@dataclass(slots=True)
class Call:
    """A request that may be answered: its credential was checked as far as memory allows."""

    control: "Control"
    bearer: str
    path: dict[str, str]
    query: Any = None
    body: Any = None
    number_hash: bytes = b""
    """Of the account number, where an account asks."""
    device: DeviceCredential | None = None
    """What the device's token came to, where a device asks."""
    gateway: Gateway | None = None
    client: bytes | None = None
    """What failures of whoever asks are counted by, see api/failures; None if nobody counts."""


Handler = Callable[[Call], Awaitable[Any]]
Stream = Callable[[Call, Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table."""

    method: str
    path: str
    who: Who
    summary: str
    handler: Handler | None = None
    stream: Stream | None = None
    takes: type[msgspec.Struct] | None = None
    may_be_empty: bool = False
    """Whether an empty body is taken as well, as one without fields."""
    query: type[msgspec.Struct] | None = None
    gives: Any = None
    """What the answer holds; None if it has no body."""
    status: int = 200
    media_type: str = "application/json"
    refusals: tuple[type[ExuviaError], ...] = field(default=())
    """Beside those that any such route has."""

    @property
    def is_done_once(self) -> bool:
        """Whether an Idempotency-Key keeps it from being done again."""
        return self.who is Who.OPERATOR and self.method in ("POST", "DELETE")


class Located(Protocol):
    """What is found by its method and path."""

    @property
    def method(self) -> str:
        """Of the requests it answers."""

    @property
    def path(self) -> str:
        """With {names} where anything may stand."""


R = TypeVar("R", bound=Located)


class Router(Generic[R]):
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[R]) -> None:
        self.routes = tuple(routes)
        self._fixed: dict[str, dict[str, R]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, R]]] = []
        for path in dict.fromkeys(route.path for route in self.routes):
            methods = {route.method: route for route in self.routes if route.path == path}
            if "{" in path:
                self._patterns.append((re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), methods))
            else:
                self._fixed[path] = methods

    def find(self, method: str, path: str) -> tuple[R, dict[str, str]]:
        """Return the route and what its path names; NotFound or NotAllowed if there is none."""
        methods = self._fixed.get(path)
        if methods is not None:
            return _with_method(methods, method), {}
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                return _with_method(methods, method), match.groupdict()
        raise NotFound("nothing is at this path")


def _with_method(methods: dict[str, R], method: str) -> R:
    try:
        return methods[method]
    except KeyError:
        raise NotAllowed(", ".join(methods)) from None
