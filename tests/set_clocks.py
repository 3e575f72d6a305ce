"""Clocks of the control plane that only a test moves."""

from datetime import UTC, datetime, timedelta

import pytest

from exuvia.api import keys, running, upkeep
from exuvia.system import clock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Time:
    """Both clocks, set by hand."""

    def __init__(self) -> None:
        self.boot = clock.boottime()
        self.wall = NOON

    def passes(self, span: timedelta) -> float:
        """Let both clocks go on."""
        self.boot += span.total_seconds()
        self.wall += span
        return self.boot


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Clocks that only this test moves."""
    times = Time()
    for module in (keys, upkeep, running):
        monkeypatch.setattr(module.clock, "wall", lambda: times.wall)
        monkeypatch.setattr(module.clock, "boottime", lambda: times.boot)
    return times
