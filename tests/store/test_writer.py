"""The one writer: groups, answers, and what one failure does to the others."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exuvia.errors import NotFound, StoreUnavailable
from exuvia.store import database, writer
from exuvia.store.migrate import migrate, migrations
from exuvia.store.writer import Committed, Transaction, Writer
from exuvia.wg.peers import TunnelPeer


class Bench:
    """A writer, what it committed, and a look at the database from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits: list[Committed] = []
        self.connection = database.writer(path)
        migrate(self.connection, migrations())
        self.connection.execute("INSERT INTO meta VALUES (1, 'e', 0, x'00', NULL, NULL, 0)")
        self.writer = Writer(self.connection, self.commits.append)
        self.outside = database.reader(path)

    def hours(self) -> list[int]:
        """What an operation of these tests has left, as somebody else sees it."""
        return [hour for (hour,) in self.outside.execute("SELECT hour FROM resting ORDER BY hour")]

    async def blocked(self) -> threading.Event:
        """Hold the writer up, so that what comes next is done as one group; set the event to go on."""
        go_on, began = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait(_connection: sqlite3.Connection) -> None:
            loop.call_soon_threadsafe(began.set)
            go_on.wait(10)

        self.waiting = asyncio.ensure_future(self.writer.run_alone(wait))
        await began.wait()
        return go_on


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A writer on a fresh database."""
    bench = Bench(tmp_path / "x.db")
    yield bench
    await bench.writer.close()
    bench.connection.close()
    bench.outside.close()


def note(transaction: Transaction, hour: int) -> int:
    """Write something that can be seen."""
    transaction.execute("INSERT INTO resting VALUES (?, ?)", (hour.to_bytes(4, "big"), hour))
    return hour


def peer(number: int) -> TunnelPeer:
    """Return a peer that differs from all others."""
    return TunnelPeer(number.to_bytes(32, "big") + bytes(52))


async def test_an_answer_is_given_when_others_can_see_what_was_done(bench: Bench) -> None:
    """Once an operation is answered, its effects are committed."""
    assert await bench.writer.run(lambda transaction: note(transaction, 7)) == 7
    assert bench.hours() == [7]


async def test_what_waits_is_committed_together(bench: Bench) -> None:
    """A hundred operations that wait take one commit, and their changes one message."""
    go_on = await bench.blocked()
    waiting = [asyncio.ensure_future(bench.writer.run(lambda t, n=n: t.put(peer(n)))) for n in range(1, 101)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*waiting)

    assert [(c.after, c.revision, len(c.put)) for c in bench.commits] == [(0, 100, 100)]


async def test_what_runs_apart_has_a_commit_of_its_own(bench: Bench) -> None:
    """Whatever waits before and after it, gateways are told of it by itself, and in its turn."""
    go_on = await bench.blocked()
    asked = [bench.writer.run, bench.writer.run, bench.writer.run_apart, bench.writer.run, bench.writer.run]
    waiting = [asyncio.ensure_future(run(lambda t, n=n: t.put(peer(n)))) for n, run in enumerate(asked, 1)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*waiting)

    assert [commit.put for commit in bench.commits] == [
        [peer(1), peer(2)],
        [peer(3)],
        [peer(4), peer(5)],
    ]


async def test_a_refusal_leaves_its_group_alone(bench: Bench) -> None:
    """Whoever is refused is told; the others are done, in the same commit."""

    def refuse(_transaction: Transaction) -> None:
        raise NotFound("not here")

    go_on = await bench.blocked()
    first, refused, last = (
        asyncio.ensure_future(bench.writer.run(operation))
        for operation in (lambda t: note(t, 1), refuse, lambda t: note(t, 2))
    )
    await asyncio.sleep(0)
    go_on.set()
    done = await asyncio.gather(first, refused, last, return_exceptions=True)

    assert [type(result) for result in done] == [int, NotFound, int]
    assert bench.hours() == [1, 2]


@pytest.mark.parametrize("error", [NotFound("late"), ValueError("bug"), sqlite3.IntegrityError("UNIQUE")])
async def test_what_fails_after_writing_is_undone_alone(bench: Bench, error: Exception) -> None:
    """An operation that writes and then fails leaves nothing; the others are done again without it."""

    def fail_late(transaction: Transaction) -> None:
        note(transaction, 66)
        transaction.put(peer(66))
        raise error

    go_on = await bench.blocked()
    waiting = [
        asyncio.ensure_future(bench.writer.run(operation))
        for operation in (lambda t: note(t, 1), fail_late, lambda t: (note(t, 2), t.put(peer(2))))
    ]
    await asyncio.sleep(0)
    go_on.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)

    assert [isinstance(result, Exception) for result in done] == [False, True, False]
    assert bench.hours() == [1, 2]
    assert [(c.after, c.revision, c.put) for c in bench.commits] == [(0, 1, [peer(2)])]


async def test_a_database_fault_fails_the_whole_group_and_passes(bench: Bench) -> None:
    """When SQLite can't write, the whole group hears so, nothing is half done, and the next one works."""
    bench.connection.execute("PRAGMA query_only = ON")  # SQLite itself then says: readonly
    with pytest.raises(StoreUnavailable, match="SQLITE_READONLY"):
        await bench.writer.run(lambda t: note(t, 1))
    bench.connection.execute("PRAGMA query_only = OFF")

    assert await bench.writer.run(lambda t: note(t, 2)) == 2
    assert bench.hours() == [2]


