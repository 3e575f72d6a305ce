"""Devices and their keys. Operations of the writer, questions to a reader."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from exuvia.errors import (
    AccountInactive,
    AddressPoolExhausted,
    DeviceLimitReached,
    KeyRefused,
    NotFound,
    UnknownCredential,
)
from exuvia.rules import allocation
from exuvia.rules.allocation import Bits, Pools
from exuvia.rules.expiry import account_state
from exuvia.rules.limits import has_room
from exuvia.rules.naming import draw_name
from exuvia.store.peers import rest
from exuvia.store.writer import Transaction
from exuvia.wg.keys import PresharedKey, PublicKey
from exuvia.wg.peers import TunnelPeer

ID_LENGTH = 16
UNKNOWN = "the credential is not accepted"
"""What is said of a credential, whatever is wrong with it."""
KEY_REFUSED = "this public key can't be registered"
"""What is said of a key that is malformed, a gateway's, or somebody else's: always the same."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration led to."""

    device_id: bytes
    name: str
    peer: TunnelPeer
    epoch: str
    revision: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device with its keys, and what its account may do."""

    id: bytes
    name: str
    peers: list[TunnelPeer]


@dataclass(frozen=True, slots=True)
class Registration:
    """A wish to register a device."""

    number_hash: bytes
    public_key: PublicKey
    token_hash: bytes
    today: str
    pools: Pools
    bits: Bits


def register(transaction: Transaction, wish: Registration) -> Registered:
    """
    Give the account a device with this key, or the same device a new token.

    The same key of the same account again is the same device: an answer that was lost can
    be asked for again.
    """
    account = _active_account(transaction, wish.number_hash, wish.today)
    known = _registered_before(transaction, account.id, wish)
    if known is not None:
        return known
    names = [
        name for (name,) in transaction.execute("SELECT name FROM device WHERE account_id = ?", (account.id,))
    ]
    if not has_room(len(names), account.device_limit):
        raise DeviceLimitReached("the account has as many devices as it may have: log one out first")
    if _is_taken(transaction, wish.public_key):
        raise KeyRefused(KEY_REFUSED)
    peer = TunnelPeer.pack(
        wish.public_key,
        _free_address4(transaction, wish),
        _free_address6(transaction, wish),
        PresharedKey(wish.bits(256).to_bytes(32, "big")),
    )
    id = wish.bits(8 * ID_LENGTH).to_bytes(ID_LENGTH, "big")
    name = draw_name(names, wish.bits)
    transaction.execute(
        "INSERT INTO device (id, account_id, name, token_hash) VALUES (?, ?, ?, ?)",
        (id, account.id, name, wish.token_hash),
    )
    _insert_key(transaction, id, peer)
    return Registered(id, name, peer, transaction.epoch, transaction.revision)


def of_account(connection: sqlite3.Connection, number_hash: bytes, *, today: str) -> list[Device]:
    """Return all devices of an account; UnknownCredential unless it is active."""
    account = _active_account(connection, number_hash, today)
    rows = connection.execute("SELECT id, name FROM device WHERE account_id = ? ORDER BY name", (account.id,))
    return [Device(id, name, _peers(connection, id)) for id, name in rows.fetchall()]


def by_token(connection: sqlite3.Connection, token_hash: bytes, *, today: str) -> Device:
    """Return the device with this token; AccountInactive if its account may do nothing today."""
    row = connection.execute(
        "SELECT device.id, name, state, expires FROM device JOIN account ON account.id = account_id "
        "WHERE token_hash = ?",
        (token_hash,),
    ).fetchone()
    if row is None:
        raise UnknownCredential(UNKNOWN)
    id, name, stored, expires = row
    state = account_state(stored, expires, today)
    if state != "active":
        raise AccountInactive(f"the account is {state}")
    return Device(id, name, _peers(connection, id))


def require(connection: sqlite3.Connection, *, token_hash: bytes, number_hash: bytes, today: str) -> None:
    """Raise UnknownCredential or AccountInactive unless a device's token or an account's number may act."""
    try:
        by_token(connection, token_hash, today=today)
    except UnknownCredential:
        _active_account(connection, number_hash, today)


def delete_own(transaction: Transaction, token_hash: bytes, *, hour: int) -> None:
    """Log out the device with this token, whatever its account may do otherwise."""
    row = transaction.execute("SELECT id FROM device WHERE token_hash = ?", (token_hash,)).fetchone()
    if row is None:
        raise UnknownCredential(UNKNOWN)
    _delete(transaction, row[0], hour)


def delete_of_account(
    transaction: Transaction, number_hash: bytes, id: bytes, *, today: str, hour: int
) -> None:
    """Delete a device of this account; NotFound if the account has no such device."""
    account = _active_account(transaction, number_hash, today)
    row = transaction.execute(
        "SELECT 1 FROM device WHERE id = ? AND account_id = ?", (id, account.id)
    ).fetchone()
    if row is None:
        raise NotFound("the account has no such device")
    _delete(transaction, id, hour)


def revoke_keys_of_account(transaction: Transaction, account_id: bytes, *, hour: int) -> None:
    """Remove all keys and addresses of an account, from the database and the peer table."""
    ids = transaction.execute("SELECT id FROM device WHERE account_id = ?", (account_id,)).fetchall()
    for (id,) in ids:
        _revoke_keys(transaction, id, hour)


@dataclass(frozen=True, slots=True)
class _Account:
    id: bytes
    device_limit: int


_Executes = Transaction | sqlite3.Connection


def _active_account(connection: _Executes, number_hash: bytes, today: str) -> _Account:
    row = connection.execute(
        "SELECT id, state, expires, device_limit FROM account WHERE number_hash = ?", (number_hash,)
    ).fetchone()
    if row is None or account_state(row[1], row[2], today) != "active":
        raise UnknownCredential(UNKNOWN)
    return _Account(row[0], row[3])


def _registered_before(transaction: Transaction, account_id: bytes, wish: Registration) -> Registered | None:
    row = transaction.execute(
        "SELECT device.id, name, address4, address6, preshared_key FROM key "
        "JOIN device ON device.id = device_id WHERE public_key = ? AND account_id = ?",
        (wish.public_key, account_id),
    ).fetchone()
    if row is None:
        return None
    id, name, address4, address6, preshared_key = row
    transaction.execute("UPDATE device SET token_hash = ? WHERE id = ?", (wish.token_hash, id))
    peer = TunnelPeer(wish.public_key + address4 + address6 + preshared_key)
    return Registered(id, name, peer, transaction.epoch, transaction.revision)


def _is_taken(transaction: Transaction, public_key: PublicKey) -> bool:
    row = transaction.execute(
        "SELECT EXISTS (SELECT 1 FROM key WHERE public_key = ?1) "
        "OR EXISTS (SELECT 1 FROM gateway WHERE public_key = ?1)",
        (public_key,),
    ).fetchone()
    return bool(row[0])


def _free_address4(transaction: Transaction, wish: Registration) -> IPv4Address:
    for _ in range(allocation.REDRAWS):
        address = allocation.draw4(wish.pools.pool4, wish.bits)
        if _is_free(transaction, "address4", address.packed):
            return address
    raise AddressPoolExhausted("the address pool is nearly full: try again later")


def _free_address6(transaction: Transaction, wish: Registration) -> IPv6Address:
    while True:
        address = allocation.draw6(wish.pools.pool6, wish.bits)
        if _is_free(transaction, "address6", address.packed):
            return address


def _is_free(transaction: Transaction, column: str, address: bytes) -> bool:
    row = transaction.execute(
        f"SELECT EXISTS (SELECT 1 FROM key WHERE {column} = ?1) "  # noqa: S608
        "OR EXISTS (SELECT 1 FROM resting WHERE address = ?1)",
        (address,),
    ).fetchone()
    return not row[0]


def _insert_key(transaction: Transaction, device_id: bytes, peer: TunnelPeer) -> None:
    transaction.execute(
        "INSERT INTO key (public_key, device_id, address4, address6, preshared_key) VALUES (?, ?, ?, ?, ?)",
        (peer[:32], device_id, peer[32:36], peer[36:52], peer[52:]),
    )
    transaction.put(peer)


def _delete(transaction: Transaction, id: bytes, hour: int) -> None:
    _revoke_keys(transaction, id, hour)
    transaction.execute("DELETE FROM device WHERE id = ?", (id,))


def _revoke_keys(transaction: Transaction, device_id: bytes, hour: int) -> None:
    gone = transaction.execute(
        "DELETE FROM key WHERE device_id = ? RETURNING public_key, address4, address6", (device_id,)
    ).fetchall()
    for public_key, address4, address6 in gone:
        rest(transaction, address4, hour)
        rest(transaction, address6, hour)
        transaction.remove(public_key)


def _peers(connection: sqlite3.Connection, device_id: bytes) -> list[TunnelPeer]:
    rows: Iterable[tuple[bytes, ...]] = connection.execute(
        "SELECT public_key, address4, address6, preshared_key FROM key "
        "WHERE device_id = ? ORDER BY public_key",
        (device_id,),
    )
    return [TunnelPeer(b"".join(row)) for row in rows]
