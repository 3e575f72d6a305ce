"""How what the network process says becomes changes of the peer table, and nothing else does."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exuvia.errors import FeedGap, FeedRefused, GarbledRecord, MalformedSnapshot
from exuvia.gateway.reception import Reception, Step
from exuvia.gateway.records import (
    Beat,
    ChangeBegins,
    Follow,
    FromNetwork,
    Removal,
    Row,
    SnapshotBegins,
    SnapshotEnds,
    StreamBegins,
    WentBack,
)
from exuvia.rules.feed import MOST_PEERS, Follower, Position, Update, table_digest
from exuvia.rules.ownership import Pools
from exuvia.rules.table import PeerTable
from exuvia.testing.feed import peer
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
AT = Position("first", 10)


def key(number: int) -> PublicKey:
    """Return the key of a peer."""
    return peer(number).public_key


def empty() -> PeerTable:
    """Return an empty table."""
    return PeerTable(POOLS, own_key=b"\x09" + bytes(31))


def reception() -> Reception:
    """Return where the records of a stream can arrive at."""
    made = Reception(Follower(empty(), confirmed=0.0))
    made.take(StreamBegins(made.ask().number), now=0)
    return made


def take(receiving: Reception, records: Iterable[FromNetwork], now: float = 1.0) -> list[Step]:
    """Take records in; return the steps that they led to."""
    steps = [receiving.take(record, now=now) for record in records]
    return [step for step in steps if step is not None]


def snapshot(*rows: TunnelPeer, at: Position = AT) -> list[FromNetwork]:
    """Return the records of a snapshot."""
    return [SnapshotBegins(at, len(rows)), *map(Row, rows), SnapshotEnds(table_digest(rows))]


def change(
    after: int, revision: int, *, remove: Iterable[bytes] = (), put: Iterable[TunnelPeer] = ()
) -> list[FromNetwork]:
    """Return the records of a change."""
    gone, come = list(remove), list(put)
    begin = ChangeBegins(Position("first", after), revision, len(gone), len(come))
    return [begin, *map(Removal, map(PublicKey, gone)), *map(Row, come)]


def test_a_snapshot_and_changes() -> None:
    """A snapshot in parts, a change with removals and rows, one with nothing, and a heartbeat."""
    receiving = reception()
    steps = take(
        receiving,
        [
            *snapshot(peer(1), peer(2)),
            *change(10, 11, remove=[peer(1)[:32]], put=[peer(3)]),
            *change(11, 12),
            Beat(Position("first", 12)),
        ],
    )

    assert steps == [
        Step(Update([], [peer(1), peer(2)]), snapshot=True),
        Step(Update([peer(1)], [peer(3)])),
        Step(Update([], [])),
        Step(Update([], [])),
    ]
    assert set(receiving.follower.table.peers) == {peer(2)[:32], peer(3)[:32]}


def test_nothing_counts_before_the_stream_begins() -> None:
    """What is left in the pipe of a stream that was given up is passed over."""
    receiving = reception()
    take(receiving, snapshot(peer(1)))
    request = receiving.ask()

    assert take(receiving, [*snapshot(peer(2), at=Position("first", 11)), Row(peer(3))]) == []
    assert request == Follow(2, AT)
    take(receiving, [StreamBegins(1), *change(10, 11, put=[peer(2)])])
    assert set(receiving.follower.table.peers) == {peer(1)[:32]}
    take(receiving, [StreamBegins(2), *change(10, 11, put=[peer(2)])])
    assert len(receiving.follower.table) == 2


def test_a_snapshot_that_was_cut_off_leaves_nothing() -> None:
    """The next stream begins with a clean slate."""
    receiving = reception()
    take(receiving, snapshot(peer(1))[:-1])
    take(receiving, [StreamBegins(receiving.ask().number), *snapshot(peer(2))])

    assert set(receiving.follower.table.peers) == {peer(2)[:32]}


def test_a_change_that_was_cut_off_leaves_nothing() -> None:
    """Half a change is none."""
    receiving = reception()
    take(receiving, snapshot(peer(1)))
    take(receiving, change(10, 11, remove=[peer(1)[:32]], put=[peer(2), peer(3)])[:-1])

    assert set(receiving.follower.table.peers) == {peer(1)[:32]}
    assert receiving.ask() == Follow(2, AT)


@pytest.mark.parametrize(
    "records",
    [
        [Row(peer(1))],
        [Removal(key(1))],
        [SnapshotEnds(bytes(32))],
        [SnapshotBegins(AT, 1), Beat(AT)],
        [SnapshotBegins(AT, 1), SnapshotBegins(AT, 1)],
        [SnapshotBegins(AT, 1), Removal(key(1))],
        [ChangeBegins(AT, 11, 1, 1), Row(peer(1))],
        [ChangeBegins(AT, 11, 2, 0), Removal(key(1)), Row(peer(1))],
        [ChangeBegins(AT, 11, 0, 1), Removal(key(1))],
        [ChangeBegins(AT, 11, 0, 2), Row(peer(1)), Removal(key(1))],
        [ChangeBegins(AT, 11, 0, 1), Beat(AT)],
        [ChangeBegins(AT, 11, MOST_PEERS, 1)],
    ],
)
def test_what_no_feed_sends_is_garbled(records: list[FromNetwork]) -> None:
    """Parts without their beginning, or in another's place, are no feed at all."""
    with pytest.raises(GarbledRecord):
        take(reception(), records)


