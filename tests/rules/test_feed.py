"""How a gateway's peer table follows the control plane's."""

import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exuvia.errors import FeedGap, MalformedSnapshot, RevisionWentBackwards
from exuvia.rules.feed import LEASE, MOST_PEERS, Follower, Position, Update, table_digest
from exuvia.rules.ownership import Pools
from exuvia.rules.table import PeerTable
from exuvia.wg.peers import TunnelPeer

POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
OWN_KEY = b"\x09" + bytes(31)
NOTHING = Update([], [])
EPOCH = "first"
AT_TEN = Position(EPOCH, 10)


def peer(number: int, *, at: int | None = None, psk: int = 7) -> TunnelPeer:
    """Return a peer whose key and addresses tell its number; `at` is another's addresses."""
    place = 16 + (number if at is None else at)
    key = (1000 + number).to_bytes(4, "little") + bytes(28)
    return TunnelPeer.pack(
        key, IPv4Address("10.0.0.0") + place, IPv6Address("fd00::") + place, bytes([psk]) * 32
    )


def key(number: int) -> bytes:
    """Return the key of a peer."""
    return peer(number)[:32]


def table(peers: Iterable[TunnelPeer] = ()) -> PeerTable:
    """Return a peer table of the pools."""
    return PeerTable(POOLS, own_key=OWN_KEY, peers=peers)


def follower(*numbers: int, position: Position | None = None, **settings: object) -> Follower:
    """Return a follower that found these peers on its interface."""
    found = table(map(peer, numbers))
    return Follower(found, confirmed=0.0, position=position, **settings)  # type: ignore[arg-type]


def snapshot(
    following: Follower, peers: Iterable[TunnelPeer], *, at: Position = AT_TEN, now: float = 1.0
) -> Update:
    """Let a follower have a whole snapshot."""
    rows = list(peers)
    staging = following.begin(at, len(rows))
    for row in rows:
        staging.add(row)
    return following.finish(staging, table_digest(rows), now=now)


def at_ten(*numbers: int, **settings: object) -> Follower:
    """Return a follower at revision 10 with these peers."""
    following = follower(**settings)
    snapshot(following, map(peer, numbers))
    return following


def change(
    following: Follower,
    after: int,
    revision: int,
    *,
    put: Iterable[TunnelPeer] = (),
    remove: Iterable[int] = (),
    epoch: str = EPOCH,
    now: float = 2.0,
) -> Update:
    """Let a follower have a change."""
    return following.change(
        Position(epoch, after), revision, remove=[key(n) for n in remove], put=list(put), now=now
    )


def removed(update: Update) -> set[TunnelPeer]:
    """Return who left, in whatever order."""
    assert update.put == []
    return set(update.removed)


def served(following: Follower) -> set[int]:
    """Return the numbers of the peers in the table."""
    return {int.from_bytes(name[:4], "little") - 1000 for name in following.table.peers}


# Snapshots.


def test_a_snapshot_becomes_the_table() -> None:
    """What is in it is put, what is not is removed, and what stays is not mentioned."""
    following = at_ten(1, 2, 3)
    update = snapshot(following, [peer(2), peer(3, psk=8), peer(4)], at=Position(EPOCH, 11))

    assert update == Update([peer(1)], [peer(3, psk=8), peer(4)])
    assert served(following) == {2, 3, 4}
    assert following.resume == Position(EPOCH, 11)


def test_nothing_of_a_snapshot_counts_before_it_is_complete() -> None:
    """A snapshot that is cut off leaves table and position as they were."""
    following = at_ten(1)
    staging = following.begin(Position(EPOCH, 11), 2)
    staging.add(peer(2))

    assert (served(following), following.resume) == ({1}, Position(EPOCH, 10))


