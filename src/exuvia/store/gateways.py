"""Gateways that were enrolled. Operations of the writer, questions to a reader."""

import sqlite3
from dataclasses import dataclass

from exuvia.errors import AlreadyExists, KeyRefused, NotFound
from exuvia.rules.overlap import KEY_REFUSED
from exuvia.store.writer import Transaction
from exuvia.wg.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Gateway:
    """An enrolled gateway; `public_key` is None until it first connects."""

    name: str
    token_hash: bytes
    endpoint: str
    country: str | None
    city: str | None
    dns: str | None
    public_key: PublicKey | None = None
    lasting: bool = False
    ahead: bool = False


def enroll(transaction: Transaction, gateway: Gateway) -> None:
    """Add a gateway; AlreadyExists if there is one of that name."""
    if transaction.execute("SELECT 1 FROM gateway WHERE name = ?", (gateway.name,)).fetchone() is not None:
        raise AlreadyExists("a gateway of this name is enrolled already")
    transaction.execute(
        "INSERT INTO gateway (name, token_hash, endpoint, country, city, dns, lasting, ahead) "
        "VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
        (gateway.name, gateway.token_hash, gateway.endpoint, gateway.country, gateway.city, gateway.dns),
    )


def retire(transaction: Transaction, name: str) -> bytes:
    """Remove a gateway, and return the hash of its token, which opens nothing any more."""
    before = _token_hash(transaction, name)
    transaction.execute("DELETE FROM gateway WHERE name = ?", (name,))
    return before


def replace_token(transaction: Transaction, name: str, token_hash: bytes) -> bytes:
    """Give a gateway another token, and return the hash of the one that it had."""
    before = _token_hash(transaction, name)
    transaction.execute("UPDATE gateway SET token_hash = ? WHERE name = ?", (token_hash, name))
    return before


def present(transaction: Transaction, name: str, public_key: PublicKey, *, lasting: bool) -> None:
    """Note the key that a gateway has now; KeyRefused if a device or another gateway has it."""
    row = transaction.execute(
        "SELECT EXISTS (SELECT 1 FROM key WHERE public_key = ?1) "
        "OR EXISTS (SELECT 1 FROM gateway WHERE public_key = ?1 AND name != ?2)",
        (public_key, name),
    ).fetchone()
    if row[0]:
        raise KeyRefused(KEY_REFUSED)
    transaction.execute(
        "UPDATE gateway SET public_key = ?, lasting = ? WHERE name = ?", (public_key, lasting, name)
    )


def mark_ahead(transaction: Transaction, name: str) -> None:
    """Note that a gateway was told more, in this epoch, than this database knows."""
    transaction.execute("UPDATE gateway SET ahead = 1 WHERE name = ?", (name,))


def enrolled(connection: sqlite3.Connection | Transaction) -> list[Gateway]:
    """Return all gateways."""
    rows = connection.execute(
        "SELECT name, token_hash, endpoint, country, city, dns, public_key, lasting, ahead "
        "FROM gateway ORDER BY name"
    )
    return [_gateway(row) for row in rows]


def _token_hash(transaction: Transaction, name: str) -> bytes:
    row = transaction.execute("SELECT token_hash FROM gateway WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound("there is no gateway of this name")
    token_hash: bytes = row[0]
    return token_hash


def _gateway(row: sqlite3.Row) -> Gateway:
    name, token_hash, endpoint, country, city, dns, public_key, lasting, ahead = row
    key = None if public_key is None else PublicKey(public_key)
    return Gateway(name, token_hash, endpoint, country, city, dns, key, bool(lasting), bool(ahead))
