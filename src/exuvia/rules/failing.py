"""
How many credentials may fail from one address: as many as a bucket holds, which fills up again.

Of a bucket one number is kept: when it will be full.
"""

import math
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

REFILL = 10.0
"""Seconds after which one more may fail."""
KEY_LIFETIME = 3600.0
"""Seconds after which the key of the addresses' hashes dies, and all that was counted with it."""
MOST_BUCKETS = 50_000
"""That are remembered at a time; of more, the one that was used longest ago is forgotten."""

_NETWORK_BITS = 64
_ROUNDING = 1e-6


class Credential(Enum):
    """What may be guessed. Each is counted apart: who may not log in can still use what is logged in."""

    ACCOUNT = 1
    SECOND_FACTOR = 2
    DEVICE = 3
    OPERATOR = 4

    @property
    def burst(self) -> int:
        """How many may fail at once."""
        return 64 if self in (Credential.ACCOUNT, Credential.DEVICE) else 10


def left(full_at: float, burst: int, *, now: float) -> int:
    """Return how many more may fail now."""
    missing = max(0.0, full_at - now) / REFILL
    return max(0, math.floor(burst - missing + _ROUNDING))


def after_failure(full_at: float, *, now: float) -> float:
    """Return when the bucket will be full, after one more has failed."""
    return max(full_at, now) + REFILL


def until_next(full_at: float, burst: int, *, now: float) -> int:
    """Return in how many seconds, rounded up, one more may be tried."""
    return max(1, math.ceil(full_at - now - (burst - 1) * REFILL - _ROUNDING))


def whose(text: str) -> bytes | None:
    """
    Return what an address is counted as, None if it is none.

    Of an IPv6 address that is its /64: one household or one rented machine, which has all
    addresses in there. Where a household has more, it has a bucket for each; counting them
    together would also count neighbours together.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, IPv4Address):
        return address.packed
    return address.packed[: _NETWORK_BITS // 8]


def forwarded(header: str) -> str:
    """Return the address that the nearest proxy says of its client: the last of X-Forwarded-For."""
    last = header.rpartition(",")[2].strip()
    if last.startswith("["):
        return last[1:].partition("]")[0]
    return last.partition(":")[0] if last.count(":") == 1 else last
