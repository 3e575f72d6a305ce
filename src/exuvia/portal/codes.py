"""
Codes of authenticators while the server runs: each is good once, and few wrong ones may be tried.

In memory only: stored, it would tell when somebody last logged in. So that a restart lets no code be used
again, those that may have been used before it are refused.
"""

import asyncio

from exuvia.rules.totp import DRIFT, STEP, matching_step, step_at

MOST_WRONG = 10
"""Wrong codes of one account in an hour; more are not looked at."""
_HOUR = 3600.0
_KEPT = STEP * (2 * DRIFT + 2)
"""Seconds after which a used code is out of date anyway."""


class Codes:
    """Which codes were used, and how many wrong ones were given."""

    def __init__(self, *, wall: float) -> None:
        self._before = step_at(wall) + DRIFT
        """The last step whose code may have been used before this server started."""
        self._used: dict[bytes, int] = {}
        self._wrong: dict[bytes, list[float]] = {}

    def accept(self, factor: bytes, secret: bytes, given: str, *, wall: float) -> bool:
        """Return whether this is the authenticator's code now, and was not used; from now on it is."""
        step = matching_step(secret, given, wall=wall, after=self._used.get(factor, self._before))
        if step is None:
            return False
        self._use(factor, step)
        return True

    def enroll(self, factor: bytes, secret: bytes, given: str, *, wall: float) -> bool:
        """Return whether an authenticator that is set up now makes the right code; it is used by that."""
        step = matching_step(secret, given, wall=wall, after=-1)
        if step is None:
            return False
        self._use(factor, step)
        return True

    def are_too_many(self, account: bytes, *, now: float) -> bool:
        """Return whether so many wrong codes were given for an account that no more are looked at."""
        return len(self._recent(account, now)) >= MOST_WRONG

    def note_wrong(self, account: bytes, *, now: float) -> None:
        """Remember for an hour that a wrong code was given for an account."""
        self._wrong[account] = [*self._recent(account, now), now]
        asyncio.get_running_loop().call_later(_HOUR + 1, self._forget_wrong, account, now + _HOUR)

    def _recent(self, account: bytes, now: float) -> list[float]:
        return [at for at in self._wrong.get(account, ()) if now - at < _HOUR]

    def _use(self, factor: bytes, step: int) -> None:
        self._used[factor] = step
        asyncio.get_running_loop().call_later(_KEPT, self._forget_used, factor, step)

    def _forget_used(self, factor: bytes, step: int) -> None:
        if self._used.get(factor) == step:
            del self._used[factor]

    def _forget_wrong(self, account: bytes, now: float) -> None:
        if recent := self._recent(account, now):
            self._wrong[account] = recent
        else:
            self._wrong.pop(account, None)
