"""`exuvia gateway run` while its feed says what it should not, on a real kernel in virtual time."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exuvia.messages import Change, Heartbeat
from exuvia.rules.feed import Position
from exuvia.testing.feed import FakeFeed, lines, peer, snapshot, wait_until
from exuvia.testing.site import GatewayRun, Machine

Feed = Callable[[FakeFeed], bytes | int]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A gateway's machine whose feed answers."""
    made = Machine(tmp_path)
    try:
        with made.serving():
            yield made
    finally:
        made.close()


def following(machine: Machine) -> GatewayRun:
    """Return a running gateway that has followed two changes, of which the second revoked peer 4."""
    machine.feed.change(put=[peer(number) for number in range(1, 5)])
    machine.feed.change(remove=[peer(4)[:32]])
    gateway = machine.run()
    gateway.wait_ready()
    return gateway


def served(machine: Machine) -> set[int]:
    """Return the numbers of the peers on the interface."""
    names = {peer(number)[:32]: number for number in range(1, 10)}
    return {names[key] for key in machine.show()}


def say_instead(machine: Machine, what: Feed) -> None:
    """Cut the feed and answer so for a minute, however often it is asked."""
    asked = len(machine.feed.asked)
    machine.feed.instead = lambda _: what(machine.feed)
    machine.feed.cut()
    time.sleep(60)
    assert len(machine.feed.asked) > asked


NONSENSE: dict[str, Feed] = {
    "HTML": lambda feed: b"<html><body><h1>502 Bad Gateway</h1></body></html>\n",
    "nothing": lambda feed: b"\n",
    "an error": lambda feed: 502,
    "cut in a row": lambda feed: snapshot(feed.position, [peer(9)])[:120],
    "rows left out": lambda feed: b"".join(
        line for line in snapshot(feed.position, [peer(9)]).splitlines(True) if b'"peers"' not in line
    ),
    "another digest": lambda feed: b"".join(
        [
            *snapshot(feed.position, [peer(8)]).splitlines(True)[:-1],
            *snapshot(feed.position, [peer(9)]).splitlines(True)[-1:],
        ]
    ),
    "an earlier revision": lambda feed: snapshot(Position(feed.epoch, 1), map(peer, range(1, 5))),
    "an earlier revision, empty": lambda feed: snapshot(Position(feed.epoch, 0), []),
    "an earlier heartbeat": lambda feed: lines(Heartbeat(feed.epoch, 1)),
    "a change that does not follow": lambda feed: lines(
        Change(feed.epoch, 7, 8, [bytes(peer(9))], [peer(1)[:32]])
    ),
    "a change of another epoch": lambda feed: lines(
        Change("other", feed.revision, feed.revision + 1, [bytes(peer(9))], [peer(1)[:32]])
    ),
    "changes once more": lambda feed: lines(Change(feed.epoch, 0, 1, [bytes(peer(4))], [peer(1)[:32]])),
}
"""What is no feed, or not the one that goes on from here."""


@pytest.mark.parametrize("what", NONSENSE.values(), ids=NONSENSE)
def test_p18_what_makes_no_sense_changes_nothing(machine: Machine, what: Feed) -> None:
    """P9 and P18: the interface stays as it is, and nobody who was revoked comes back."""
    gateway = following(machine)
    say_instead(machine, what)

    assert served(machine) == {1, 2, 3}
    assert machine.is_equal()
    assert gateway.process.poll() is None


def test_p18_after_nonsense_it_follows_again(machine: Machine) -> None:
    """As soon as the feed makes sense, everything is as it says, without anybody's help."""
    following(machine)
    say_instead(machine, NONSENSE["cut in a row"])
    machine.feed.instead = None
    machine.feed.change(put=[peer(5)])
    machine.feed.cut()
    machine.feed.wait_applied()

    assert served(machine) == {1, 2, 3, 5}


def test_p18_an_empty_table_of_the_same_epoch_is_believed(machine: Machine) -> None:
    """If the last one logs out, the last one goes."""
    following(machine)
    machine.feed.table.clear()
    machine.feed.revision += 1
    machine.feed.cut()
    machine.feed.wait_applied()

    assert served(machine) == set()


def test_p18_an_empty_table_of_another_epoch_takes_nobody_away(machine: Machine) -> None:
    """It is added to what there is, with an alarm; also after a restart, until an operator accepts it."""
    gateway = following(machine)
    machine.feed.table = {peer(5)[:32]: peer(5)}
    machine.feed.epoch, machine.feed.revision = "second", 0
    machine.feed.cut()
    machine.feed.wait_applied()
    assert served(machine) == {1, 2, 3, 5}
    assert "the new peer table lacks 3 of the peers" in gateway.printed
    gateway.kill()
    gateway = machine.run()
    gateway.wait_ready()
    assert served(machine) == {1, 2, 3, 5}
    assert gateway.stop() == 0
    machine.run("--accept-snapshot").wait_ready()

    assert served(machine) == {5}


def test_p9_a_rewind_is_an_alarm_and_outlives_the_daemon(machine: Machine) -> None:
    """Nothing of an epoch that went back is believed any more, not even once its revisions have grown."""
    gateway = following(machine)
    say_instead(machine, NONSENSE["an earlier revision"])
    gateway.wait_for("an older database was put back")
    machine.feed.instead = None
    machine.feed.table[peer(4)[:32]] = peer(4)
    machine.feed.revision = 99
    gateway.kill()
    asked = len(machine.feed.asked)
    machine.run()
    wait_until(lambda: len(machine.feed.asked) >= asked + 2)

    assert served(machine) == {1, 2, 3}
