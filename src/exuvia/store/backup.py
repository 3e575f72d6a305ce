"""
What a backup holds: who may register devices, who is registered, and the gateways.

Never a key of a device, a tunnel address or anything else that says what somebody has now: a
database that is made of it begins a new epoch with an empty peer table.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from exuvia.errors import BackupRefused, InvalidConfiguration
from exuvia.store import database
from exuvia.store.migrate import migrations, steps_taken

KEPT = ("account", "device", "second_factor", "gateway")
"""Tables that a backup holds whole, in the order in which their rows can be put in."""

LEFT_OUT = {
    "migration": "said by the beginning",
    "meta": "only the pools and the hour, said by the beginning; a restored database has its own epoch",
    "key": "devices register others on their next contact",
    "change": "changes of a peer table that is not there",
    "resting": "addresses; see docs/known-limits.md",
    "billing": "said by the settings of `exuvia serve` at each start",
    "outbox": "accounts that are gone",
}
"""Tables that it does not hold, and why."""

_UNKNOWN = "the backup holds something that this version of exuvia does not know"
_AT_ONCE = 2000
"""Rows in one part: some 200 KiB."""


class Begin(msgspec.Struct, tag=True, frozen=True):
    """What the database was, and the key of its keyed hashes."""

    steps: dict[int, str]
    """Migrations that had been taken, with their checksums."""
    hash_key: bytes
    pool4: str | None
    pool6: str | None
    clock_hour: int


class Rows(msgspec.Struct, tag=True, frozen=True):
    """Some rows of a table."""

    table: str
    columns: list[str]
    rows: list[list[Any]]


class End(msgspec.Struct, tag=True, frozen=True):
    """How many rows of each table have come."""

    counts: dict[str, int]


Part = Begin | Rows | End
_decode = msgspec.msgpack.Decoder(Part).decode
_encode = msgspec.msgpack.Encoder().encode


@contextlib.contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Look at the database as it is at this moment, whether or not somebody serves it meanwhile."""
    if not path.is_file():
        raise InvalidConfiguration(f"{path}: there is no database")
    try:
        with contextlib.closing(database.reader(path)) as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise database.unavailable(error) from None


def parts(connection: sqlite3.Connection, hash_key: bytes) -> Iterator[Part]:
    """Yield what a backup of this database holds."""
    steps = steps_taken(connection, migrations())
    pool4, pool6, clock_hour = connection.execute("SELECT pool4, pool6, clock_hour FROM meta").fetchone()
    yield Begin(steps, hash_key, pool4, pool6, clock_hour)
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    counts = dict.fromkeys(KEPT, 0)
    for table in KEPT:
        # A database that was not yet brought up to date has fewer tables.
        for rows in _rows(connection, table) if table in there else ():
            counts[table] += len(rows.rows)
            yield rows
    yield End(counts)


def encoded(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield parts as bytes."""
    return map(_encode, parts)


def decoded(parts: Iterable[bytes]) -> Iterator[Part]:
    """Yield parts from bytes; BackupRefused where they are none."""
    for part in parts:
        try:
            yield _decode(part)
        except msgspec.MsgspecError:
            raise BackupRefused(_UNKNOWN) from None


def checked(parts: Iterable[Part]) -> End:
    """Go through all of a backup; return its end, or raise BackupRefused if anything is not as it must be."""
    counts = dict.fromkeys(KEPT, 0)
    known = {step.number: step.checksum() for step in migrations()}
    rest = iter(parts)
    first, last = next(rest, None), None
    if not isinstance(first, Begin):
        raise BackupRefused("the backup has no beginning")
    if not first.steps.items() <= known.items():
        raise BackupRefused("the backup was made by a newer version of exuvia: install that version")
    for last in rest:
        if isinstance(last, Rows) and last.table in counts:
            counts[last.table] += len(last.rows)
    if not isinstance(last, End) or last.counts != counts:
        raise BackupRefused("the backup does not hold what it says")
    return last


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[Rows]:
    found = connection.execute(f"SELECT * FROM {table}")  # noqa: S608
    columns = [column[0] for column in found.description]
    while rows := found.fetchmany(_AT_ONCE):
        yield Rows(table, columns, [list(row) for row in rows])


def fill(connection: sqlite3.Connection, parts: Iterable[Part]) -> None:
    """Put the rows of a backup into a database that has the schema of its beginning."""
    for part in parts:
        if isinstance(part, Rows):
            _insert(connection, part)
    connection.execute("UPDATE gateway SET ahead = 0")
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise BackupRefused("the backup holds devices without their account")


def _insert(connection: sqlite3.Connection, part: Rows) -> None:
    found = connection.execute("SELECT name FROM pragma_table_info(?)", (part.table,)).fetchall()
    if part.table not in KEPT or not set(part.columns) <= {name for (name,) in found}:
        raise BackupRefused(_UNKNOWN)
    places = ", ".join("?" * len(part.columns))
    connection.executemany(
        f"INSERT INTO {part.table} ({', '.join(part.columns)}) VALUES ({places})",  # noqa: S608
        part.rows,
    )
