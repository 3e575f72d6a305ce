"""A look at the control plane's database from outside, and at what is left in its files."""

import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from control_plane import spellings

WINDOW = 6

HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let another process hold the database's lock."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    yield
    other.communicate("\n", timeout=20)


def assert_consistent(path: Path) -> None:
    """Check that the database is whole: every device has its key, and each change its revision."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        counted = "SELECT (SELECT count(*) FROM device), (SELECT count(*) FROM key)"
        devices, keys = connection.execute(counted).fetchone()
        assert devices == keys
        ((lowest, highest, count),) = connection.execute(
            "SELECT min(revision), max(revision), count(*) FROM change"
        ).fetchall()
        (revision,) = connection.execute("SELECT revision FROM meta").fetchone()
        assert count == 0 or (highest, highest - lowest + 1) == (revision, count)
    finally:
        connection.close()


class Remains:
    """All that is in the files of a folder, so that many things can be looked for at once."""

    def __init__(self, folder: Path) -> None:
        data = b"".join(path.read_bytes() for path in sorted(folder.glob("control.db*")) if path.is_file())
        # Most of what was deleted is zeros now; nothing that is looked for holds eight in a row.
        self._parts = b"\xff\xff".join(part for part in re.split(b"\0{8,}", data) if part)
        self._windows = {self._parts[at : at + WINDOW] for at in range(len(self._parts))}

    def found(self, secrets: Iterable[bytes]) -> list[bytes]:
        """Return those of some secrets that are there in any spelling."""
        return [secret for secret in secrets if any(self._has(way) for way in spellings(secret))]

    def found_texts(self, texts: Iterable[str]) -> list[str]:
        """Return those of some texts that are there."""
        return [text for text in texts if self._has(text.encode())]

    def _has(self, needle: bytes) -> bool:
        return needle[:WINDOW] in self._windows and needle in self._parts