@pytest.mark.parametrize(
    ("announced", "rows", "digest_of"),
    [
        (2, [1], [1]),
        (2, [1], [1, 2]),
        (1, [1], [2]),
        (0, [], [1]),
        (3, [1, 2, 3], [1, 2]),
    ],
)
def test_a_snapshot_that_is_cut_short_or_changed_is_refused(
    announced: int, rows: list[int], digest_of: list[int]
) -> None:
    """Count and digest have to be those of what arrived; otherwise nothing changes."""
    following = at_ten(7)
    staging = following.begin(Position(EPOCH, 11), announced)
    for row in rows:
        staging.add(peer(row))
    with pytest.raises(MalformedSnapshot):
        following.finish(staging, table_digest(map(peer, digest_of)), now=1)

    assert (served(following), following.resume) == ({7}, Position(EPOCH, 10))


def test_a_snapshot_with_more_rows_than_announced_is_refused() -> None:
    """The row too many is refused at once, before the end."""
    staging = at_ten().begin(Position(EPOCH, 11), 1)
    staging.add(peer(1))
    with pytest.raises(MalformedSnapshot):
        staging.add(peer(2))


def test_a_snapshot_that_names_a_key_twice_is_refused() -> None:
    """A table has every key once."""
    staging = at_ten().begin(Position(EPOCH, 11), 2)
    staging.add(peer(1))
    with pytest.raises(MalformedSnapshot):
        staging.add(peer(1, at=9))


def test_a_snapshot_of_more_peers_than_an_interface_takes_is_refused() -> None:
    """2^20 are the kernel's limit; memory for more is never asked for."""
    at_ten().begin(Position(EPOCH, 11), MOST_PEERS)
    with pytest.raises(MalformedSnapshot):
        at_ten().begin(Position(EPOCH, 11), MOST_PEERS + 1)


def test_p18_an_empty_snapshot_of_the_same_epoch_is_believed() -> None:
    """Everybody may have logged out: in the same epoch, at a revision not lower, it is applied."""
    for revision in (10, 11):
        following = at_ten(1, 2)

        assert removed(snapshot(following, [], at=Position(EPOCH, revision))) == {peer(1), peer(2)}
        assert served(following) == set()


def test_the_digest_does_not_depend_on_the_order() -> None:
    """Peers in any order have one digest; other peers have another, and none has zero."""
    rows = [peer(number) for number in range(50)]
    shuffled = random.Random(1).sample(rows, len(rows))

    assert table_digest(rows) == table_digest(shuffled)
    assert table_digest(rows) != table_digest(rows[1:])
    assert table_digest([]) == bytes(32)


def test_rows_that_wait_for_an_address() -> None:
    """Whoever takes over the address of one who leaves, or swaps with another, comes in any order."""
    following = at_ten(1, 2, 3, 4)
    rows = [peer(9, at=1), peer(2, at=3), peer(3, at=2), peer(4)]
    for order in (rows, rows[::-1]):
        snapshot(following, order, at=Position(EPOCH, 11))
        assert set(following.table.peers.values()) == set(rows)
        assert following.table.refused == 0
        snapshot(following, map(peer, (1, 2, 3, 4)), at=Position(EPOCH, 11))


def test_p10_rows_that_do_not_fit_are_refused_and_the_others_applied() -> None:
    """An address that two rows claim is one's, and the gateway's own key nobody's; it is counted."""
    following = at_ten(1)
    bad = [peer(2, at=1), TunnelPeer(OWN_KEY + peer(5)[32:])]
    update = snapshot(following, [peer(1), *bad, peer(3)], at=Position(EPOCH, 11))

    assert update == Update([], [peer(3)])
    assert served(following) == {1, 3}
    assert following.table.refused == 2


def test_p10_a_peer_whose_new_row_does_not_fit_is_served_no_more() -> None:
    """Its old row is not in the table any more, and its new one can't be."""
    following = at_ten(1, 2)
    snapshot(following, [peer(1), peer(2, at=1)], at=Position(EPOCH, 11))

    assert served(following) == {1}


