"""Devices and their keys. Operations of the writer, questions to a reader."""

import hmac
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from exuvia.errors import AccountInactive, NotFound, UnknownCredential
from exuvia.messages import KeyStanding
from exuvia.rules.expiry import account_state
from exuvia.store.credentials import DeviceCredential
from exuvia.store.peers import rest
from exuvia.store.writer import Transaction
from exuvia.wg.peers import TunnelPeer

ID_LENGTH = 16
UNKNOWN = "the credential is not accepted"
"""What is said of a credential, whatever is wrong with it."""


class Key(NamedTuple):
    """A key that a device has."""

    peer: TunnelPeer
    standing: KeyStanding


@dataclass(frozen=True, slots=True)
class Device:
    """A device with its keys; retired ones are no longer its own."""

    id: bytes
    name: str
    keys: list[Key]


def of_account(
    connection: sqlite3.Connection, number_hash: bytes, *, today: str, proven: bool = False
) -> list[Device]:
    """Return all devices of an account; UnknownCredential unless it may act."""
    account = active_account(connection, number_hash, today, proven=proven)
    rows = connection.execute(
        "SELECT id, name FROM device WHERE account_id = ? ORDER BY name", (account.id,)
    ).fetchall()
    return [Device(id, name, _keys(connection, account.id, id)) for id, name in rows]


def by_credential(connection: sqlite3.Connection, credential: DeviceCredential, *, today: str) -> Device:
    """Return the device with this credential; AccountInactive if its account may do nothing today."""
    name = require_active(connection, credential, today=today)
    return Device(credential.device_id, name, _keys(connection, credential.account_id, credential.device_id))


def require_account(connection: sqlite3.Connection, number_hash: bytes, *, today: str) -> None:
    """Raise UnknownCredential unless there is an account with this number that may act."""
    active_account(connection, number_hash, today)


def delete_own(transaction: Transaction, credential: DeviceCredential, *, hour: int) -> None:
    """Log out the device with this credential, whatever its account may do otherwise."""
    _named(transaction, credential)
    _delete(transaction, credential.account_id, credential.device_id, hour)


def delete_of_account(
    transaction: Transaction, number_hash: bytes, id: bytes, *, today: str, hour: int, proven: bool = False
) -> None:
    """Delete a device of this account; NotFound if the account has no such device."""
    account = active_account(transaction, number_hash, today, proven=proven)
    require_device(transaction, account.id, id)
    _delete(transaction, account.id, id, hour)


def delete_all_of_account(
    transaction: Transaction, number_hash: bytes, *, today: str, hour: int, proven: bool = False
) -> None:
    """Delete all devices of this account."""
    account = active_account(transaction, number_hash, today, proven=proven)
    revoke_keys_of_account(transaction, account.id, hour=hour)
    transaction.execute("DELETE FROM device WHERE account_id = ?", (account.id,))


def require_device(connection: "Executes", account_id: bytes, id: bytes) -> None:
    """Raise NotFound unless the account has this device."""
    row = connection.execute("SELECT 1 FROM device WHERE account_id = ? AND id = ?", (account_id, id))
    if row.fetchone() is None:
        raise NotFound("the account has no such device")


def revoke_keys_of_account(transaction: Transaction, account_id: bytes, *, hour: int) -> None:
    """Remove all keys and addresses of an account, from the database and the peer table."""
    _revoke(transaction, "account_id = ?", (account_id,), hour)


def require_active(connection: "Executes", credential: DeviceCredential, *, today: str) -> str:
    """Return the device's name; UnknownCredential or AccountInactive if it may do nothing today."""
    name = _named(connection, credential)
    state, expires = connection.execute(
        "SELECT state, expires FROM account WHERE id = ?", (credential.account_id,)
    ).fetchone()
    today_state = account_state(state, expires, today)
    if today_state != "active":
        raise AccountInactive(f"the account is {today_state}")
    return name


class Account(NamedTuple):
    """An account that may act."""

    id: bytes
    device_limit: int


Executes = Transaction | sqlite3.Connection


def active_account(connection: Executes, number_hash: bytes, today: str, *, proven: bool = False) -> Account:
    """
    Return the account with this number; UnknownCredential unless it is active, and the number is enough.

    It is not where the account asks for a second factor, unless that is `proven`.
    """
    row = connection.execute(
        "SELECT id, state, expires, device_limit, "
        "EXISTS (SELECT 1 FROM second_factor WHERE account_id = account.id) "
        "FROM account WHERE number_hash = ?",
        (number_hash,),
    ).fetchone()
    if row is None or account_state(row[1], row[2], today) != "active" or (row[4] and not proven):
        raise UnknownCredential(UNKNOWN)
    return Account(row[0], row[3])


def _named(connection: Executes, credential: DeviceCredential) -> str:
    """Return the name of the device with this credential."""
    row = connection.execute(
        "SELECT name, token_hash FROM device WHERE account_id = ? AND id = ?", credential[:2]
    ).fetchone()
    if row is None or not hmac.compare_digest(row[1], credential.secret_hash):
        raise UnknownCredential(UNKNOWN)
    name: str = row[0]
    return name


def _delete(transaction: Transaction, account_id: bytes, id: bytes, hour: int) -> None:
    _revoke(transaction, "account_id = ? AND device_id = ?", (account_id, id), hour)
    transaction.execute("DELETE FROM device WHERE account_id = ? AND id = ?", (account_id, id))


def _revoke(transaction: Transaction, whose: str, place: tuple[bytes, ...], hour: int) -> None:
    remove(
        transaction,
        transaction.execute(
            f"DELETE FROM key WHERE {whose} RETURNING public_key, address4, address6",  # noqa: S608
            place,
        ).fetchall(),
        hour,
    )


def remove(transaction: Transaction, gone: Iterable[tuple[bytes, bytes, bytes]], hour: int) -> None:
    """Note that keys were deleted, with these addresses: gateways are told, and addresses rest."""
    for public_key, address4, address6 in gone:
        rest(transaction, address4, hour)
        rest(transaction, address6, hour)
        transaction.remove(public_key)


def _keys(connection: sqlite3.Connection, account_id: bytes, device_id: bytes) -> list[Key]:
    rows = connection.execute(
        "SELECT standing, public_key, address4, address6, preshared_key FROM key "
        "WHERE account_id = ? AND device_id = ? AND standing != 'retired' ORDER BY public_key",
        (account_id, device_id),
    )
    return [Key(TunnelPeer(b"".join(parts)), standing) for standing, *parts in rows]