def test_the_rules_of_the_feed_hold() -> None:
    """A snapshot with another digest, and a change that does not follow, are refused."""
    receiving = reception()
    with pytest.raises(MalformedSnapshot):
        take(receiving, [SnapshotBegins(AT, 0), SnapshotEnds(b"x" * 32)])
    take(receiving, [StreamBegins(receiving.ask().number), *snapshot(peer(1))])
    with pytest.raises(FeedGap):
        take(receiving, change(11, 12))


def test_the_control_plane_says_itself_that_it_went_back() -> None:
    """That is believed whatever stream it belongs to, and from then on only a snapshot is asked for."""
    receiving = reception()
    take(receiving, snapshot(peer(1)))
    receiving.ask()
    take(receiving, [WentBack()])

    assert receiving.follower.rewound
    assert receiving.ask().position is None


anything = st.lists(
    st.one_of(
        st.builds(Row, st.integers(1, 4).map(peer)),
        st.builds(Removal, st.integers(1, 4).map(key)),
        st.builds(Beat, st.builds(Position, st.sampled_from(["first", "second"]), st.integers(0, 12))),
        st.builds(
            SnapshotBegins,
            st.builds(Position, st.sampled_from(["first", "second"]), st.integers(0, 12)),
            st.integers(0, 3),
        ),
        st.builds(
            ChangeBegins,
            st.builds(Position, st.sampled_from(["first", "second"]), st.integers(8, 12)),
            st.integers(8, 13),
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(SnapshotEnds, st.sampled_from([table_digest([]), table_digest([peer(1)])])),
        st.builds(WentBack),
    ),
    max_size=20,
)


@settings(max_examples=300)
@given(anything)
def test_p9_nothing_that_is_said_brings_back_what_was_revoked(records: list[FromNetwork]) -> None:
    """Whatever order records come in: a peer that was removed is put by a later row or not at all."""
    receiving = reception()
    take(receiving, snapshot(peer(1)))
    take(receiving, change(10, 11, remove=[peer(1)[:32]]))
    said = set()
    for record in records:
        before = dict(receiving.follower.table.peers)
        if isinstance(record, Row):
            said.add(record.peer)
        try:
            receiving.take(record, now=1)
        except (FeedRefused, GarbledRecord):
            assert receiving.follower.table.peers == before
            receiving.take(StreamBegins(receiving.ask().number), now=1)

    assert set(receiving.follower.table.peers.values()) <= said
