"""
Who is logged in: kept in memory only, and found by a keyed hash of what the browser holds.

Times are seconds of CLOCK_BOOTTIME.
"""

import asyncio
import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b

from exuvia.rules.allocation import Bits
from exuvia.store.credentials import new_secret, token
from exuvia.system import clock

IDLE = 30 * 60.0
"""Seconds without a request after which a session ends."""
LONGEST = 12 * 3600.0
"""Seconds after which it ends, whatever was asked."""
MOST_OF_ACCOUNT = 8
"""Sessions of one account; of more, the one that was idle for longest ends."""
MOST = 50_000
"""Sessions of everybody."""


@dataclass(slots=True)
class Session:
    """Somebody who gave an account number, and all else that the account asks for if `is_complete`."""

    number_hash: bytes
    is_complete: bool
    csrf: str
    began: float
    used: float
    asked: frozenset[bytes] = frozenset()
    """The second factors of the account as this session knows them; if others change them, it ends."""
    notice: str = ""
    """What the next page says was done."""
    memory: dict[str, bytes] = field(default_factory=dict)
    """What a second factor being set up or asked for needs from one page to the next."""

    def is_own_form(self, csrf: str) -> bool:
        """Return whether a form was made for this session."""
        return hmac.compare_digest(csrf.encode(), self.csrf.encode())

    def taken_notice(self) -> str:
        """Return what the next page is to say; it says it once."""
        notice, self.notice = self.notice, ""
        return notice


class Sessions:
    """All sessions, those that were used last at the end."""

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        self._key = new_secret(bits)
        self._all: OrderedDict[bytes, Session] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None

    def begin(
        self, number_hash: bytes, *, is_complete: bool, asked: frozenset[bytes], now: float
    ) -> tuple[str, Session]:
        """Return a new session, and what its browser has to show."""
        id = token(new_secret(self._bits))
        session = Session(number_hash, is_complete, token(new_secret(self._bits)), now, now, asked)
        self._make_room(number_hash, is_complete)
        self._all[self._hash(id)] = session
        self._sweep_later()
        return id, session

    def find(self, id: str | None, *, now: float) -> Session | None:
        """Return the session that a browser shows, if it did not end."""
        name = self._hash(id or "")
        session = self._all.get(name)
        if session is None:
            return None
        if _is_over(session, now):
            del self._all[name]
            return None
        session.used = now
        self._all.move_to_end(name)
        return session

    def end(self, id: str | None) -> None:
        """End a session."""
        self._all.pop(self._hash(id or ""), None)

    def end_of(self, number_hash: bytes) -> None:
        """End all sessions of an account."""
        for name, session in list(self._all.items()):
            if session.number_hash == number_hash:
                del self._all[name]

    def count_of(self, number_hash: bytes) -> int:
        """Return how many sessions an account has."""
        return sum(session.number_hash == number_hash for session in self._all.values())

    def sweep(self, *, now: float) -> None:
        """Forget sessions that are over."""
        for name, session in list(self._all.items()):
            if _is_over(session, now):
                del self._all[name]

    def __len__(self) -> int:
        return len(self._all)

    def _make_room(self, number_hash: bytes, is_complete: bool) -> None:
        # Whoever knows just the number can't push out those who gave the second factor.
        alike = (number_hash, is_complete)
        own = [name for name, one in self._all.items() if (one.number_hash, one.is_complete) == alike]
        if len(own) >= MOST_OF_ACCOUNT:
            del self._all[own[0]]
        if len(self._all) >= MOST:
            self._all.popitem(last=False)

    def _hash(self, id: str) -> bytes:
        return blake2b(id.encode(), key=self._key, digest_size=32).digest()

    def _sweep_later(self) -> None:
        """See to it that what is over is forgotten also if nobody asks anything any more."""
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(IDLE + 1, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweeping = None
        self.sweep(now=clock.boottime())
        if self._all:
            self._sweep_later()


def _is_over(session: Session, now: float) -> bool:
    return now - session.used > IDLE or now - session.began > LONGEST
