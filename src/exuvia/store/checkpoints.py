"""
Bringing the database file up to date beside the writer, who would hold up everybody meanwhile.

With a million keys each registration touches pages of its own, and a checkpoint by the writer
takes a tenth of a second every few commits.
"""

import contextlib
import sqlite3
import threading
from pathlib import Path

from exuvia.store import database

_EVERY = 500
"""Rows written between two checkpoints: some 4 MiB of the WAL, if each is on pages of its own."""
_PAUSE = 0.02
"""Seconds between two, in which the writer can finish one himself, so that the WAL begins anew."""


class Checkpoints:
    """A thread that copies pages from the WAL to the file, whenever enough was written."""

    def __init__(self, path: Path) -> None:
        self._connection = database.checkpointer(path)
        self._noted = 0
        self._wanted, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="exuvia-checkpoints", daemon=True)
        self._thread.start()

    def note(self, rows_written: int) -> None:
        """Note how many rows were written by now; called by the writer after each commit."""
        if rows_written - self._noted >= _EVERY:
            self._noted = rows_written
            self._wanted.set()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._wanted.set()
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while self._wanted.wait() and not self._stop.is_set():
            self._wanted.clear()
            # What can't be done now is done later: here, by the writer, or by the next erasure.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._stop.wait(_PAUSE)
