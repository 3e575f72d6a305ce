"""
Credentials that failed, counted by whoever sent them: a keyed hash of the address, in memory only.

The key is random and dies within the hour, and all that was counted with it; nothing tells
afterwards which address it was. Who may try again is decided in rules/failing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Any

from exuvia.errors import TooManyFailures, UnknownCredential
from exuvia.rules.allocation import Bits
from exuvia.rules.failing import (
    KEY_LIFETIME,
    MOST_BUCKETS,
    Credential,
    after_failure,
    left,
    until_next,
    whose,
)
from exuvia.system import clock

_log = logging.getLogger("exuvia.api")
_HASH_LENGTH = 16
Who = bytes | None
"""A hash of a client's address; None where nobody is limited, as on the socket beside the database."""
_Place = tuple[Credential, bytes]


@dataclass(slots=True)
class _Trying:
    """Credentials of one address that may turn out to be wrong."""

    now: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class Failures:
    """Counts what failed, and refuses those of whom too much did."""

    def __init__(self, bits: Bits, *, time: Callable[[], float] = clock.boottime) -> None:
        self._bits = bits
        self._time = time
        self._full_at: dict[_Place, float] = {}
        self._trying: dict[_Place, _Trying] = {}
        self._has_warned = False
        self._renew()

    def who(self, address: str | None) -> Who:
        """Return what a client is known by until the key dies; None for an address that is none."""
        self.forget_in_time()
        counted = None if address is None else whose(address)
        if counted is None:
            return None
        return blake2b(counted, digest_size=_HASH_LENGTH, key=self._key).digest()

    def refuse_if_many(self, who: Who, of: Credential = Credential.ACCOUNT) -> None:
        """Raise TooManyFailures if no more of these may be tried from there now."""
        if who is not None and not self._left((of, who)):
            full_at = self._full_at[of, who]
            raise TooManyFailures(until_next(full_at, of.burst, now=self._time()))

    def note(self, who: Who, of: Credential = Credential.ACCOUNT) -> None:
        """Count one that failed."""
        if who is None:
            self._warn()
            return
        place = (of, who)
        full_at = after_failure(self._full_at.pop(place, 0.0), now=self._time())
        self._full_at[place] = full_at
        if len(self._full_at) > MOST_BUCKETS:
            del self._full_at[next(iter(self._full_at))]

    def trying(self, who: Who, of: Credential = Credential.ACCOUNT) -> "_Attempt":
        """
        Hold this around what looks a credential up; UnknownCredential from within counts.

        No more are looked up at the same time than may still fail: others wait for their turn. So a
        thousand that come at once are no way around the limit, and a thousand right ones all pass.
        """
        return _Attempt(self, who, of)

    def forget_in_time(self) -> None:
        """Let the key die, and all that was counted, when its time is over."""
        if self._time() >= self._dies_at:
            self._renew()

    def _renew(self) -> None:
        self._key = self._bits(256).to_bytes(32, "big")
        self._dies_at = self._time() + KEY_LIFETIME
        self._full_at.clear()

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "a credential was wrong, and nothing tells one client from another, so that guessing is not "
                "limited: let the proxy in front set X-Forwarded-For"
            )

    def _left(self, place: _Place) -> int:
        full_at = self._full_at.get(place)
        return place[0].burst if full_at is None else left(full_at, place[0].burst, now=self._time())

    async def begin(self, place: _Place) -> None:
        """Wait for one's turn; raises TooManyFailures if there will be none."""
        while True:
            self.refuse_if_many(place[1], place[0])
            trying = self._trying.setdefault(place, _Trying())
            if trying.now < self._left(place):
                trying.now += 1
                return
            turn = asyncio.get_running_loop().create_future()
            trying.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake(place)  # it may have been this one's turn
                raise

    def end(self, place: _Place) -> None:
        """Let the next one have its turn."""
        self._trying[place].now -= 1
        self._wake(place)

    def _wake(self, place: _Place) -> None:
        """Give those that wait their turn as far as there is room; all of them if they are to be refused."""
        trying = self._trying.get(place)
        if trying is None:
            return
        waiting = [turn for turn in trying.waiting if not turn.done()]
        may = self._left(place)
        room = max(0, may - trying.now) if may else len(waiting)
        for turn in waiting[:room]:
            turn.set_result(None)
        trying.waiting = waiting[room:]
        if not trying.now and not trying.waiting:
            del self._trying[place]


class _Attempt:
    """What Failures.trying returns. Each request passes here; a generator takes twice as long."""

    __slots__ = ("_failures", "_of", "_who")

    def __init__(self, failures: Failures, who: Who, of: Credential) -> None:
        self._failures, self._who, self._of = failures, who, of

    async def __aenter__(self) -> None:
        if self._who is not None:
            await self._failures.begin((self._of, self._who))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UnknownCredential):
            self._failures.note(self._who, self._of)
        if self._who is not None:
            self._failures.end((self._of, self._who))


def client_of(scope: Mapping[str, Any]) -> Who:
    """Return whoever sends a request, as our protocol says it; None if nobody is to be limited."""
    who: Who = scope.get("exuvia.client")
    return who