def test_a_snapshot_that_was_not_finished_leaves_the_table_alone() -> None:
    """It is gathered in a copy."""
    following = at_ten(1, 2)
    staging = following.begin(Position(EPOCH, 11), 2)
    staging.add(peer(1, psk=9))
    staging.add(peer(3))

    assert set(following.table.peers.values()) == {peer(1), peer(2)}
    assert change(following, 10, 11, put=[peer(4, at=3)]) == Update([], [peer(4, at=3)])


# Rewinds.


def test_p9_a_snapshot_of_an_earlier_revision_is_refused() -> None:
    """Yesterday's database brings nobody back, from its very first message on."""
    following = at_ten(1)
    with pytest.raises(RevisionWentBackwards):
        following.begin(Position(EPOCH, 9), 1)

    assert following.rewound


@pytest.mark.parametrize("revision", [9, 10, 11, 99])
def test_p9_after_a_rewind_nothing_more_of_the_epoch_is_believed(revision: int) -> None:
    """An old database that grew past our revision is still of another history."""
    following = at_ten(1)
    following.went_back()
    with pytest.raises(RevisionWentBackwards):
        following.begin(Position(EPOCH, revision), 1)
    with pytest.raises(RevisionWentBackwards):
        change(following, 10, 11, put=[peer(2)])
    with pytest.raises(RevisionWentBackwards):
        following.heartbeat(Position(EPOCH, revision), now=5)

    assert (served(following), following.confirmed) == ({1}, 1.0)


def test_p9_a_snapshot_that_was_begun_before_a_rewind_is_refused_at_its_end() -> None:
    """A rewind that becomes known while a snapshot comes in counts for that snapshot, too."""
    following = at_ten(1)
    staging = following.begin(Position(EPOCH, 11), 0)
    following.went_back()
    with pytest.raises(RevisionWentBackwards):
        following.finish(staging, table_digest([]), now=2)

    assert served(following) == {1}


def test_p18_a_new_epoch_ends_a_rewind() -> None:
    """Once the database was restored in earnest it is followed again, from its snapshot on."""
    following = at_ten(1, 2)
    following.went_back()
    snapshot(following, [peer(1), peer(2), peer(3)], at=Position("second", 1), now=5)

    assert (following.rewound, served(following)) == (False, {1, 2, 3})
    assert change(following, 1, 2, remove=[1], epoch="second") == Update([peer(1)], [])


def test_a_heartbeat_of_an_earlier_revision_is_a_rewind() -> None:
    """Also the least message tells that the control plane went back."""
    following = at_ten(1)
    with pytest.raises(RevisionWentBackwards):
        following.heartbeat(Position(EPOCH, 9), now=5)

    assert (following.rewound, following.confirmed) == (True, 1.0)


def test_a_rewind_of_an_unknown_table_is_none() -> None:
    """A gateway that has applied nothing has nothing to go back from."""
    following = follower(1)
    following.went_back()

    assert not following.rewound


def test_p9_a_rewind_outlives_the_daemon() -> None:
    """A restarted daemon that reads `rewound` believes no more of that epoch than the one before."""
    following = follower(1, position=Position(EPOCH, 10), rewound=True)
    with pytest.raises(RevisionWentBackwards):
        following.begin(Position(EPOCH, 12), 0)


# New epochs.


def test_p18_a_new_epoch_without_most_peers_takes_none_away() -> None:
    """What is new in it is served, what it lacks is kept until the lease ends."""
    following = at_ten(1, 2, 3)
    update = snapshot(following, [peer(9)], at=Position("second", 1), now=50)

    assert update == Update([], [peer(9)])
    assert served(following) == {1, 2, 3, 9}
    assert following.resume == Position("second", 1)
    assert following.keep_until == 1.0 + LEASE


def test_p18_kept_peers_go_at_the_end_of_the_lease_that_they_had() -> None:
    """Confirmations of the new epoch are not theirs: after their own lease they are dropped."""
    following = at_ten(1, 2, 3)
    snapshot(following, [peer(9)], at=Position("second", 1), now=50)
    following.heartbeat(Position("second", 1), now=LEASE)

    assert following.lapse(now=LEASE + 0.5) == NOTHING
    assert removed(following.lapse(now=LEASE + 1)) == {peer(1), peer(2), peer(3)}
    assert (served(following), following.keep_until) == ({9}, None)
    assert following.resume == Position("second", 1)


