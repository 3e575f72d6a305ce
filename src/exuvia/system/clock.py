"""The two clocks."""

import time
from datetime import UTC, datetime


def boottime() -> float:
    """Return seconds since boot, counting suspend: WireGuard's own clock, which never steps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> datetime:
    """Return the time of day, which may be wrong and may step."""
    return datetime.now(UTC)
