"""Chance, from the operating system's CSPRNG."""

import os


def bits(count: int) -> int:
    """Return a uniformly random number of so many bits."""
    return int.from_bytes(os.urandom((count + 7) // 8), "big") >> (-count % 8)


def octets(count: int) -> bytes:
    """Return so many random bytes."""
    return os.urandom(count)