@pytest.mark.parametrize(("present", "missing", "dropped"), [(4, 2, True), (4, 3, False), (1, 1, False)])
def test_p18_half_of_the_peers_may_leave_in_a_new_epoch(present: int, missing: int, dropped: bool) -> None:
    """A snapshot that drops no more than half of the peers is believed whole."""
    following = at_ten(*range(present))
    snapshot(following, map(peer, range(missing, present)), at=Position("second", 1))

    assert (served(following) == set(range(missing, present))) is dropped
    assert (following.keep_until is None) is dropped


def test_p18_a_gateway_that_knows_no_epoch_is_as_careful() -> None:
    """Peers that were found on the interface are not taken away by the first snapshot either."""
    following = follower(1, 2, 3)
    snapshot(following, [peer(3)])

    assert served(following) == {1, 2, 3}


def test_an_operator_can_accept_a_snapshot_once() -> None:
    """With --accept-snapshot the first one is applied as it is; the next is judged again."""
    following = at_ten(1, 2, 3)
    following = Follower(following.table, confirmed=1, position=following.position, accept_snapshot=True)
    snapshot(following, [peer(9)], at=Position("second", 1))
    assert served(following) == {9}
    snapshot(following, [], at=Position("third", 1))

    assert served(following) == {9}


def test_after_the_lease_any_snapshot_is_believed() -> None:
    """Where nothing is served any more there is nothing to protect."""
    following = at_ten(1, 2, 3)
    following.lapse(now=1 + LEASE)
    snapshot(following, [peer(9)], at=Position("second", 1), now=LEASE + 2)

    assert (served(following), following.kept) == ({9}, {})


def test_at_the_very_end_of_the_lease_nothing_is_kept_any_more() -> None:
    """A snapshot that comes exactly when the lease ends is believed, even before lapse() was asked."""
    following = at_ten(1, 2, 3)
    snapshot(following, [peer(9)], at=Position("second", 1), now=1 + LEASE)

    assert served(following) == {9}


def test_kept_peers_survive_further_snapshots_of_the_new_epoch() -> None:
    """They wait for their own end; peers of the new epoch come and go as it says."""
    following = at_ten(1, 2, 3)
    snapshot(following, [peer(9)], at=Position("second", 1), now=50)
    update = snapshot(following, [peer(8)], at=Position("second", 2), now=60)

    assert update == Update([peer(9)], [peer(8)])
    assert served(following) == {1, 2, 3, 8}
    assert following.keep_until == 1 + LEASE


def test_kept_peers_survive_yet_another_epoch_but_not_longer() -> None:
    """Each keeps the end of its own lease, whatever comes after."""
    following = at_ten(1, 2, 3)
    snapshot(following, [peer(9)], at=Position("second", 1), now=50)
    snapshot(following, [], at=Position("third", 1), now=60)

    assert following.kept == {**{key(n): 1 + LEASE for n in (1, 2, 3)}, key(9): 50 + LEASE}
    assert following.keep_until == 50 + LEASE


def test_a_kept_peer_that_registers_anew_is_kept_no_more() -> None:
    """What the new epoch confirms is served like everybody, by change and by snapshot."""
    following = at_ten(1, 2, 3)
    snapshot(following, [], at=Position("second", 1), now=50)
    change(following, 1, 2, put=[peer(1), peer(2, psk=9)], epoch="second")
    assert set(following.kept) == {key(3)}
    snapshot(following, [peer(1), peer(2, psk=9), peer(3)], at=Position("second", 3), now=60)

    assert following.kept == {}
    assert following.lapse(now=LEASE + 59) == NOTHING