async def test_commits_are_told_in_order_and_before_answers(bench: Bench) -> None:
    """Each commit begins where the one before it ended, and is told before anybody is answered."""
    seen = []

    async def one(number: int) -> None:
        await bench.writer.run(lambda t: t.put(peer(number)))
        seen.append(bench.commits[-1].revision)

    for number in range(1, 21):
        await one(number)

    assert [(c.after, c.revision) for c in bench.commits] == [(n, n + 1) for n in range(20)]
    assert seen == list(range(1, 21))


async def test_changes_of_one_commit_come_in_the_order_of_their_bytes(bench: Bench) -> None:
    """Nobody can tell from a message who came first; a peer that came and went is only gone."""

    def many(transaction: Transaction) -> None:
        for number in (9, 3, 7, 1):
            transaction.put(peer(number))
        transaction.remove(peer(3).public_key)

    await bench.writer.run(many)

    (commit,) = bench.commits
    assert commit.put == [peer(1), peer(7), peer(9)]
    assert commit.remove == [peer(3).public_key]
    assert commit.revision == 5


async def test_who_stops_waiting_does_not_disturb(bench: Bench) -> None:
    """A request that goes away before its answer is done all the same, and the writer goes on."""
    go_on = await bench.blocked()
    gone = asyncio.ensure_future(bench.writer.run(lambda t: note(t, 1)))
    await asyncio.sleep(0)
    gone.cancel()
    go_on.set()

    assert await bench.writer.run(lambda t: note(t, 2)) == 2
    assert bench.hours() == [1, 2]


async def test_too_long_a_queue_is_refused_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When more waits than can be written soon, new operations are told to come back later."""
    monkeypatch.setattr(writer, "LONGEST_QUEUE", 3)
    go_on = await bench.blocked()
    waiting = [asyncio.ensure_future(bench.writer.run(lambda t, n=n: note(t, n))) for n in range(6)]
    await asyncio.sleep(0)
    go_on.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)

    assert [isinstance(result, StoreUnavailable) for result in done] == [False] * 4 + [True] * 2


async def test_closing_finishes_what_waits(tmp_path: Path) -> None:
    """What was queued before the end is done and answered."""
    bench = Bench(tmp_path / "y.db")
    waiting = [asyncio.ensure_future(bench.writer.run(lambda t, n=n: note(t, n))) for n in range(5)]
    await asyncio.sleep(0)
    await bench.writer.close()

    assert await asyncio.gather(*waiting) == [0, 1, 2, 3, 4]
    bench.connection.close()
    bench.outside.close()
