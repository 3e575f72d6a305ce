"""What the database knows of itself."""

from exuvia.store.writer import Transaction


def note_hour(transaction: Transaction, hour: int) -> None:
    """Remember the latest hour that was believed, to notice a clock that was set back."""
    transaction.execute("UPDATE meta SET clock_hour = ?1 WHERE clock_hour != ?1", (hour,))
