"""What a gateway says on its standard error and output: lines that tell of nobody."""

import re
import sys
from collections.abc import Callable
from math import inf

REPEAT_AFTER = 600.0
"""Seconds for which the same alarm is not said again."""


def say(text: str) -> None:
    """Say a line for whoever runs the gateway."""
    print(f"exuvia gateway: {text}", file=sys.stderr, flush=True)


class Alarms:
    """Says what somebody should look at, and not more often than somebody would."""

    def __init__(self, now: Callable[[], float], *, tell: Callable[[str], None] = say) -> None:
        self._now = now
        self._tell = tell
        self._said: dict[str, float] = {}

    def raise_(self, text: str) -> None:
        """Say it, unless it was said a moment ago, be it with other numbers."""
        now, kind = self._now(), re.sub(r"\d+", "#", text)
        if now - self._said.get(kind, -inf) >= REPEAT_AFTER:
            self._said[kind] = now
            self._tell(f"alarm: {text}")
