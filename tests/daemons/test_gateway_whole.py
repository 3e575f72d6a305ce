"""A gateway's kernel process as a whole, on an interface that is not there and a clock that is moved."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from exuvia.errors import GarbledAnswer, GarbledRecord, InterfaceUnavailable
from exuvia.gateway import care, gateway, keeping, saying, taking
from exuvia.gateway.alias import Alias
from exuvia.gateway.gateway import Gateway
from exuvia.gateway.records import (
    Applied,
    Beat,
    ChangeBegins,
    Follow,
    FromKernel,
    FromNetwork,
    Identity,
    Removal,
    Row,
    SnapshotBegins,
    SnapshotEnds,
    StreamBegins,
    StreamLost,
    Welcome,
    WentBack,
)
from exuvia.gateway.settings import Settings
from exuvia.gateway.taking import Taken
from exuvia.rules.feed import Position, table_digest
from exuvia.rules.ownership import Pools
from exuvia.system import clock
from exuvia.testing.feed import peer
from exuvia.testing.interface import FakeInterface
from exuvia.wg.keys import PrivateKey, PublicKey
from exuvia.wg.peers import TunnelPeer

POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
OTHER_POOLS = Pools.around("172.16.0.1/12", "fd01::1/64")
LEASE = 600.0
SETTINGS = Settings("https://control.example", "/token", "wg0", lease=LEASE)


class FakeNetwork:
    """A network process that says what a test wants."""

    def __init__(self) -> None:
        self.sent: list[FromKernel] = []
        self.says: deque[FromNetwork | Exception] = deque()
        self.reads_from = -1
        self.writes_to = -1
        self.silent_at = 1e9
        self.start_at = 0.0
        self.started = 0

    def start(self, *, now: float) -> None:
        self.reads_from = 3
        self.started += 1

    def restart(self, *, now: float, chance: float) -> None:
        self.reads_from = -1
        self.start_at = now + 0.2
        self.silent_at = 1e9

    def flush(self) -> None:
        pass

    def send(self, record: FromKernel) -> None:
        if self.reads_from >= 0:
            self.sent.append(record)

    def records(self, *, now: float) -> Iterator[FromNetwork]:
        while self.says:
            record = self.says.popleft()
            if isinstance(record, Exception):
                raise record
            yield record


class FakeLinks:
    """Keeps the alias of the one interface."""

    alias = ""

    def write_alias(self, index: int, text: str) -> None:
        FakeLinks.alias = text

    def close(self) -> None:
        pass


class Fixture:
    """A gateway, and all around it that is not real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.missing = False
        self.key = PrivateKey(b"g" * 32)
        self.said: list[str] = []
        self.interface = FakeInterface()
        FakeLinks.alias = ""
        monkeypatch.setattr(clock, "boottime", lambda: self.now)
        monkeypatch.setattr(care, "Links", FakeLinks)
        monkeypatch.setattr(taking, "take", self.take)
        monkeypatch.setattr(taking, "give_addresses", lambda *_: None)
        monkeypatch.setattr(care.nat, "end", lambda _: None)
        monkeypatch.setattr(keeping.conntrack, "forget", lambda _: 0)
        monkeypatch.setattr(saying.Alarms, "raise_", lambda _, text: self.said.append(text))
        monkeypatch.setattr(gateway, "say", self.said.append)
        self.start()

    def start(self, **settings: Any) -> None:
        """Start the daemon, again if there was one."""
        self.network = FakeNetwork()
        known = {name: getattr(SETTINGS, name) for name in Settings.__dataclass_fields__}
        self.gateway = Gateway(Settings(**{**known, **settings}), self.network)  # type: ignore[arg-type]
        self.gateway.begin()
        self.pass_time(0)

    def take(self, settings: Settings, links: object, *, make: bool) -> Taken:
        """Stand in for taking.take()."""
        if self.missing:
            raise InterfaceUnavailable("there is no interface wg0 any more")
        return Taken(self.interface, self.key.public_key(), 51820, made=True, alias=FakeLinks.alias)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, doing what is due as a loop would."""
        end = self.now + seconds
        while True:
            self.gateway.do_what_is_due(now=self.now)
            due = self.gateway.next_due()
            if due > end:
                break
            assert due > self.now, "a loop would go round and round"
            self.now = due
        self.now = end

    def hear(self, *records: FromNetwork | Exception) -> None:
        """Let the network process say something."""
        self.network.says.extend(records)
        self.gateway.hear(now=self.now)

    def connect(self, pools: Pools = POOLS) -> Follow:
        """Let the network process reach the control plane; return where it is to follow from."""
        self.hear(Welcome(pools), StreamLost())
        follow = self.network.sent[-1]
        assert isinstance(follow, Follow)
        self.hear(StreamBegins(follow.number))
        return follow

    def snapshot(self, *numbers: int, at: Position) -> None:
        """Let a whole snapshot come in."""
        rows = [peer(number) for number in numbers]
        self.hear(SnapshotBegins(at, len(rows)), *map(Row, rows), SnapshotEnds(table_digest(rows)))

    def change(
        self, after: int, *, put: list[TunnelPeer] | None = None, remove: list[PublicKey] | None = None
    ) -> None:
        """Let a change come in."""
        come, gone = put or [], remove or []
        begin = ChangeBegins(Position("first", after), after + 1, len(gone), len(come))
        self.hear(begin, *map(Removal, gone), *map(Row, come))

    @property
    def served(self) -> set[int]:
        """The numbers of the peers on the interface."""
        names = {peer(number)[:32]: number for number in range(1, 30)}
        return {names[key] for key in self.interface.kernel.peers}

    @property
    def alias(self) -> Alias:
        """What is written on the interface."""
        alias = Alias.read(FakeLinks.alias)
        assert alias is not None
        return alias

    @property
    def acknowledged(self) -> list[Position]:
        """What was acknowledged."""
        return [record.position for record in self.network.sent if isinstance(record, Applied)]


@pytest.fixture
def fixture(monkeypatch: pytest.MonkeyPatch) -> Fixture:
    """A gateway that has just begun."""
    return Fixture(monkeypatch)


def following(fixture: Fixture, *numbers: int) -> Fixture:
    """Return it after a first snapshot."""
    fixture.connect()
    fixture.snapshot(*numbers, at=Position("first", 10))
    assert fixture.served == set(numbers)
    return fixture


def test_from_the_first_word_to_the_first_acknowledgement(
    fixture: Fixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says who it is, asks for a snapshot, applies it, says that it is ready, and acknowledges."""
    assert fixture.network.sent == [Identity(fixture.key.public_key(), lasting=False)]
    assert fixture.connect().position is None
    assert fixture.acknowledged == []
    fixture.snapshot(1, 2, at=Position("first", 10))

    assert fixture.served == {1, 2}
    assert fixture.acknowledged == [Position("first", 10)]
    assert capsys.readouterr().out == "exuvia gateway: wg0 is ready: 2 peers, revision 10\n"