def test_a_kept_peer_can_be_revoked() -> None:
    """A removal counts for whoever is in the table."""
    following = at_ten(1, 2, 3)
    snapshot(following, [], at=Position("second", 1), now=50)

    assert change(following, 1, 2, remove=[1], epoch="second") == Update([peer(1)], [])
    assert set(following.kept) == {key(2), key(3)}


def test_p7_a_kept_peer_gives_way_to_who_was_given_its_address() -> None:
    """The new epoch knows nothing of kept peers: whom it gives their address has it, by either way."""
    following = at_ten(1, 2, 3)
    snapshot(following, [peer(8, at=1)], at=Position("second", 1), now=50)
    assert served(following) == {2, 3, 8}
    update = change(following, 1, 2, put=[peer(9, at=2)], epoch="second")

    assert update == Update([peer(2)], [peer(9, at=2)])
    assert served(following) == {3, 8, 9}


def test_what_a_restarted_gateway_keeps_is_what_the_snapshot_lacks() -> None:
    """It can't tell who was kept, so whoever is missing is kept until the time that was written down."""
    following = follower(1, 2, 3, position=Position("second", 1), keep_until=500)
    snapshot(following, [peer(1)], at=Position("second", 2), now=100)

    assert following.kept == {key(2): 500, key(3): 500}
    assert removed(following.lapse(now=500)) == {peer(2), peer(3)}


def test_what_was_written_down_about_keeping_counts_once() -> None:
    """After the first snapshot it is known who is kept, and others leave as the feed says."""
    following = follower(1, 2, position=Position("second", 1), keep_until=500)
    snapshot(following, [peer(1), peer(2)], at=Position("second", 1), now=100)
    snapshot(following, [peer(1)], at=Position("second", 2), now=101)

    assert served(following) == {1}


# Changes and heartbeats.


def test_a_change_is_applied_in_its_order() -> None:
    """Removals come first, so that an address can go from one key to another."""
    following = at_ten(1, 2)
    update = change(following, 10, 11, remove=[1], put=[peer(3, at=1)])

    assert update == Update([peer(1)], [peer(3, at=1)])
    assert (served(following), following.resume) == ({2, 3}, Position(EPOCH, 11))


def test_what_changes_nothing_is_not_mentioned() -> None:
    """Removing who is not there and putting who is there as he is are no updates."""
    following = at_ten(1)

    assert change(following, 10, 11, remove=[5], put=[peer(1)]) == NOTHING
    assert following.resume == Position(EPOCH, 11)


def test_p9_a_change_that_was_applied_already_changes_nothing() -> None:
    """A duplicate, however late, brings nobody back."""
    following = at_ten(1)
    change(following, 10, 11, put=[peer(2)])
    change(following, 11, 12, remove=[2])

    assert change(following, 10, 11, put=[peer(2)], now=99) == NOTHING
    assert (served(following), following.resume) == ({1}, Position(EPOCH, 12))
    assert following.confirmed == 2.0


@pytest.mark.parametrize(("after", "revision"), [(11, 12), (9, 11), (12, 13)])
def test_a_change_that_does_not_follow_is_a_gap(after: int, revision: int) -> None:
    """Nothing is applied over a hole."""
    following = at_ten(1)
    with pytest.raises(FeedGap):
        change(following, after, revision, put=[peer(2)])

    assert (served(following), following.resume) == ({1}, Position(EPOCH, 10))


def test_p9_a_change_of_another_epoch_is_a_gap() -> None:
    """A revision means something in its epoch only."""
    following = at_ten(1)
    with pytest.raises(FeedGap):
        change(following, 10, 11, put=[peer(2)], epoch="second")
    with pytest.raises(FeedGap):
        following.heartbeat(Position("second", 10), now=9)


def test_a_restarted_gateway_takes_no_changes_before_a_snapshot() -> None:
    """The alias says which snapshots to refuse, not what is on the interface."""
    following = follower(1, position=Position(EPOCH, 10))

    assert following.resume is None
    with pytest.raises(FeedGap):
        change(following, 10, 11, put=[peer(2)])
    with pytest.raises(FeedGap):
        following.heartbeat(Position(EPOCH, 10), now=9)


