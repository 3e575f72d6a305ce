"""What the database knows of itself."""

import base64

from exuvia.rules.allocation import Bits
from exuvia.store.writer import Transaction

_EPOCH_BITS = 80


def fresh_epoch(bits: Bits) -> str:
    """Return a random name for an incarnation of the database."""
    return base64.b32encode(bits(_EPOCH_BITS).to_bytes(_EPOCH_BITS // 8, "big")).decode().lower()


def note_hour(transaction: Transaction, hour: int) -> None:
    """Remember the latest hour that was believed, to notice a clock that was set back."""
    transaction.execute("UPDATE meta SET clock_hour = ?1 WHERE clock_hour != ?1", (hour,))
