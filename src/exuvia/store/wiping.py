"""
Clearing what secure_delete leaves: the unused middle of the database's pages.

When SQLite balances a b-tree it writes pages anew from their cells. What was in the middle of
a page before, between the cell pointers and the cells, stays there: copies of rows that have
moved, and may have been deleted since. SQLite never reads these bytes, and never copies them
to another page, so they can be cleared in place: whenever that stops, the file is as good.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from struct import unpack_from

_STALL = 0.02
"""Seconds that the writer is held up by one step."""
_PAGES_AT_ONCE = 256
_FIRST_PAGE_HEADER = 100  # the file's own header comes before the first page's
_HEADER_LENGTHS = {2: 12, 5: 12, 10: 8, 13: 8}  # by the kind of b-tree page; sqlite.org/fileformat2.html


class Wiped(Enum):
    """How far it has come."""

    BUSY = "somebody is reading what is not in the file yet"
    SOME = "there are more pages"
    ALL = "every page was seen"


Step = Callable[[sqlite3.Connection], Wiped]


class Wiper:
    """
    Clears the file that a connection writes, in steps that hold up nobody for long.

    It keeps the file open until after the connection is closed: POSIX locks are a process's, and
    closing any descriptor of a file gives up all of them, SQLite's own included.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._log = path.with_name(path.name + "-wal")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def clearing(self) -> Step:
        """
        Return a step to repeat until ALL: then nothing is left of what was deleted before the first.

        What is deleted between steps may be missed.
        """
        return _Clearing(self._descriptor, self._log).step


class _Clearing:
    """One way through the file."""

    def __init__(self, descriptor: int, log: Path) -> None:
        self._descriptor = descriptor
        self._log = log
        self._at = 0

    def step(self, connection: sqlite3.Connection) -> Wiped:
        """
        Empty the WAL, and clear the next pages of the file.

        With an empty WAL, and the right to write held, nobody can change a page meanwhile.
        """
        if not truncate_log(connection):
            return Wiped.BUSY
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._log.stat().st_size:
                return Wiped.BUSY
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            more = self._go_on(page_size)
        finally:
            connection.execute("ROLLBACK")
            # Pages in memory still have what was cleared, and would be written with it.
            connection.execute("PRAGMA shrink_memory")
        return Wiped.SOME if more else Wiped.ALL

    def _go_on(self, page_size: int) -> bool:
        """Clear pages as long as the time allows; return whether there are more."""
        until, size = time.monotonic() + _STALL, os.fstat(self._descriptor).st_size
        cleared = False
        while self._at < size:
            chunk = os.pread(self._descriptor, page_size * _PAGES_AT_ONCE, self._at)
            cleared |= self._clear(chunk, self._at, page_size)
            self._at += len(chunk)
            if time.monotonic() > until:
                break
        if cleared:
            os.fsync(self._descriptor)
        return self._at < size

    def _clear(self, chunk: bytes, start: int, page_size: int) -> bool:
        cleared = False
        for at in range(0, len(chunk) - page_size + 1, page_size):
            begin, end = unused(chunk, at, page_size, _FIRST_PAGE_HEADER if start + at == 0 else 0)
            if chunk.count(0, begin, end) != end - begin:
                os.pwrite(self._descriptor, bytes(end - begin), start + begin)
                cleared = True
        return cleared


def unused(data: bytes, at: int, page_size: int, header: int) -> tuple[int, int]:
    """
    Return where the unused middle of the page at `at` begins and ends; nowhere if it has none.

    Other pages than those of b-trees begin with a page number, whose first byte is 0 in files
    of up to 128 GiB, or are empty.
    """
    length = _HEADER_LENGTHS.get(data[at + header])
    if length is None:
        return at, at
    cells, content = unpack_from(">HH", data, at + header + 3)
    begin = at + header + length + 2 * cells
    end = at + content
    return (begin, end) if begin <= end <= at + page_size else (at, at)


def truncate_log(connection: sqlite3.Connection) -> bool:
    """Bring the database file up to date and empty the WAL; False, at once, if somebody is reading."""
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        busy, _log, _done = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")
    return not busy
