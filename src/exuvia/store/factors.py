"""
What an account asks for beside its number: codes of an authenticator, or passkeys.

What checks them is sealed: without PATH.key a stolen database can't make a code, nor tell whose a passkey is.
"""

import sqlite3
from dataclasses import dataclass
from typing import Literal

from exuvia.errors import NotFound
from exuvia.store.devices import active_account
from exuvia.store.writer import Transaction

Kind = Literal["code", "passkey"]
MOST = 5
"""Factors that an account may have; any one of them opens it."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One of an account's second factors."""

    id: bytes
    kind: Kind
    sealed: bytes


def of_account(connection: sqlite3.Connection, account_id: bytes) -> list[Factor]:
    """Return an account's second factors, in the order of their random ids."""
    rows = connection.execute(
        "SELECT id, kind, sealed FROM second_factor WHERE account_id = ? ORDER BY id", (account_id,)
    )
    return [Factor(*row) for row in rows]


def add(transaction: Transaction, number_hash: bytes, factor: Factor, *, today: str) -> None:
    """Let an account ask for this; of codes it has one at most, so that another replaces it."""
    account = active_account(transaction, number_hash, today, proven=True)
    if factor.kind == "code":
        transaction.execute("DELETE FROM second_factor WHERE account_id = ? AND kind = 'code'", (account.id,))
    transaction.execute(
        "INSERT INTO second_factor (account_id, id, kind, sealed) VALUES (?, ?, ?, ?)",
        (account.id, factor.id, factor.kind, factor.sealed),
    )


def remove(transaction: Transaction, number_hash: bytes, id: bytes, *, today: str) -> None:
    """Let an account no longer ask for this; NotFound if it does not."""
    account = active_account(transaction, number_hash, today, proven=True)
    gone = transaction.execute(
        "DELETE FROM second_factor WHERE account_id = ? AND id = ? RETURNING id", (account.id, id)
    ).fetchall()
    if not gone:
        raise NotFound("the account has no such second factor")


def remove_all(transaction: Transaction, account_id: bytes) -> None:
    """Let an account be opened by its number alone."""
    transaction.execute("DELETE FROM second_factor WHERE account_id = ?", (account_id,))
