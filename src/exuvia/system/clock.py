"""The two clocks."""

import time
from datetime import UTC, datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boottime() -> float:
    """Return seconds since boot, counting suspend: WireGuard's own clock, which never steps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> datetime:
    """Return the time of day, which may be wrong and may step."""
    return datetime.now(UTC)


def boot() -> str:
    """Return the kernel's random name of this boot, "" if it tells none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
