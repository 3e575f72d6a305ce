"""
What an account asks for beside its number: codes of an authenticator, or passkeys.

What checks them is sealed: without PATH.key a stolen database can't make a code, nor tell whose a passkey is.
"""

from dataclasses import dataclass
from typing import Literal

from exuvia.errors import AlreadyExists, NotFound
from exuvia.store.devices import Executes, active_account
from exuvia.store.writer import Transaction

Kind = Literal["code", "passkey"]
MOST_PASSKEYS = 5
"""Of one account, beside at most one app that makes codes; any one of them opens it."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One of an account's second factors."""

    id: bytes
    kind: Kind
    sealed: bytes


def of_account(connection: Executes, account_id: bytes) -> list[Factor]:
    """Return an account's second factors, in the order of their random ids."""
    rows = connection.execute(
        "SELECT id, kind, sealed FROM second_factor WHERE account_id = ? ORDER BY id", (account_id,)
    )
    return [Factor(*row) for row in rows]


def of_number(connection: Executes, number_hash: bytes, *, today: str) -> list[Factor]:
    """Return the second factors of the account with this number; UnknownCredential unless it is active."""
    return of_account(connection, active_account(connection, number_hash, today, proven=True).id)


def add(transaction: Transaction, number_hash: bytes, factor: Factor, *, today: str) -> None:
    """Let an account ask for this; of codes it has one at most, so that another replaces it."""
    account = active_account(transaction, number_hash, today, proven=True)
    others = [other for other in of_account(transaction, account.id) if other.kind != "code"]
    if factor.kind == "passkey" and len(others) >= MOST_PASSKEYS:
        raise AlreadyExists(f"an account can have {MOST_PASSKEYS} passkeys: remove one first")
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