def test_it_acknowledges_every_change_and_every_heartbeat(fixture: Fixture) -> None:
    """Each is a sign of life, and the interface is as the position says."""
    following(fixture, 1)
    fixture.change(10, put=[peer(2)], remove=[peer(1).public_key])
    fixture.hear(Beat(Position("first", 11)))

    assert fixture.served == {2}
    assert fixture.acknowledged == [Position("first", 10), Position("first", 11), Position("first", 11)]
    assert fixture.alias.position == Position("first", 11)


def test_p5_a_restart_goes_on_where_the_interface_is(fixture: Fixture) -> None:
    """It takes the interface's peers as its table, asks for a snapshot, and knows what to refuse."""
    following(fixture, 1, 2)
    fixture.pass_time(10)
    fixture.start()
    assert fixture.served == {1, 2}
    assert fixture.connect().position is None
    fixture.snapshot(at=Position("first", 9))
    assert fixture.served == {1, 2}
    assert fixture.alias.rewound
    assert fixture.alias.position == Position("first", 10)


def test_p1_a_restart_without_a_control_plane_goes_on_forgetting(fixture: Fixture) -> None:
    """Who is on the interface is forgotten by the same rule, and reinstated as found."""
    following(fixture, 1)
    key = peer(1)[:32]
    fixture.start()
    fixture.interface.kernel.meet(key, handshake=5, rx=148, endpoint=b"e" * 16)
    fixture.pass_time(182)

    assert not fixture.interface.kernel.peers[key].endpoint
    assert fixture.interface.kernel.configuration()[key].same_as(peer(1).peer())


