"""
The files beside the database, and how one is replaced so that a power cut leaves the old or the new.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from exuvia.errors import DatabaseInUse, InvalidConfiguration
from exuvia.store.credentials import KEY_LENGTH

UNFINISHED = ".restoring"
"""How the file ends in which a database is being made of a backup."""
_PRIVATE = 0o600


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file beside the database, such as PATH.key."""
    return path.with_name(path.name + suffix)


def replace(path: Path, content: bytes) -> None:
    """Write a private file whole, or not at all, and durably."""
    fresh = beside(path, ".new")
    with _private(fresh, os.O_TRUNC) as descriptor:
        os.write(descriptor, content)
        os.fsync(descriptor)
    fresh.replace(path)
    _sync_folder(path.parent)


def put(fresh: Path, path: Path) -> None:
    """Put a file that is complete in place of another, durably."""
    descriptor = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    _sync_folder(path.parent)


def touch(path: Path) -> None:
    """Make a private, empty file if there is none."""
    with _private(path, 0):
        pass


def hash_key(path: Path, *, fresh: bytes | None) -> bytes:
    """
    Return the key of the keyed hashes; `fresh` becomes it if the database is new.

    A database whose key is gone is refused: it would recognise no account number.
    """
    file = beside(path, ".key")
    if fresh is not None and not file.exists():
        replace(file, fresh)
    try:
        key = file.read_bytes()
    except FileNotFoundError:
        raise InvalidConfiguration(
            f"{file} is missing: no account can be recognised without it; put it back"
        ) from None
    if len(key) != KEY_LENGTH:
        raise InvalidConfiguration(f"{file} does not have {KEY_LENGTH} bytes: put the right one back")
    return key


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the database for this process alone; DatabaseInUse if another one does."""
    with _private(beside(path, ".lock"), 0) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseInUse(f"{path}: another exuvia process looks after this database") from None
        yield


@contextlib.contextmanager
def _private(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, _PRIVATE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
