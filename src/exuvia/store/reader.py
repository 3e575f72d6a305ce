"""Reading, in threads of their own, so that nothing waits for the writer."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from exuvia.store import database

T = TypeVar("T")
_THREADS = 2  # so that a snapshot of a million peers does not hold up everybody's tokens


class Reader:
    """Runs questions against what is committed, each in a read transaction of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_THREADS, "exuvia-reader")
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def run(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the question returns; StoreUnavailable if the database has a fault."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)

    async def close(self) -> None:
        """Finish what was asked, and close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._opened:
            connection.close()

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return question(connection)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise database.unavailable(error) from None

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._own, "connection"):
            self._own.connection = database.reader(self._path)
            self._opened.append(self._own.connection)
        connection: sqlite3.Connection = self._own.connection
        return connection
