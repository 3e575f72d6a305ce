"""Keeping an interface equal to a peer table, and forgetting peers that went quiet."""

from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_network

import pytest

from exuvia.errors import GarbledAnswer, InterfaceUnavailable
from exuvia.gateway import keeping
from exuvia.gateway.keeping import RECONCILE_AGAIN, RECONCILE_EVERY, RECONCILE_SOON, Keeper, adopted
from exuvia.rules.feed import Update
from exuvia.rules.ownership import Pools
from exuvia.rules.purge import QUIET
from exuvia.rules.table import PeerTable
from exuvia.testing.feed import peer
from exuvia.testing.interface import FakeInterface
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Peer
from exuvia.wg.timing import REJECT_AFTER_TIME

POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
EBUSY = 16
FOREIGN = Peer(PrivateKey(b"f" * 32).public_key(), (ip_network("192.0.2.0/24"),), None, 25)


class Fixture:
    """A keeper of a fake interface, with a clock that a test moves."""

    def __init__(self, *numbers: int, complete: bool = True, forget_flows: bool = False) -> None:
        self.now = 1000.0
        self.forgotten: list[set[bytes]] = []
        self.interface = FakeInterface()
        self.kernel = self.interface.kernel
        self.table = PeerTable(POOLS, own_key=b"\x09" + bytes(31), peers=map(peer, numbers))
        self.keeper = Keeper(
            self.interface,
            self.table,
            [POOLS],
            complete=complete,
            forget_flows=forget_flows,
            now=lambda: self.now,
            forget=self.forget,
        )

    def forget(self, addresses: Collection[bytes]) -> int:
        """Note that connection tracking was asked to forget."""
        self.forgotten.append(set(addresses))
        return 0

    def wait(self, seconds: float) -> None:
        """Let time pass, and look at the end of it."""
        self.now += seconds
        self.keeper.look()

    def is_equal(self) -> bool:
        """Say whether the interface has exactly the peers of the table."""
        wanted = {key: row.peer() for key, row in self.table.peers.items()}
        found = self.kernel.configuration()
        return found.keys() == wanted.keys() and all(found[key].same_as(wanted[key]) for key in wanted)


def meet(fixture: Fixture, number: int, *, handshake: int = 5, rx: int = 148) -> bytes:
    """Let a peer have shaken hands; return its key."""
    key = peer(number)[:32]
    fixture.kernel.meet(key, handshake=handshake, rx=rx, tx=92, endpoint=b"e" * 16)
    return key


def kept(*numbers: int, **settings: bool) -> Fixture:
    """Return a keeper that has made the interface equal to these peers."""
    fixture = Fixture(*numbers, **settings)
    fixture.keeper.reconcile()
    assert fixture.is_equal()
    return fixture


# Forgetting.


def test_p2_a_quiet_peer_is_removed_and_reinstated_in_one_message() -> None:
    """At no instant is the peer missing, and everything but its configuration is gone."""
    fixture = kept(1, 2)
    key = meet(fixture, 1)
    fixture.wait(1)
    fixture.kernel.messages.clear()
    fixture.wait(REJECT_AFTER_TIME)

    assert len(fixture.kernel.messages) == 1
    assert fixture.is_equal()
    state = fixture.kernel.peers[key]
    assert (state.endpoint, state.handshake, state.rx, state.tx) == (b"", 0, 0, 0)


def test_p9_a_peer_is_reinstated_as_the_table_says_now() -> None:
    """Not from what the interface was seen to have: there it may be somebody's mistake."""
    fixture = kept(1)
    key = meet(fixture, 1)
    fixture.kernel.peers[key].preshared_key = b"x" * 32
    fixture.kernel.peers[key].persistent_keepalive = 25
    fixture.wait(1)
    fixture.wait(REJECT_AFTER_TIME)

    assert fixture.is_equal()