def test_p8_the_lease_goes_on_through_restarts(fixture: Fixture) -> None:
    """It counts from the last confirmation, whichever daemon heard it."""
    following(fixture, 1, 2)
    for _ in range(3):
        fixture.pass_time(LEASE / 4)
        fixture.start()
    fixture.pass_time(LEASE / 4 - 1)
    assert fixture.served == {1, 2}
    fixture.pass_time(1)

    assert fixture.served == set()
    assert "not confirmed for a lease" in fixture.said[-1]
    assert fixture.connect().position is None
    fixture.snapshot(1, at=Position("first", 10))
    assert fixture.served == {1}


def test_p9_a_rewind_is_remembered_through_restarts(fixture: Fixture) -> None:
    """Nothing more of that epoch is believed, and a new one is."""
    following(fixture, 1, 2)
    fixture.hear(WentBack())
    assert fixture.alias.rewound
    assert any("an older database was put back" in text for text in fixture.said)
    fixture.start()
    fixture.connect()
    fixture.snapshot(1, 2, 3, at=Position("first", 99))
    assert fixture.served == {1, 2}
    fixture.connect()
    fixture.snapshot(1, 2, 3, at=Position("second", 1))

    assert fixture.served == {1, 2, 3}
    assert not fixture.alias.rewound
    assert fixture.acknowledged[-1] == Position("second", 1)


def test_p9_what_was_applied_is_said_before_a_snapshot_is_asked_for(fixture: Fixture) -> None:
    """A control plane that was put back, and has grown since, learns that it is of another history."""
    following(fixture, 1, 2)
    fixture.start()
    fixture.connect()

    assert fixture.network.sent[-2:] == [Applied(Position("first", 10)), Follow(1, None)]


def test_who_knows_of_nothing_claims_nothing(fixture: Fixture) -> None:
    """Nor does one that goes on from where it is: its question says that."""
    fixture.connect()
    assert fixture.acknowledged == []
    fixture.snapshot(1, at=Position("first", 10))
    fixture.connect()

    assert fixture.acknowledged == [Position("first", 10)]


def test_p18_an_implausible_snapshot_is_an_alarm(fixture: Fixture) -> None:
    """Most peers stay, the new one is served, an operator is told, and a restart still knows."""
    following(fixture, 1, 2, 3)
    fixture.connect()
    fixture.snapshot(9, at=Position("second", 1))
    assert fixture.served == {1, 2, 3, 9}
    assert any("lacks 3 of the peers" in text for text in fixture.said)
    fixture.start()
    fixture.connect()
    fixture.snapshot(9, at=Position("second", 1))
    assert fixture.served == {1, 2, 3, 9}
    fixture.start(accept_snapshot=True)
    fixture.connect()
    fixture.snapshot(9, at=Position("second", 1))

    assert fixture.served == {9}


def test_p10_a_row_that_does_not_fit_is_an_alarm(fixture: Fixture) -> None:
    """The others are applied, and somebody is told how many were not."""
    following(fixture, 1)
    fixture.change(10, put=[TunnelPeer(peer(2)[:32] + peer(1)[32:]), peer(3)])

    assert fixture.served == {1, 3}
    assert any("1 rows of the peer table were refused" in text for text in fixture.said)


def test_a_gap_is_closed_by_asking_again(fixture: Fixture) -> None:
    """A change that does not follow is no alarm: the rest is asked for."""
    following(fixture, 1)
    said = len(fixture.said)
    fixture.change(11, put=[peer(3)])

    assert fixture.network.sent[-1] == Follow(2, Position("first", 10))
    assert fixture.served == {1}
    assert len(fixture.said) == said


def test_a_malformed_snapshot_is_an_alarm(fixture: Fixture) -> None:
    """It changes nothing, and another one is asked for."""
    following(fixture, 1)
    fixture.connect()
    fixture.hear(SnapshotBegins(Position("first", 11), 0), SnapshotEnds(b"x" * 32))

    assert fixture.served == {1}
    assert isinstance(fixture.network.sent[-1], Follow)
    assert any("cut short" in text for text in fixture.said)


