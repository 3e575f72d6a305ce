"""Accounts: who may register devices. Operations of the writer, questions to a reader."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exuvia.errors import NotFound
from exuvia.messages import AccountState
from exuvia.rules.expiry import account_state, is_over
from exuvia.store import devices, outbox
from exuvia.store.writer import Transaction

ID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is today."""

    id: bytes
    state: AccountState
    expires: str | None
    device_limit: int
    devices: int
    second_factor: bool
    """Whether it asks for more than its number."""


_COLUMNS = (
    "id, state, expires, device_limit, "
    "(SELECT count(*) FROM device WHERE account_id = account.id), "
    "EXISTS (SELECT 1 FROM second_factor WHERE account_id = account.id) FROM account"
)

# The same as rules.expiry.account_state: ?3 is a state or NULL for any, ?4 is today.
_IN_STATE = "?3 IS NULL OR ?3 = CASE WHEN state = 'active' AND expires < ?4 THEN 'expired' ELSE state END"


def create(
    transaction: Transaction, *, id: bytes, number_hash: bytes, device_limit: int, expires: str | None
) -> None:
    """Add an account."""
    transaction.execute(
        "INSERT INTO account (id, number_hash, state, expires, device_limit) VALUES (?, ?, 'active', ?, ?)",
        (id, number_hash, expires, device_limit),
    )


def by_id(connection: devices.Executes, id: bytes, *, today: str) -> Account:
    """Return an account; NotFound if there is none."""
    return _one(connection.execute(f"SELECT {_COLUMNS} WHERE id = ?", (id,)), today)


def by_number(connection: sqlite3.Connection, number_hash: bytes, *, today: str) -> Account:
    """Return the account with this number; NotFound if there is none."""
    return _one(connection.execute(f"SELECT {_COLUMNS} WHERE number_hash = ?", (number_hash,)), today)


def listed(
    connection: sqlite3.Connection, *, after: bytes, limit: int, today: str, state: AccountState | None = None
) -> list[Account]:
    """Return accounts in the order of their random ids, from after one of them; all, or those in a state."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} WHERE id > ?1 AND ({_IN_STATE}) ORDER BY id LIMIT ?2",
        (after, limit, state, today),
    )
    return [_account(row, today) for row in rows]


def extend(transaction: Transaction, id: bytes, last_day: Callable[[str | None], str | None]) -> None:
    """Give an account the last day that is told from the present one; None is none."""
    expires = last_day(_expires(transaction, id))
    transaction.execute("UPDATE account SET expires = ? WHERE id = ?", (expires, id))


def limit_devices(transaction: Transaction, id: bytes, device_limit: int) -> None:
    """Set how many devices an account may have; those that it has stay, even if they are more."""
    _expect(transaction, id)
    transaction.execute("UPDATE account SET device_limit = ? WHERE id = ?", (device_limit, id))


def suspend(transaction: Transaction, id: bytes, *, hour: int) -> None:
    """Keep an account from doing anything: its keys and addresses go at once, its devices stay."""
    _set_state(transaction, id, "suspended")
    devices.revoke_keys_of_account(transaction, id, hour=hour)


def resume(transaction: Transaction, id: bytes) -> None:
    """Undo a suspension; devices have to register anew."""
    _set_state(transaction, id, "active")


def remove_second_factor(transaction: Transaction, id: bytes) -> None:
    """Let an account be opened by its number alone, also if it was already."""
    _expect(transaction, id)
    transaction.execute("DELETE FROM second_factor WHERE account_id = ?", (id,))


def cancel(transaction: Transaction, id: bytes, *, hour: int) -> None:
    """Delete an account with all that belongs to it; billing is told, if there is somebody to tell."""
    _expect(transaction, id)
    devices.revoke_keys_of_account(transaction, id, hour=hour)
    transaction.execute("DELETE FROM device WHERE account_id = ?", (id,))
    transaction.execute("DELETE FROM second_factor WHERE account_id = ?", (id,))
    transaction.execute("DELETE FROM account WHERE id = ?", (id,))
    outbox.note_cancelled(transaction, id, hour=hour)


def expired_with_keys(connection: sqlite3.Connection, *, today: str, limit: int) -> list[bytes]:
    """Return some accounts whose last day has passed and whose devices still have keys."""
    rows = connection.execute(
        "SELECT id FROM account WHERE expires < ? "
        "AND EXISTS (SELECT 1 FROM key WHERE account_id = account.id) LIMIT ?",
        (today, limit),
    )
    return [id for (id,) in rows]


def expire(transaction: Transaction, ids: list[bytes], *, today: str, hour: int) -> None:
    """Remove the keys and addresses of those of some accounts whose last day has passed by now."""
    for id in ids:
        if is_over(_expires_if_any(transaction, id), today):
            devices.revoke_keys_of_account(transaction, id, hour=hour)


def _set_state(transaction: Transaction, id: bytes, state: AccountState) -> None:
    _expect(transaction, id)
    transaction.execute("UPDATE account SET state = ? WHERE id = ?", (state, id))


def _expires(transaction: Transaction, id: bytes) -> str | None:
    _expect(transaction, id)
    return _expires_if_any(transaction, id)


def _expires_if_any(transaction: Transaction, id: bytes) -> str | None:
    row = transaction.execute("SELECT expires FROM account WHERE id = ?", (id,)).fetchone()
    expires: str | None = row[0] if row else None
    return expires


def _expect(transaction: Transaction, id: bytes) -> None:
    if transaction.execute("SELECT 1 FROM account WHERE id = ?", (id,)).fetchone() is None:
        raise NotFound("there is no such account")


def _one(rows: Iterator[sqlite3.Row], today: str) -> Account:
    for row in rows:
        return _account(row, today)
    raise NotFound("there is no such account")


def _account(row: sqlite3.Row, today: str) -> Account:
    id, state, expires, device_limit, count, second_factor = row
    return Account(
        id, account_state(state, expires, today), expires, device_limit, count, bool(second_factor)
    )
