"""
What is due while the machine sleeps is done before anything of the user's leaves.

The kernel lets traffic into the tunnel until a time of day that is moved on while the client is
awake. Who wakes beyond it finds the way closed but for the client's own change of keys.
"""

from datetime import timedelta

from exuvia.client.edges import Clock, Machine

LONGEST = 15.0
"""Seconds that the user's traffic may be kept waiting for a change of keys."""
MARGIN = 10.0
"""Seconds by which the kernel's limit is ahead of a client that is awake."""
_STEP = 5.0


class Hold:
    """Moves the limit on. Times are seconds of CLOCK_BOOTTIME."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine = machine
        self._clock = clock
        self._seen = clock.boottime()
        self._release: float | None = None
        self._until: float | None = None

    @property
    def holding(self) -> bool:
        """Whether the user's traffic waits at the moment."""
        return self._release is not None

    def begin(self) -> None:
        """Let nothing of the user's out yet, for a change is due before it."""
        self._release = self._clock.boottime() + LONGEST
        self._set(-MARGIN)

    def look(self, left: float) -> bool:
        """
        Move the limit on, knowing how long it is until a change is due; call it every few seconds.

        Say whether traffic was let out now although the change was not made in time.
        """
        now = self._clock.boottime()
        slept, self._seen = now - self._seen > MARGIN, now
        if left > 0:
            self._release = None
        elif slept and self._release is None:
            self._release = now + LONGEST
        if self._release is not None and now < self._release:
            return False
        late, self._release = self._release is not None, None
        self._set(max(left, MARGIN))
        return late

    def _set(self, seconds: float) -> None:
        until = self._clock.wall() + timedelta(seconds=seconds)
        if self._until is None or abs(until.timestamp() - self._until) > _STEP:
            self._machine.hold(until)
            self._until = until.timestamp()