def test_a_heartbeat_ahead_of_us_is_a_gap() -> None:
    """A revision that was not told is missing, and nothing is confirmed."""
    following = at_ten(1)
    with pytest.raises(FeedGap):
        following.heartbeat(Position(EPOCH, 11), now=9)

    assert following.confirmed == 1.0


# The lease.


def test_p8_what_nothing_confirms_is_dropped_at_the_end_of_the_lease() -> None:
    """A gateway that is cut off serves everybody for exactly one lease, and then nobody."""
    following = at_ten(1, 2, lease=600)

    assert following.lapse(now=600.5) == NOTHING
    assert following.lapse(now=601) == Update([peer(1), peer(2)], [])
    assert following.lapse(now=602) == NOTHING


@pytest.mark.parametrize("how", ["heartbeat", "change", "snapshot"])
def test_heartbeats_changes_and_snapshots_renew_the_lease(how: str) -> None:
    """Each of them is the control plane's word that the table is right."""
    following = at_ten(1, lease=600)
    if how == "heartbeat":
        following.heartbeat(Position(EPOCH, 10), now=500)
    elif how == "change":
        change(following, 10, 11, put=[peer(2)], now=500)
    else:
        snapshot(following, [peer(1)], now=500)

    assert following.lease_ends == 1100
    assert following.lapse(now=1099) == NOTHING


def test_after_the_lease_only_a_snapshot_will_do() -> None:
    """A table that was dropped is no table of the feed any more, but its revision still counts."""
    following = at_ten(1)
    following.lapse(now=1 + LEASE)

    assert following.resume is None
    with pytest.raises(RevisionWentBackwards):
        following.begin(Position(EPOCH, 9), 0)


def test_an_empty_table_has_no_lease_to_end() -> None:
    """Where nobody is served nothing lapses, and changes go on being followed."""
    following = at_ten()

    assert following.lapse(now=1 + LEASE) == NOTHING
    assert following.resume == Position(EPOCH, 10)


# Against a model.

steps = st.lists(
    st.tuples(
        st.sampled_from(["change", "change", "change", "again", "gap", "snapshot", "cut", "lapse"]),
        st.lists(st.integers(0, 5), max_size=3, unique=True),
        st.lists(st.integers(0, 5), max_size=3, unique=True),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_p18_a_follower_has_what_the_control_plane_has(days: list[tuple[str, list[int], list[int]]]) -> None:
    """Whatever is lost, repeated or cut short: after each accepted message the tables are equal."""
    following, truth, revision, now = follower(), set[int](), 0, 0.0
    snapshot(following, [], at=Position(EPOCH, 0), now=now)
    last: dict[str, object] = {"put": [], "remove": []}
    for what, put, remove in days:
        now += 10
        if what in ("change", "gap"):
            truth = (truth - set(remove)) | set(put)
            revision += 1
            last = {"put": [peer(n) for n in put], "remove": [n for n in remove if n not in put]}
        if what == "change" and following.resume == Position(EPOCH, revision - 1):
            change(following, revision - 1, revision, now=now, **last)  # type: ignore[arg-type]
        elif what == "again" and following.resume == Position(EPOCH, revision) and revision:
            assert change(following, revision - 1, revision, now=now, **last) == NOTHING  # type: ignore[arg-type]
        elif what == "cut":
            following.begin(Position(EPOCH, revision), len(truth) + 1)
        elif what == "lapse" and now > following.lease_ends:
            following.lapse(now=now)
        elif what == "snapshot" or following.resume != Position(EPOCH, revision):
            snapshot(following, map(peer, sorted(truth)), at=Position(EPOCH, revision), now=now)
        if following.resume == Position(EPOCH, revision):
            assert served(following) == truth
    snapshot(following, map(peer, sorted(truth)), at=Position(EPOCH, revision), now=now)

    assert served(following) == truth
