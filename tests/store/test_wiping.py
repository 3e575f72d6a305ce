"""What secure_delete leaves is cleared under the database's feet, and the database never notices."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from exuvia.store import database, wiping
from exuvia.store.migrate import migrate, migrations
from exuvia.store.wiping import Wiped, Wiper, truncate_log, unused
from sqlite_pages import PAGE, strays

ACCOUNT = (b"a" * 16, b"n" * 32)
TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"


class Busy:
    """A database in which rows come and go."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        self.chance = Random(seed)
        path.touch()
        self.wiper = Wiper(path)
        self.connection = database.writer(path)
        migrate(self.connection, migrations())
        # Nobody cuts the power here.
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.execute("INSERT OR IGNORE INTO account VALUES (?, ?, 'active', NULL, 5)", ACCOUNT)
        self.keys = [key for (key,) in self.connection.execute("SELECT public_key FROM key")]

    def close(self) -> None:
        """Close it, the wiper last."""
        self.connection.close()
        self.wiper.close()

    def churn(self, add: int, drop: int) -> None:
        """Add devices with keys, and drop others, some at a time."""
        for _ in range(add // 50):
            self.connection.execute("BEGIN IMMEDIATE")
            for _ in range(50):
                self.add()
            self.connection.execute("COMMIT")
        self.chance.shuffle(self.keys)
        for _ in range(drop // 10):
            self.connection.execute("BEGIN IMMEDIATE")
            for _ in range(10):
                self._drop(self.keys.pop())
            self.connection.execute("COMMIT")

    def add(self) -> None:
        """Add a device with a key."""
        random = self.chance.randbytes
        key, device = random(32), random(16)
        row = (ACCOUNT[0], device, "quiet otter", random(32))
        self.connection.execute("INSERT INTO device VALUES (?, ?, ?, ?)", row)
        row = (key, ACCOUNT[0], device, random(4), random(16), random(32))
        self.connection.execute("INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, 'current', NULL)", row)
        self.keys.append(key)

    def _drop(self, key: bytes) -> None:
        found = self.connection.execute("DELETE FROM key WHERE public_key = ? RETURNING device_id", (key,))
        self.connection.execute("DELETE FROM device WHERE id = ?", found.fetchone())

    def change_in_place(self) -> None:
        """Write every page with keys anew, without moving any row."""
        for key in self.keys:
            psk = self.chance.randbytes(32)
            self.connection.execute("UPDATE key SET preshared_key = ? WHERE public_key = ?", (psk, key))

    def wipe(self) -> int:
        """Clear all; return in how many steps."""
        step = self.wiper.clearing()
        for steps in range(1, 10_000):
            if (done := step(self.connection)) is Wiped.ALL:
                return steps
            assert done is Wiped.SOME
        raise AssertionError("it never ends")

    def strays(self) -> dict[int, bytes]:
        """Return what is in the file and nowhere; it is not opened for that, and so not closed."""
        return strays(os.pread(self.wiper._descriptor, 1 << 30, 0))

    def put_rubbish(self) -> None:
        """Give every page something to be cleared, as if much had come and gone; no file is closed."""
        data = os.pread(self.wiper._descriptor, 1 << 30, 0)
        for at in range(0, len(data), PAGE):
            begin, end = unused(data, at, PAGE, 100 if at == 0 else 0)
            os.pwrite(self.wiper._descriptor, b"\xa5" * (end - begin), begin)
        self.connection.execute("PRAGMA shrink_memory")

    def content(self) -> list[object]:
        """Return all rows of all tables."""
        tables = [name for (name,) in self.connection.execute(TABLES)]
        return [self.connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]

    def assert_whole(self) -> None:
        """Let SQLite check everything."""
        assert self.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Busy]:
    """A database that has seen a lot, in whose pages something is left of it."""
    with contextlib.closing(Busy(tmp_path / "x.db")) as opened:
        opened.churn(2000, 1700)
        assert truncate_log(opened.connection)
        assert opened.strays()
        yield opened


@pytest.mark.parametrize("seed", range(6))
def test_p14_every_byte_of_the_file_is_in_use_or_zero(tmp_path: Path, seed: int) -> None:
    """Whatever came and went before: nothing is left between what the pages lead to; no row is changed."""
    with contextlib.closing(Busy(tmp_path / "x.db", seed)) as busy:
        for round in range(3):
            busy.churn(700, 500 if round else 650)
            before = busy.content()
            busy.wipe()

            assert busy.strays() == {}
            assert busy.path.with_name("x.db-wal").stat().st_size == 0
            assert busy.content() == before
            busy.assert_whole()


def test_p14_pages_in_memory_do_not_bring_it_back(busy: Busy) -> None:
    """What SQLite remembers of pages has the leftovers too: it forgets them as well."""
    busy.wipe()
    busy.change_in_place()
    assert truncate_log(busy.connection)

    assert busy.strays() == {}


def test_what_is_cleared_is_never_read(busy: Busy) -> None:
    """With rubbish instead of zeros nothing is different, now or later: so it can be cut short anywhere."""
    before = busy.content()
    busy.put_rubbish()

    assert busy.content() == before
    busy.assert_whole()
    busy.churn(1000, 900)
    busy.assert_whole()
    busy.wipe()
    assert busy.strays() == {}


def test_nobody_is_held_up_for_long(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed between its steps stays; what was left before the first is gone after the last."""
    monkeypatch.setattr(wiping, "_STALL", 0.0)
    monkeypatch.setattr(wiping, "_PAGES_AT_ONCE", 1)
    gone = set(busy.strays().values())
    step, steps = busy.wiper.clearing(), 0
    while step(busy.connection) is Wiped.SOME:
        steps += 1
        busy.change_in_place() if steps % 20 == 0 else busy.add()
    assert truncate_log(busy.connection)

    assert steps > 50
    assert not gone & set(busy.strays().values())
    busy.assert_whole()


def test_while_somebody_reads_it_waits(busy: Busy) -> None:
    """As long as somebody needs what is in the WAL only, nothing is cleared."""
    reader = database.reader(busy.path)
    busy.add()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM key").fetchone()
    busy.add()
    step = busy.wiper.clearing()
    assert step(busy.connection) is Wiped.BUSY
    assert busy.strays()
    reader.execute("COMMIT")

    assert step(busy.connection) is Wiped.ALL
    assert busy.strays() == {}
    reader.close()


def test_readers_see_the_same_all_the_time(busy: Busy) -> None:
    """Somebody who reads while pages are cleared, from the file itself, finds every row."""
    expected = busy.connection.execute("SELECT * FROM key").fetchall()
    stop, wrong = threading.Event(), list[str]()

    def read() -> None:
        while not stop.is_set():
            with contextlib.closing(database.reader(busy.path)) as reader:
                if reader.execute("SELECT * FROM key").fetchall() != expected:
                    wrong.append("another table")
                if reader.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                    wrong.append("a page that can't be read")

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(30):
        busy.put_rubbish()
        busy.wipe()
    stop.set()
    thread.join()

    assert wrong == []
    assert busy.strays() == {}


OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
print(connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0])
"""


def test_the_locks_of_the_database_stay(busy: Busy) -> None:
    """Another process finds it in use before and after: no descriptor of it was closed."""
    found = []
    for _ in range(2):
        other = subprocess.run([sys.executable, "-c", OTHER, str(busy.path)], capture_output=True, text=True)
        found.append("database is locked" in other.stderr)
        busy.wipe()

    assert found == [True, True]


WORKER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_wiping import Busy
busy = Busy(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    busy.churn(50, 40)
    busy.put_rubbish()
    busy.wipe()
"""


def test_killed_at_any_moment_the_database_is_whole(tmp_path: Path) -> None:
    """kill -9 in the midst of writing and clearing, again and again: no page is broken, no row half there."""
    path, folders = tmp_path / "x.db", [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    for kill in range(6):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), *folders], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.04 * kill)
        worker.kill()
        worker.communicate()
        with contextlib.closing(Busy(path)) as busy:
            busy.assert_whole()
            assert busy.connection.execute("SELECT count(*) FROM device").fetchone() == (len(busy.keys),)
            busy.wipe()
            assert busy.strays() == {}


def test_nobody_writes_meanwhile(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants to write while pages are cleared has to wait."""
    other = sqlite3.connect(busy.path, timeout=0, isolation_level=None)
    said = []

    def try_to_write(_self: object, _page_size: int) -> bool:
        with pytest.raises(sqlite3.OperationalError) as refused:
            other.execute("INSERT INTO resting VALUES (x'0a000001', 7)")
        said.append(str(refused.value))
        return False

    monkeypatch.setattr(wiping._Clearing, "_go_on", try_to_write)
    assert busy.wiper.clearing()(busy.connection) is Wiped.ALL
    assert said == ["database is locked"]
    other.execute("INSERT INTO resting VALUES (x'0a000001', 7)")
    other.close()
