"""Checkpoints beside the writer: the file is brought up to date without holding anybody up."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from exuvia.store import store
from exuvia.store.store import Store, Wanted
from exuvia.store.writer import Transaction
from exuvia.system import entropy

NAME = "exuvia-checkpoints"


def opened(path: Path) -> AbstractAsyncContextManager[Store]:
    """Open a store."""
    return store.opened(path, Wanted(), bits=entropy.bits, on_commit=lambda _committed: None)


def rows(count: int) -> Callable[[Transaction], None]:
    """Return an operation that writes so many rows."""

    def write(transaction: Transaction) -> None:
        for _ in range(count):
            transaction.execute("INSERT INTO resting VALUES (?, 7)", (entropy.octets(16),))

    return write


def bytes_of(path: Path) -> int:
    """Return how long a file is."""
    return path.stat().st_size


async def grown(path: Path, size: int) -> bool:
    """Wait until the file has more than so many bytes, for at most 20 seconds."""
    for _ in range(2000):
        if bytes_of(path) > size:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_what_was_written_reaches_the_file_by_itself(tmp_path: Path) -> None:
    """Whenever enough was written, and all of it is there."""
    path = tmp_path / "x.db"
    async with opened(path) as database:
        assert await database.truncate_log()
        size = bytes_of(path)
        for _ in range(3):
            await database.writer.run(rows(700))
            assert await grown(path, size)
            size = bytes_of(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM resting").fetchone() == (2100,)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_the_thread_ends_with_the_store(tmp_path: Path) -> None:
    """Nothing of it is left, and no WAL either."""
    async with opened(tmp_path / "x.db") as database:
        await database.writer.run(rows(10))
        assert NAME in {thread.name for thread in threading.enumerate()}

    assert NAME not in {thread.name for thread in threading.enumerate()}
    assert not (tmp_path / "x.db-wal").exists()


async def test_an_erasure_gets_its_turn_under_load(tmp_path: Path) -> None:
    """While checkpoints go on all the time, the WAL can still be emptied."""
    async with opened(tmp_path / "x.db") as database:
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                await database.writer.run(rows(300))

        writing = asyncio.ensure_future(write())
        emptied = 0
        async with asyncio.timeout(30):
            while emptied < 5:
                emptied += await database.truncate_log()
                await asyncio.sleep(0.01)
        stop.set()
        await writing

    assert emptied == 5