def test_p9_a_peer_that_was_revoked_is_not_reinstated() -> None:
    """What the table does not know any more is not purged, and so not put back."""
    fixture = kept(1)
    key = meet(fixture, 1)
    fixture.wait(1)
    gone = fixture.table.remove(key)
    assert gone is not None
    fixture.keeper.apply(Update([gone], []))
    fixture.wait(REJECT_AFTER_TIME)

    assert fixture.kernel.peers == {}


def test_p10_a_foreign_peer_is_not_purged() -> None:
    """Whatever is remembered of it, it is somebody else's."""
    fixture = kept(1)
    fixture.interface.apply([FOREIGN])
    fixture.kernel.meet(FOREIGN.public_key, handshake=5, rx=148, endpoint=b"e" * 16)
    fixture.wait(1)
    fixture.wait(10 * REJECT_AFTER_TIME)

    assert fixture.kernel.peers[FOREIGN.public_key].endpoint == b"e" * 16


def test_clean_peers_are_not_touched() -> None:
    """No message is sent about a peer that there is nothing to forget of."""
    fixture = kept(1, 2)
    fixture.kernel.messages.clear()
    for _ in range(5):
        fixture.wait(REJECT_AFTER_TIME)

    assert fixture.kernel.messages == []


def test_p1_a_half_open_peer_is_forgotten_after_its_quiet_time() -> None:
    """Without a handshake it takes 20 s."""
    fixture = kept(1)
    key = meet(fixture, 1, handshake=0)
    fixture.wait(1)
    fixture.wait(QUIET - 0.5)
    assert fixture.kernel.peers[key].endpoint
    fixture.wait(0.5)

    assert not fixture.kernel.peers[key].endpoint


def test_a_purge_that_the_kernel_refuses_is_repeated_and_repaired() -> None:
    """The peer may be there without its addresses: it is due again, and the interface is compared soon."""
    fixture = kept(1)
    key = meet(fixture, 1)
    fixture.wait(1)
    fixture.kernel.refuse[key] = EBUSY
    fixture.wait(REJECT_AFTER_TIME)
    assert not fixture.keeper.equal
    assert fixture.keeper.next_reconcile <= fixture.now + RECONCILE_SOON
    del fixture.kernel.refuse[key]
    fixture.keeper.reconcile()

    assert fixture.is_equal()
    assert fixture.keeper.equal


def test_many_who_fall_due_are_read_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fewer peers lie between reading and purging, the fewer fresh sessions are wiped."""
    asked = []
    look = FakeInterface.look
    monkeypatch.setattr(
        FakeInterface,
        "look",
        lambda self, see, *, small: (asked.append(small), look(self, see, small=small))[1],
    )
    numbers = range(1, keeping.MANY_DUE + 1)
    fixture = kept(*numbers)
    for number in numbers:
        meet(fixture, number)
    fixture.wait(1)
    fixture.wait(REJECT_AFTER_TIME)
    fixture.wait(1)

    assert asked[-3:] == [False, True, False]


# Applying.


def test_an_update_is_applied_removals_first() -> None:
    """So that an address can go from one peer to the next."""
    fixture = kept(1, 2)
    fixture.kernel.messages.clear()
    gone = fixture.table.remove(peer(1)[:32])
    assert gone is not None
    fixture.table.put(peer(3))
    fixture.keeper.apply(Update([gone], [peer(3)]))

    assert fixture.is_equal()
    assert peer(1)[:32] in fixture.kernel.messages[0]
    assert fixture.keeper.equal


def test_the_flows_of_a_revoked_peer_are_forgotten() -> None:
    """Both its tunnel addresses, always; also if the interface went away meanwhile."""
    fixture = kept(1, 2)
    fixture.keeper.apply(Update([peer(1)], []))
    assert fixture.forgotten == [{peer(1)[32:36], peer(1)[36:52]}]
    fixture.kernel.gone = True
    with pytest.raises(InterfaceUnavailable):
        fixture.keeper.apply(Update([peer(2)], []))

    assert fixture.forgotten[1] == {peer(2)[32:36], peer(2)[36:52]}


@pytest.mark.parametrize("error", [InterfaceUnavailable("no"), GarbledAnswer("no")])
def test_connection_tracking_that_refuses_is_noticed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps nobody from being revoked, but somebody should know."""
    fixture = kept(1)

    def refuse(_: Collection[bytes]) -> int:
        raise error

    monkeypatch.setattr(fixture.keeper, "_forget", refuse)
    fixture.keeper.apply(Update([peer(1)], []))

    assert fixture.kernel.peers == {}
    assert fixture.keeper.flows_left


