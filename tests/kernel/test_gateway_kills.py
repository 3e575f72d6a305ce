"""P5 on the real kernel: whoever is killed at whatever moment, no peer is lost and none comes back."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

import pytest

from exuvia.gateway import nat, taking
from exuvia.gateway.alias import Alias
from exuvia.gateway.gateway import Gateway
from exuvia.gateway.records import (
    Alive,
    ChangeBegins,
    Follow,
    FromKernel,
    FromNetwork,
    Removal,
    Row,
    SnapshotBegins,
    SnapshotEnds,
    StreamBegins,
    StreamLost,
    Welcome,
)
from exuvia.gateway.settings import Settings
from exuvia.rules import purge
from exuvia.rules.feed import Position, table_digest
from exuvia.rules.ownership import Pools
from exuvia.system import clock
from exuvia.system.interface import open_interface
from exuvia.system.links import Links
from exuvia.testing.feed import peer
from exuvia.testing.site import INTERFACE, Machine
from exuvia.wg.interface import Configured
from exuvia.wg.peers import TunnelPeer

KILLS = int(os.environ.get("EXUVIA_KILLS", "200"))
"""`make soak` asks for more."""

LASTING = 40
PASSING = 30
POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
SETTINGS = Settings("http://127.0.0.1:9", "/none", INTERFACE)
PEERS = {number: peer(number) for number in range(1, LASTING + PASSING + 1)}


def table(revision: int) -> dict[bytes, TunnelPeer]:
    """Return the peer table at a revision: some stay, the others come and go in turn."""
    passing = (LASTING + 1 + (revision + step) % PASSING for step in range(PASSING // 2))
    return {PEERS[number][:32]: PEERS[number] for number in (*range(1, LASTING + 1), *passing)}


class Script:
    """A network process that always has something new to say, and is none."""

    silent_at = float("inf")
    start_at = 0.0
    reads_from = writes_to = -1

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._asked: list[Follow] = []

    def start(self, *, now: float) -> None:
        self.reads_from = 0

    def send(self, record: FromKernel) -> None:
        if isinstance(record, Follow):
            self._asked.append(record)

    def flush(self) -> None:
        """Nothing waits."""

    def records(self, *, now: float) -> Iterator[FromNetwork]:
        yield Welcome(POOLS)
        yield StreamLost()
        while not self._asked:
            yield Alive()
        yield StreamBegins(self._asked[-1].number)
        rows = list(table(self._revision).values())
        yield from (SnapshotBegins(Position("first", self._revision), len(rows)), *map(Row, rows))
        yield SnapshotEnds(table_digest(rows))
        self.records = self._changes  # type: ignore[method-assign]

    def _changes(self, *, now: float) -> Iterator[FromNetwork]:
        before, after = table(self._revision), table(self._revision + 1)
        gone = [row for key, row in before.items() if key not in after]
        come = [row for key, row in after.items() if key not in before]
        position = Position("first", self._revision)
        yield ChangeBegins(position, self._revision + 1, len(gone), len(come))
        yield from (Removal(row.public_key) for row in gone)
        yield from map(Row, come)
        self._revision += 1


@pytest.fixture
def interface() -> Iterator[None]:
    """The interface, as a gateway makes it."""
    subprocess.run(["ip", "link", "add", INTERFACE, "group", "25976", "type", "wireguard"], check=True)
    yield
    subprocess.run(["ip", "link", "del", INTERFACE], check=True)


class Life:
    """A gateway's kernel process in a child of this one, which has all its libraries already."""

    def __init__(self, revision: int) -> None:
        self._begun, writes = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _live(revision, writes)
        os.close(writes)

    def __enter__(self) -> "Life":
        return self

    def wait_begun(self) -> None:
        """Wait until it has taken the interface into care."""
        assert os.read(self._begun, 1) == b"!"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._begun)
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"


