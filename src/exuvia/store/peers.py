"""The peer table as gateways are told of it: whole, or what changed after a revision."""

import sqlite3
from dataclasses import dataclass

from exuvia.store.writer import Transaction
from exuvia.wg.peers import TunnelPeer

AT_ONCE = 1000
"""Rows that upkeep deletes in one go, so that nobody waits long for the writer."""

_PEER = "key.public_key, key.address4, key.address6, key.preshared_key"


@dataclass(frozen=True, slots=True)
class Position:
    """How far the database has come."""

    epoch: str
    revision: int


@dataclass(frozen=True, slots=True)
class Table:
    """The whole peer table at a position; `packed` is one peer after the other, ordered by key."""

    at: Position
    packed: bytes

    def __len__(self) -> int:
        return len(self.packed) // TunnelPeer.LENGTH


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two positions of the same epoch."""

    after: int
    at: Position
    put: list[bytes]
    remove: list[bytes]


def position(connection: sqlite3.Connection) -> Position:
    """Return how far the database has come."""
    return Position(*connection.execute("SELECT epoch, revision FROM meta").fetchone())


def table(connection: sqlite3.Connection) -> Table:
    """Return the whole peer table."""
    at = position(connection)
    rows = connection.execute(f"SELECT {_PEER} FROM key ORDER BY public_key")  # noqa: S608
    packed = bytearray()
    while some := rows.fetchmany(4096):
        packed += b"".join([part for row in some for part in row])
    return Table(at, bytes(packed))


def changes_after(connection: sqlite3.Connection, revision: int) -> Difference | None:
    """Return what changed after a revision, or None if that is no longer known."""
    at = position(connection)
    (known,) = connection.execute("SELECT count(*) FROM change WHERE revision > ?", (revision,)).fetchone()
    if known != at.revision - revision:
        return None
    rows = connection.execute(
        f"SELECT DISTINCT change.public_key, {_PEER} FROM change "  # noqa: S608
        "LEFT JOIN key USING (public_key) WHERE revision > ? ORDER BY change.public_key",
        (revision,),
    ).fetchall()
    put = [b"".join(row[1:]) for row in rows if row[2] is not None]
    remove = [row[0] for row in rows if row[2] is None]
    return Difference(revision, at, put, remove)


def forget_changes(transaction: Transaction, revision: int) -> bool:
    """Erase the memory of some changes up to a revision; return whether there are more."""
    (oldest,) = transaction.execute("SELECT min(revision) FROM change").fetchone()
    if oldest is None or oldest > revision:
        return False
    until = min(revision, oldest + AT_ONCE)
    transaction.execute("DELETE FROM change WHERE revision <= ?", (until,))
    return bool(until < revision)


def rest(transaction: Transaction, address: bytes, hour: int) -> None:
    """Keep an address from being drawn for a while; of whoever had it nothing is kept."""
    transaction.execute("INSERT OR REPLACE INTO resting (address, hour) VALUES (?, ?)", (address, hour))


def rested(connection: sqlite3.Connection, hour: int) -> list[bytes]:
    """Return some of the addresses that rest since this hour or earlier."""
    rows = connection.execute("SELECT address FROM resting WHERE hour <= ? LIMIT ?", (hour, AT_ONCE))
    return [address for (address,) in rows]


def wake(transaction: Transaction, addresses: list[bytes]) -> None:
    """Let addresses be drawn again."""
    for address in addresses:
        transaction.execute("DELETE FROM resting WHERE address = ?", (address,))


def counts(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many peers there are, and how many IPv4 addresses rest."""
    (keys,) = connection.execute("SELECT count(*) FROM key").fetchone()
    (resting,) = connection.execute("SELECT count(*) FROM resting WHERE length(address) = 4").fetchone()
    return keys, resting