@pytest.mark.parametrize("forget_flows", [True, False])
def test_a_purge_cuts_flows_only_if_asked_to(forget_flows: bool) -> None:
    """A laptop that slept keeps its connections, unless the operator prefers to forget them."""
    fixture = kept(1, forget_flows=forget_flows)
    meet(fixture, 1)
    fixture.wait(1)
    fixture.wait(REJECT_AFTER_TIME)

    assert fixture.forgotten == ([{peer(1)[32:36], peer(1)[36:52]}] if forget_flows else [])


def test_while_many_are_added_others_are_still_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long update is cut into parts, and between them it is looked whether somebody is due."""
    monkeypatch.setattr(keeping, "SLICE", 2)
    fixture = kept(1)
    key = meet(fixture, 1)
    fixture.wait(1)
    fixture.now += REJECT_AFTER_TIME
    rows = [peer(number) for number in range(2, 12)]
    for row in rows:
        fixture.table.put(row)
    seen_when_forgotten: list[int] = []

    def note(_: bytes) -> None:
        if not fixture.kernel.peers[key].endpoint:
            seen_when_forgotten.append(len(fixture.kernel.peers))

    fixture.kernel.before_message = note
    fixture.keeper.apply(Update([], rows))

    assert fixture.is_equal()
    assert seen_when_forgotten[0] < len(rows)


def test_a_peer_that_comes_back_after_a_removal_starts_anew() -> None:
    """What was known of an earlier life of its key does not count."""
    fixture = kept(1)
    meet(fixture, 1)
    fixture.wait(1)
    fixture.keeper.apply(Update([peer(1)], []))
    fixture.keeper.apply(Update([], [peer(1)]))
    key = meet(fixture, 1)
    fixture.wait(REJECT_AFTER_TIME)

    assert fixture.kernel.peers[key].endpoint


# Reconciling.


def test_whatever_differs_is_mended() -> None:
    """Missing peers, other addresses, another preshared key, a keepalive, and strangers in the pools."""
    fixture = kept(1, 2, 3, 4)
    fixture.interface.apply([replace(peer(2).peer(), persistent_keepalive=25), peer(9)], [peer(1)[:32]])
    fixture.kernel.peers[peer(3)[:32]].preshared_key = b"x" * 32
    fixture.interface.apply([replace(peer(4).peer(), allowed_ips=(ip_network("10.9.9.9/32"),))])
    fixture.keeper.reconcile()

    assert fixture.is_equal()


def test_p10_foreign_and_bare_peers_are_left_alone_and_counted() -> None:
    """With an allowed IP outside the pools, or with none, a peer is not ours to remove."""
    fixture = kept(1)
    bare = Peer(PrivateKey(b"b" * 32).public_key())
    fixture.interface.apply([FOREIGN, bare])
    fixture.keeper.reconcile()

    assert fixture.kernel.configuration()[FOREIGN.public_key] == FOREIGN
    assert bare.public_key in fixture.kernel.peers
    assert fixture.keeper.foreign == 2


def test_before_the_table_is_complete_nobody_is_removed() -> None:
    """A gateway that knows only what it found on the interface can't tell who does not belong there."""
    fixture = kept(1, complete=False)
    fixture.interface.apply([peer(2)])
    fixture.keeper.reconcile()
    assert peer(2)[:32] in fixture.kernel.peers
    fixture.keeper.replace(fixture.table)
    fixture.keeper.reconcile()

    assert fixture.is_equal()