def _live(revision: int, begun: int) -> None:
    """Run until killed; looks and purges follow each other as fast as they can."""
    try:
        purge.QUIET = 0.0
        purge.SHORTEST_WAIT = purge.LONGEST_WAIT = 0.002
        # What it takes a process for costs more time here than all the rest.
        taking.give_addresses = nat.end = lambda *_: None
        sys.stdout = sys.stderr = io.StringIO()
        gateway = Gateway(SETTINGS, Script(revision))  # type: ignore[arg-type]
        gateway.begin()
        os.write(begun, b"!")
        while True:
            gateway.do_what_is_due(now=clock.boottime())
            gateway.hear(now=clock.boottime())
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(1)


def look() -> tuple[Alias | None, dict[bytes, TunnelPeer | None]]:
    """Return the alias, and each peer; None for one that is not as a peer of the table has to be."""
    links = Links()
    link = links.find(INTERFACE)
    links.close()
    assert link is not None
    found: dict[bytes, TunnelPeer | None] = {}

    def see(configured: list[Configured]) -> None:
        found.update({bytes(each.public_key): TunnelPeer.from_peer(each) for each, _ in configured})

    opened = open_interface(INTERFACE)
    opened.configurations(None, see)
    # So that the next life has somebody to forget from its first look on.
    for row in table(0).values():
        if row[:32] in found:
            opened.put_with_endpoint(row.peer(), (IPv4Address("192.0.2.7"), 7))
    opened.close()
    return Alias.read(link.alias), found


def test_p5_p9_a_daemon_that_is_killed_at_any_instant(interface: None) -> None:
    """Every peer that stays is there with its addresses; none is half there; none comes back."""
    chance = random.Random(5)
    revision = 0
    for _ in range(KILLS):
        with Life(revision) as life:
            if chance.random() < 0.8:
                life.wait_begun()
            time.sleep(chance.uniform(0, 0.06))
        alias, found = look()
        assert not any(row is None for row in found.values()), "a peer without its configuration"
        if alias is None or alias.position is None:
            assert found.items() <= PEERS_BY_KEY.items()
            continue
        # It is equal to what is written on it, or on the way to what comes next.
        here = alias.position.revision
        tables = [table(at).items() for at in (here, here + 1, revision)]
        certain, possible = tables[0] & tables[1] & tables[2], tables[0] | tables[1] | tables[2]
        assert found.items() >= certain
        assert found.items() <= possible
        revision = here + 3

    assert revision > KILLS


PEERS_BY_KEY = {row[:32]: row for row in PEERS.values()}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A gateway's machine whose feed answers."""
    made = Machine(tmp_path)
    try:
        with made.serving():
            yield made
    finally:
        made.close()


def test_p5_the_network_process_is_killed_again_and_again(machine: Machine) -> None:
    """Each time it is started anew, and the interface follows the feed as if nothing had happened."""
    chance = random.Random(6)
    gateway = machine.run()
    gateway.wait_ready()
    for number in range(1, 16):
        machine.feed.change(put=[peer(number)], remove=[peer(number - 5)[:32]] if number > 5 else [])
        time.sleep(chance.uniform(0, 0.5))
        network = gateway.network_pid
        if network is not None:
            os.kill(network, signal.SIGKILL)
    machine.feed.wait_applied()

    assert machine.is_equal()
    assert gateway.process.poll() is None


def test_p5_both_processes_are_killed_while_the_feed_goes_on(machine: Machine) -> None:
    """The real thing, killed at random moments of its life: it converges each time."""
    chance = random.Random(7)
    machine.feed.change(put=[peer(number) for number in range(1, 21)])
    for life in range(8):
        gateway = machine.run()
        if life % 2:
            gateway.wait_ready()
        time.sleep(chance.uniform(0, 2))
        machine.feed.change(put=[peer(30 + life)], remove=[peer(1 + life)[:32]])
        time.sleep(chance.uniform(0, 0.02))
        gateway.kill()
        shown = machine.show()
        known = {row[:32] for row in map(peer, range(1, 40))}
        assert set(shown) <= known
        assert all(entry.allowed_ips for entry in shown.values())
    machine.run().wait_ready()

    assert machine.is_equal()