@pytest.mark.parametrize(
    "trouble", [EOFError(), GarbledRecord("rubbish"), Row(peer(1)), Beat(Position("first", 10))]
)
def test_a_network_process_that_ends_or_talks_rubbish_is_started_anew(
    fixture: Fixture, trouble: FromNetwork | Exception
) -> None:
    """The table stays, and the new one is told who we are and where to follow from."""
    following(fixture, 1)
    fixture.hear(trouble, *([Row(peer(1))] if isinstance(trouble, Beat) else []))
    assert fixture.network.reads_from == -1
    fixture.pass_time(1)
    assert fixture.network.started == 2
    assert isinstance(fixture.network.sent[-1], Identity)
    assert fixture.served == {1}
    fixture.connect()
    assert fixture.network.sent[-1] == Follow(2, Position("first", 10))


def test_a_network_process_that_is_stuck_is_started_anew(fixture: Fixture) -> None:
    """Without a sign of life for too long it is replaced."""
    following(fixture, 1)
    fixture.network.silent_at = fixture.now + 60
    fixture.pass_time(62)

    assert fixture.network.started == 2
    assert any("stuck" in text for text in fixture.said)


def test_an_interface_that_goes_away_comes_back_with_all_peers(fixture: Fixture) -> None:
    """Meanwhile the feed is followed, but nothing is acknowledged; afterwards everything is there."""
    following(fixture, 1)
    fixture.interface.kernel.gone = fixture.missing = True
    fixture.pass_time(2)
    fixture.change(10, put=[peer(2)])
    assert fixture.acknowledged == [Position("first", 10)]
    fixture.missing = False
    fixture.interface, fixture.key = FakeInterface(index=8), PrivateKey(b"h" * 32)
    fixture.pass_time(1)

    assert fixture.served == {1, 2}
    assert fixture.acknowledged[-1] == Position("first", 11)
    assert Identity(PrivateKey(b"h" * 32).public_key(), lasting=False) in fixture.network.sent
    assert fixture.alias.position == Position("first", 11)


def test_an_interface_that_is_missing_does_not_stop_the_lease(fixture: Fixture) -> None:
    """What was to be served does not come back after its lease, even if the interface does."""
    following(fixture, 1)
    fixture.interface.kernel.gone = fixture.missing = True
    fixture.pass_time(LEASE + 1)
    fixture.missing = False
    fixture.interface = FakeInterface(index=8)
    fixture.pass_time(2)

    assert fixture.served == set()


def test_an_interface_that_can_not_be_read_is_tried_again(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A garbled answer is an alarm, and no reason to let go of the interface."""
    following(fixture, 1)

    def garbled(*_: object, **__: object) -> None:
        raise GarbledAnswer("what the interface says can't be read")

    with monkeypatch.context() as broken:
        broken.setattr(FakeInterface, "look", garbled)
        fixture.pass_time(3)
    assert any("can't be read" in text for text in fixture.said)
    fixture.pass_time(2)
    fixture.change(10, put=[peer(2)])

    assert fixture.served == {1, 2}
    assert fixture.acknowledged[-1] == Position("first", 11)


def test_another_pool(fixture: Fixture) -> None:
    """After the pools were changed, what is in the new ones is served and what was in the old ones goes."""
    following(fixture, 1, 2)
    fixture.connect(OTHER_POOLS)
    fixture.snapshot(at=Position("first", 11))

    assert fixture.served == set()
    assert fixture.alias.pools == OTHER_POOLS


def test_peers_that_were_there_before_the_first_welcome(fixture: Fixture) -> None:
    """On an interface of which nothing is known, peers in the pools count as present; most may not vanish."""
    fixture.interface.apply([peer(1), peer(2), peer(3)])
    fixture.connect()
    fixture.snapshot(3, at=Position("first", 10))
    assert fixture.served == {1, 2, 3}
    fixture.pass_time(LEASE + 1)

    assert fixture.served == set()


def test_the_words_at_the_end(fixture: Fixture) -> None:
    """It says in one line what stays, and how many peers, but of nobody."""
    following(fixture, 1, 2)

    assert fixture.gateway.status() == "wg0: 2 peers, revision 10"
    assert fixture.gateway.farewell().startswith("stopped; wg0 and its 2 peers stay as they are")
    fixture.gateway.close()
    assert fixture.interface.kernel.closed
