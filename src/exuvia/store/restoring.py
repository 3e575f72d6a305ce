"""
Making a database of a backup: beside its place, and put there in one step once it is whole.

Whenever that is interrupted, what was there before is there, or all of the new one.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from exuvia.errors import AlreadyExists, BackupRefused, InvalidConfiguration
from exuvia.rules.allocation import Bits
from exuvia.store import backup, database, files, generation, meta
from exuvia.store.backup import Begin, End, Part
from exuvia.store.credentials import KEY_LENGTH
from exuvia.store.migrate import migrate, migrations

Read = Callable[[], Iterator[Part]]
"""Goes through the backup from its beginning."""


def restore(path: Path, read: Read, *, replace: bool, bits: Bits) -> End:
    """
    Put a database made of a backup at a path, in an epoch of its own; return what it holds.

    All of the backup is checked before anything is written. A database that is there already is
    replaced only if that is wished, and only while nobody serves it.
    """
    end = backup.checked(read())
    hash_key = _begin(read()).hash_key
    _require_place(path, hash_key, replace=replace)
    with _faults_explained(path), files.lock(path):
        _require_place(path, hash_key, replace=replace)
        unfinished = files.beside(path, files.UNFINISHED)
        unfinished.unlink(missing_ok=True)
        try:
            fresh = generation.fresh(bits)
            _build(unfinished, read(), fresh, bits)
            _put(unfinished, path, hash_key, fresh)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    return end


def _begin(parts: Iterator[Part]) -> Begin:
    begin = next(parts, None)
    if not isinstance(begin, Begin) or len(begin.hash_key) != KEY_LENGTH:
        raise BackupRefused("the backup has no beginning")
    return begin


def _require_place(path: Path, hash_key: bytes, *, replace: bool) -> None:
    if not path.parent.is_dir():
        raise InvalidConfiguration(f"{path.parent}: there is no such folder")
    if _is_there(path) and not replace:
        raise AlreadyExists(
            f"{path}: there is a database already; if the backup is to take its place, stop "
            "`exuvia serve` and add --replace"
        )
    key = files.beside(path, ".key")
    if key.exists() and key.read_bytes() != hash_key:
        raise AlreadyExists(
            f"{key}: this is the key of another database than the backup's; move it away first, with "
            "the database that it belongs to"
        )


def _is_there(path: Path) -> bool:
    return path.exists() or files.beside(path, "-wal").exists()


def _build(path: Path, parts: Iterator[Part], fresh: bytes, bits: Bits) -> None:
    """Make the database as it was when the backup was made, and bring it up to date."""
    begin = _begin(parts)
    files.touch(path)
    with contextlib.closing(database.builder(path)) as connection:
        migrate(connection, [step for step in migrations() if step.number in begin.steps])
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO meta (one, epoch, revision, generation, pool4, pool6, clock_hour) "
            "VALUES (1, ?, 0, ?, ?, ?, ?)",
            (meta.fresh_epoch(bits), fresh, begin.pool4, begin.pool6, begin.clock_hour),
        )
        backup.fill(connection, parts)
        connection.execute("COMMIT")
        migrate(connection, migrations())


def _put(unfinished: Path, path: Path, hash_key: bytes, fresh: bytes) -> None:
    """Put a database in its place; until the last step the one that was there can be opened."""
    if _is_there(path):
        _forget_log(path)
    files.replace(files.beside(path, ".key"), hash_key)
    generation.announce(path, generation.announced(path), fresh)
    files.put(unfinished, path)
    generation.settle(path, fresh)


def _forget_log(path: Path) -> None:
    """Leave nothing that SQLite would take for the log of the database that comes."""
    # One that can't be read any more is what is being replaced.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(database.checkpointer(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    for suffix in ("-wal", "-shm"):
        files.beside(path, suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _faults_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidConfiguration(f"{path}: {os.strerror(error.errno or 0)}; nothing was restored") from None
    except sqlite3.IntegrityError:
        raise BackupRefused("the backup holds something twice") from None
    except sqlite3.Error as error:
        raise database.unavailable(error) from None
