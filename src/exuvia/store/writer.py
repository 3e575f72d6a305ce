"""
The one writer: operations queue, are committed in groups, and are answered when they are durable.

One commit costs one fsync whatever the number of operations in it, so the slower the disk,
the larger the groups.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from exuvia.errors import ExuviaError, StoreUnavailable
from exuvia.store import database
from exuvia.store.packed import Packed
from exuvia.wg.peers import TunnelPeer

T = TypeVar("T")
W = TypeVar("W")
LARGEST_GROUP = 256
LONGEST_QUEUE = 20_000
"""Operations that may wait; more are refused at once, rather than late."""


_CHANGE = Packed(public_key=32)
_INSERT_CHANGES = (
    f"{Packed.EACH} INSERT INTO change (revision, public_key) "  # noqa: S608
    f"SELECT ?3 + 1 + at.n, {_CHANGE.column('public_key')} FROM at"
)


@dataclass(frozen=True, slots=True)
class Committed:
    """How the peer table changed with one commit."""

    epoch: str
    after: int
    revision: int
    put: list[TunnelPeer]
    remove: list[bytes]


class Transaction:
    """What an operation works on: SQL, and the peer table whose changes get revisions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self.epoch, self.revision = connection.execute("SELECT epoch, revision FROM meta").fetchone()
        self._after: int = self.revision
        self._changes: list[bytes] = []
        self._table: dict[bytes, TunnelPeer | None] = {}

    def put(self, peer: TunnelPeer) -> None:
        """Note that a peer was added."""
        self._note(peer[:32], peer)

    def remove(self, public_key: bytes) -> None:
        """Note that a peer was removed."""
        self._note(public_key, None)

    def finish(self) -> Committed | None:
        """Write the changes and the revision they led to; None if there are none."""
        if not self._changes:
            return None
        self.execute(_INSERT_CHANGES, (b"".join(self._changes), len(self._changes), self._after))
        self.execute("UPDATE meta SET revision = ?", (self.revision,))
        # In the order of the keys' bytes: gateways learn nothing from who came first.
        put = sorted(peer for peer in self._table.values() if peer is not None)
        remove = sorted(key for key, peer in self._table.items() if peer is None)
        return Committed(self.epoch, self._after, self.revision, put, remove)

    def _note(self, public_key: bytes, peer: TunnelPeer | None) -> None:
        self.revision += 1
        self._changes.append(public_key)
        self._table[public_key] = peer


Operation = Callable[[Transaction], T]
ManyAtOnce = Callable[[Transaction, list[W]], list[T | ExuviaError]]
"""Does for many what an operation does for one; the answers are in the order of the wishes."""


class _Spoilt(Exception):
    """An operation failed after it had written; the others have to be done again without it."""


@dataclass(slots=True)
class _Job:
    """Something to do: in a transaction, mostly with others, or alone and outside of one."""

    answer: "asyncio.Future[Any]"
    operation: Operation[Any] | None = None
    many: ManyAtOnce[Any, Any] | None = None
    wish: Any = None
    alone: Callable[[sqlite3.Connection], Any] | None = None
    apart: bool = False
    """Whether its commit may hold nothing else."""
    result: Any = None
    error: BaseException | None = None


