"""How the database is opened: durable, and forgetting what is deleted."""

import sqlite3
from pathlib import Path

from exuvia.errors import StoreUnavailable

LOCK_PATIENCE = 0.5
"""Seconds to wait for a lock that another process holds; requests are answered within a second."""

_PAGE_BYTES = 4096
_CACHE_KIBIBYTES = 64 * 1024
_LONGEST_LOG = 64 * 1024 * 1024 // _PAGE_BYTES
"""Pages in the WAL at which the writer himself finishes a checkpoint, if store/checkpoints.py did not."""
_WRITER_SETTINGS = (
    f"PRAGMA page_size = {_PAGE_BYTES}",
    "PRAGMA auto_vacuum = NONE",  # store/wiping.py knows no pages of pointers
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # an answer means fsynced
    "PRAGMA secure_delete = ON",  # deleted bytes are overwritten, not only unlinked
    "PRAGMA temp_store = MEMORY",  # nothing is spilled into files that nobody erases
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG}",
    f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}",
)


def writer(path: Path) -> sqlite3.Connection:
    """Return the one connection that writes."""
    connection = _connect(path)
    for setting in _WRITER_SETTINGS:
        connection.execute(setting)
    return connection


def reader(path: Path) -> sqlite3.Connection:
    """Return a connection that can't write."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def builder(path: Path) -> sqlite3.Connection:
    """Return a connection that fills a new file: fast, and if it is interrupted the file is of no use."""
    connection = _connect(path)
    for setting in (*_WRITER_SETTINGS[:2], "PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"):
        connection.execute(setting)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def checkpointer(path: Path) -> sqlite3.Connection:
    """Return a connection that does nothing but bring the file up to date."""
    connection = _connect(path)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def unavailable(error: sqlite3.Error) -> StoreUnavailable:
    """Return what a fault of the database is called outside; the text tells which, and no data."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreUnavailable(f"the database can't be used at the moment ({name})")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=LOCK_PATIENCE, isolation_level=None, check_same_thread=False)
