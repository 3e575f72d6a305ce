"""What an operator has to look at: written to the log when it begins, and counted."""

import logging

_log = logging.getLogger("exuvia.alarm")

CLOCK = "clock"
ERASURE = "erasure"
EXPIRY = "expiry"
POOL = "pool"
RETIREMENT = "retirement"
REWOUND = "rewound"
STORE = "store"
UNTOLD = "untold"
WEBHOOK = "webhook"
_ALL = (CLOCK, ERASURE, EXPIRY, POOL, RETIREMENT, REWOUND, STORE, UNTOLD, WEBHOOK)


class Alarms:
    """Alarms that are on, and how often each has begun."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_ALL, 0)
        self._on: set[str] = set()

    def begin(self, name: str, text: str) -> None:
        """Raise an alarm, unless it is on already; the text says what to do."""
        if name not in self._on:
            self._on.add(name)
            self.counts[name] += 1
            _log.error("%s: %s", name, text)

    def end(self, name: str) -> None:
        """Note that the reason is gone."""
        if name in self._on:
            self._on.discard(name)
            _log.warning("%s: over", name)

    def are_on(self) -> frozenset[str]:
        """Return the alarms that are on."""
        return frozenset(self._on)