class Writer:
    """
    The thread that writes. `on_commit` is called in the event loop, in commit order, and
    before the answers of that commit are given; `note` in the thread, with the rows written so far.
    """

    rows_written = 0
    """By operations since the start; what runs alone does not count."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_commit: Callable[[Committed], None],
        note: Callable[[int], None] = lambda rows_written: None,
    ) -> None:
        self._connection = connection
        self._note = note
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._pending: deque[_Job | None] = deque()
        self._thread = threading.Thread(target=self._work, name="exuvia-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Operation[T]) -> T:
        """
        Return what the operation returns, once its effects are durable.

        An operation refuses before it writes; what it raises is raised here, and leaves the
        others of its group alone. StoreUnavailable: the database has a fault, nothing was done.
        """
        answer: asyncio.Future[T] = self._new_answer()
        self._jobs.put(_Job(answer, operation))
        return await answer

    async def run_apart(self, operation: Operation[T]) -> T:
        """Like run, in a commit that holds nothing else: gateways are told of it by itself."""
        answer: asyncio.Future[T] = self._new_answer()
        self._jobs.put(_Job(answer, operation, apart=True))
        return await answer

    async def run_with_others(self, many: ManyAtOnce[W, T], wish: W) -> T:
        """
        Like run, for what is asked so often that those who ask at the same time are served at once.

        Everybody who waits with the same `many` is served by one call of it.
        """
        answer: asyncio.Future[T] = self._new_answer()
        self._jobs.put(_Job(answer, many=many, wish=wish))
        return await answer

    async def run_alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the work returns, which is done between two groups."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(answer, alone=work))
        return await answer

    async def close(self) -> None:
        """Finish what is queued, and end the thread."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _new_answer(self) -> "asyncio.Future[Any]":
        if self._jobs.qsize() > LONGEST_QUEUE:
            raise StoreUnavailable("too much is waiting to be written")
        return self._loop.create_future()

    def _work(self) -> None:
        while (group := self._next_group()) is not None:
            commits = self._do_alone(group[0]) if group[0].alone else self._commit(group)
            self._loop.call_soon_threadsafe(self._answer, group, commits)

    def _next_group(self) -> list[_Job] | None:
        """Wait for work, and return what can be done together; None at the end."""
        if not self._pending:
            self._pending.append(self._jobs.get())
        while len(self._pending) < LARGEST_GROUP and not self._jobs.empty():
            self._pending.append(self._jobs.get())
        group: list[_Job] = []
        while self._pending and (job := self._pending[0]) is not None:
            by_itself = job.apart or job.alone is not None
            if by_itself and group:
                break
            group.append(job)
            self._pending.popleft()
            if by_itself:
                break
        return group or None

    def _do_alone(self, job: _Job) -> list[Committed]:
        assert job.alone is not None  # noqa: S101
        try:
            job.result = job.alone(self._connection)
        except Exception as error:
            self._roll_back()
            job.error = _translated(error)
        return []

    def _commit(self, group: list[_Job]) -> list[Committed]:
        """Do operations in one transaction; each job then has its result or its error."""
        try:
            committed = self._transact(group)
            return [committed] if committed else []
        except _Spoilt as spoilt:
            self._roll_back()
            if len(group) > 1:
                return [commit for job in group for commit in self._commit([job])]
            group[0].error = spoilt.__cause__
        except Exception as error:
            self._roll_back()
            for job in group:
                job.error = _translated(error)
        return []

    def _transact(self, group: list[_Job]) -> Committed | None:
        before = self._connection.total_changes
        self._connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(self._connection)
        for job in group:
            job.result = job.error = None
            if job.operation is not None:
                self._attempt(job, job.operation, transaction)
        for many in {job.many: None for job in group if job.many is not None}:
            self._attempt_many([job for job in group if job.many is many], many, transaction)
        committed = transaction.finish()
        self._connection.execute("COMMIT")
        self.rows_written += self._connection.total_changes - before
        self._note(self.rows_written)
        return committed

    def _attempt(self, job: _Job, operation: Operation[Any], transaction: Transaction) -> None:
        before = self._connection.total_changes, transaction.revision
        try:
            job.result = operation(transaction)
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            after = self._connection.total_changes, transaction.revision
            if after != before or not isinstance(error, ExuviaError):
                raise _Spoilt from error
            job.error = error

    def _attempt_many(self, jobs: list[_Job], many: ManyAtOnce[Any, Any], transaction: Transaction) -> None:
        try:
            answers = many(transaction, [job.wish for job in jobs])
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            raise _Spoilt from error
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, ExuviaError):
                job.error = answer
            else:
                job.result = answer

    def _roll_back(self) -> None:
        # Should this fail too, the next BEGIN will, and is answered the same way.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _answer(self, group: list[_Job], commits: list[Committed]) -> None:
        for committed in commits:
            self._on_commit(committed)
        for job in group:
            if job.answer.done():
                continue  # whoever asked has gone; what was done stays done
            if job.error is None:
                job.answer.set_result(job.result)
            else:
                job.answer.set_exception(job.error)


def _translated(error: Exception) -> Exception:
    return database.unavailable(error) if isinstance(error, sqlite3.Error) else error
