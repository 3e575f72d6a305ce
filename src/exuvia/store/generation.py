"""
Noticing that somebody put an older database file back.

The database and the file PATH.generation hold the same random value, drawn anew at start
and at every tick of erasure. A database put back has an older one. Before the database
changes, the file names both the old and the new value: a crash between leaves a pair that fits.
"""

import sqlite3
from pathlib import Path

from exuvia.errors import DatabaseRewound
from exuvia.rules.allocation import Bits
from exuvia.store import files

LENGTH = 16


def fresh(bits: Bits) -> bytes:
    """Return a random value."""
    return bits(8 * LENGTH).to_bytes(LENGTH, "big")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseRewound if the database is not the one that was last served."""
    (value,) = connection.execute("SELECT generation FROM meta").fetchone()
    if value not in _accepted(path):
        raise DatabaseRewound(
            "the database is not the one that was last served: an older copy was put back, or "
            f"{files.beside(path, '.generation').name} was lost. Devices and gateways may know more "
            "than it does. Put the latest one back, or run `exuvia serve … --new-epoch`: that keeps "
            "accounts, devices and gateways, drops all keys and addresses, and devices register anew"
        )


def renew(connection: sqlite3.Connection, path: Path, fresh: bytes) -> None:
    """Give database and file a fresh value; must not be called within a transaction."""
    (value,) = connection.execute("SELECT generation FROM meta").fetchone()
    announce(path, value, fresh)
    connection.execute("UPDATE meta SET generation = ?", (fresh,))
    settle(path, fresh)


def announce(path: Path, current: bytes, fresh: bytes) -> None:
    """Let the file accept both values, before the database takes the fresh one."""
    files.replace(files.beside(path, ".generation"), current + fresh)


def settle(path: Path, value: bytes) -> None:
    """Let the file accept this value alone."""
    files.replace(files.beside(path, ".generation"), value)


def announced(path: Path) -> bytes:
    """Return the values that the file accepts, one after the other; none if there is no file."""
    try:
        return files.beside(path, ".generation").read_bytes()
    except FileNotFoundError:
        return b""


def _accepted(path: Path) -> list[bytes]:
    content = announced(path)
    return [content[at : at + LENGTH] for at in range(0, len(content), LENGTH)]