def test_from_an_interrupted_reading_nobody_is_removed() -> None:
    """It is read again soon instead, and until then the interface does not count as equal."""
    fixture = kept(1)
    fixture.interface.apply([peer(2)])
    fixture.kernel.interrupt_message = 0
    fixture.keeper.reconcile()
    assert peer(2)[:32] in fixture.kernel.peers
    assert not fixture.keeper.equal
    assert fixture.keeper.next_reconcile == fixture.now + RECONCILE_AGAIN
    fixture.kernel.interrupt_message = None
    fixture.keeper.reconcile()

    assert fixture.is_equal()
    assert fixture.keeper.equal


def test_how_often_it_is_compared() -> None:
    """Every minute; soon after a repair; and not in a circle if the repair does not last."""
    fixture = kept(1)
    assert fixture.keeper.next_reconcile == fixture.now + RECONCILE_AGAIN
    fixture.keeper.reconcile()
    assert fixture.keeper.next_reconcile == fixture.now + RECONCILE_EVERY
    for _ in range(5):
        fixture.interface.apply(remove=[peer(1)[:32]])
        fixture.keeper.reconcile()

    assert fixture.keeper.stubborn == 1
    assert fixture.keeper.next_reconcile == fixture.now + RECONCILE_EVERY


def test_a_change_that_the_kernel_refuses_is_tried_again_soon() -> None:
    """It is not acknowledged, and is compared and put again within a second."""
    fixture = kept(1)
    fixture.keeper.reconcile()
    fixture.kernel.refuse[peer(2)[:32]] = EBUSY
    fixture.table.put(peer(2))
    fixture.keeper.apply(Update([], [peer(2)]))
    assert not fixture.keeper.equal
    assert fixture.keeper.next_reconcile == fixture.now + RECONCILE_SOON
    fixture.keeper.reconcile()
    assert not fixture.keeper.equal
    assert fixture.keeper.next_reconcile == fixture.now + RECONCILE_SOON
    fixture.kernel.refuse.clear()
    fixture.keeper.reconcile()

    assert fixture.is_equal()
    assert fixture.keeper.equal


def test_what_can_not_be_read_is_put_off() -> None:
    """Until the interface can be read again nothing is known of it."""
    fixture = kept(1)
    fixture.keeper.put_off(3)

    assert not fixture.keeper.equal
    assert fixture.keeper.next_look == fixture.keeper.next_reconcile == fixture.now + 3


# Adopting.


def test_p5_peers_that_are_found_are_taken_as_the_table() -> None:
    """Those in the pools, with preshared key and addresses; a keepalive is not taken over."""
    interface = FakeInterface()
    odd = replace(peer(3).peer(), allowed_ips=(*peer(3).peer().allowed_ips, ip_network("10.9.9.9/32")))
    outside = Peer(
        PrivateKey(b"o" * 32).public_key(), (ip_network("192.0.2.1/32"), ip_network("fd00::5/128"))
    )
    interface.apply([peer(1), replace(peer(2).peer(), persistent_keepalive=25), odd, outside, FOREIGN])
    table = adopted(interface, PeerTable(POOLS, own_key=bytes(32)), [POOLS])

    assert table.peers == {peer(1)[:32]: peer(1), peer(2)[:32]: peer(2)}


def test_peers_of_former_pools_are_still_ours() -> None:
    """After the pools were changed, peers in the old ones are known as ours, and go."""
    fixture = Fixture(1)
    former = Pools.around("172.16.0.1/12", "fd01::1/64")
    old = Peer(PrivateKey(b"o" * 32).public_key(), (ip_network("172.16.0.9/32"), ip_network("fd01::9/128")))
    fixture.interface.apply([old])
    keeper = Keeper(fixture.interface, fixture.table, [POOLS, former], complete=True, now=lambda: 0.0)
    keeper.reconcile()

    assert fixture.is_equal()
