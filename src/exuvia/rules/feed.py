"""
How a gateway's peer table follows the control plane's: in order, whole, and never backwards.
"""

from collections.abc import Iterable
from hashlib import blake2b

DIGEST_LENGTH = 32
_ALL_BITS = (1 << 8 * DIGEST_LENGTH) - 1


def table_digest(peers: Iterable[bytes]) -> bytes:
    """
    Return the digest of a set of packed peers, whatever their order.

    The sum of a hash for each, modulo 2^256: it guards against a table cut short or mixed
    up, not against the control plane, which is free to send any table.
    """
    total: int = 0
    for peer in peers:
        total += int.from_bytes(blake2b(peer, digest_size=DIGEST_LENGTH).digest(), "little")
    return (total & _ALL_BITS).to_bytes(DIGEST_LENGTH, "little")
