"""
What billing has yet to be told: a row for each account that was cancelled, until it is delivered.

Such a row takes the place of the account's, and is smaller: there are never more than there were accounts.
"""

import sqlite3
from typing import NamedTuple

from exuvia.rules import webhooks
from exuvia.store.writer import Transaction


class Event(NamedTuple):
    """An account that was cancelled; the event's id is the same whenever it is told."""

    id: bytes
    account_id: bytes


def tell_billing(transaction: Transaction, *, wanted: bool) -> int:
    """Note whether there is somebody to tell from now on; return how many events are dropped if not."""
    if wanted:
        transaction.execute("INSERT OR IGNORE INTO billing VALUES (1)")
        return 0
    transaction.execute("DELETE FROM billing")
    return transaction.execute("DELETE FROM outbox").rowcount


def note_cancelled(transaction: Transaction, account_id: bytes, *, hour: int) -> None:
    """Note that an account was cancelled, if there is somebody to tell; durable with the cancellation."""
    transaction.execute(
        "INSERT INTO outbox (id, account_id, last_day) SELECT randomblob(16), ?, ? FROM billing",
        (account_id, webhooks.last_day(hour)),
    )


def some(connection: sqlite3.Connection, *, limit: int) -> list[Event]:
    """Return some events, in an order that tells nothing."""
    rows = connection.execute("SELECT id, account_id FROM outbox ORDER BY random() LIMIT ?", (limit,))
    return [Event(*row) for row in rows]


def forget(transaction: Transaction, id: bytes) -> None:
    """Forget an event that was delivered."""
    transaction.execute("DELETE FROM outbox WHERE id = ?", (id,))


def give_up(transaction: Transaction, *, hour: int) -> int:
    """Forget events that were tried for long enough; return how many."""
    return transaction.execute("DELETE FROM outbox WHERE last_day < ?", (hour // 24,)).rowcount
