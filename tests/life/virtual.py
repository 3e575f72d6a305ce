"""Time that passes as fast as it can: an event loop whose sleepers never wait."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

START = datetime(2030, 1, 1, tzinfo=UTC)
"""The true time of day when a story begins."""


BUSY = 100_000
"""Rounds of the loop in which no time passes, at most."""


class Deadlock(BaseException):
    """Everybody waits for something that never happens, or somebody never waits."""


class _Selector(selectors.SelectSelector):
    loop: "VirtualLoop"
    idle = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        before = self.loop.passed
        self.loop.passed += max(timeout, 0.0)
        self.idle = self.idle + 1 if self.loop.passed == before else 0
        if self.idle > BUSY:
            raise Deadlock
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that does nothing but compute: where all sleep, time passes at once."""

    def __init__(self) -> None:
        self.passed = 0.0
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self.passed


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a story to its end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class TrueTime:
    """The time that passes for all, whoever sleeps."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slept = 0.0

    @property
    def now(self) -> float:
        """Seconds since the story began."""
        return self._loop.time() + self._slept

    def sleep_through(self, seconds: float) -> None:
        """The machine is suspended for so long: its programs' sleeps do not count that."""
        self._slept += seconds


class SimClock:
    """The clocks of the client's machine: one that never steps, and one that may."""

    def __init__(self, true: TrueTime) -> None:
        self._true = true
        self._booted = true.now - 1000.0
        self._boots = 0
        self.wrong = 0.0
        """Seconds by which the time of day is ahead."""

    def boottime(self) -> float:
        """Return seconds since boot."""
        return self._true.now - self._booted

    def wall(self) -> datetime:
        """Return the time of day, as far as this machine knows it."""
        return START + timedelta(seconds=self._true.now + self.wrong)

    def boot(self) -> str:
        """Return the name of this boot."""
        return f"boot {self._boots}"

    def reboot(self) -> None:
        """Begin another boot."""
        self._boots += 1
        self._booted = self._true.now
