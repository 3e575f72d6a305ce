"""Two tunnels over time, in virtual time: holding, kicking, draining."""

import contextlib
import errno
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from exuvia.testing.home import CONTROL, CONTROL_PORT, WEB, WEB6, World
from exuvia.testing.rotator import Rotator
from exuvia.testing.traffic import Program
from exuvia.wg.timing import REKEY_TIMEOUT


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home, an internet and two gateways."""
    made = World(tmp_path_factory.mktemp("town"))
    yield made
    made.close()


@pytest.fixture
def world(town: World) -> World:
    """A new home."""
    town.new_home()
    return town


@pytest.fixture
def rotator(world: World) -> Iterator[Rotator]:
    """Its network, connected to the first gateway."""
    made = Rotator(world)
    made.up()
    yield made
    made.kill()


@pytest.fixture
def server(town: World) -> Iterator[Program]:
    """What answers at the other end."""
    made = Program(town.gateways[0].namespace, "serve")
    yield made
    made.kill()


def reaches_control(world: World, *, uid: int = 0) -> bool:
    """Say whether somebody at home reaches the control plane, through the tunnel."""
    script = f"import socket; socket.create_connection(({CONTROL!r}, {CONTROL_PORT}), 2)"
    command = world.home.command("setpriv", f"--reuid={uid}", "/usr/bin/python3", "-c", script)
    return subprocess.run(command, capture_output=True).returncode == 0


def test_held(world: World, rotator: Rotator) -> None:
    """Beyond its time nothing of the user's enters a tunnel, while the client reaches the control plane."""
    with world.internet.inside():
        listener = socket.create_server((CONTROL, CONTROL_PORT))
    with listener:
        rotator.call("hold", time.time() + 60)
        time.sleep(50)
        assert world.pings(WEB)
        assert world.pings(WEB6)
        time.sleep(15)
        assert not world.pings(WEB)
        assert not world.pings(WEB6)
        assert reaches_control(world)
        assert not reaches_control(world, uid=65534)
        rotator.rotate()
        assert not world.pings(WEB)

        rotator.call("hold", time.time() + 30)
        assert world.pings(WEB)
        time.sleep(31)
        assert not world.pings(WEB)
        rotator.call("hold", None)
        assert world.pings(WEB)
        assert world.pings(WEB6)
        assert reaches_control(world, uid=65534)


def test_held_connections_survive(world: World, rotator: Rotator, server: Program) -> None:
    """What is held for seconds goes on where it was, also a beginning; nothing is told that it failed."""
    transfer = Program(world.home, "transfer", WEB, 10)
    rotator.call("hold", time.time() + 2)
    time.sleep(3)
    with world.home.inside():
        beginning = socket.socket()
    beginning.setblocking(False)
    assert beginning.connect_ex((WEB, 7007)) == errno.EINPROGRESS
    time.sleep(5)
    assert beginning.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    rotator.call("hold", None)
    time.sleep(10)
    assert beginning.send(b"hello") == 5
    beginning.close()
    time.sleep(20)
    told = transfer.end()

    assert (told["broken"], told["received"]) == ("", told["sent"])
    assert told["stall"] > 5


def test_held_guests(world: World, rotator: Rotator) -> None:
    """What is forwarded for others is held as well."""
    rotator.call("hold", time.time() - 1)
    rules = world.home.run("nft", "list", "chain", "inet", "exuvia_client", "forward")

    assert 'oifname "exuvia0" meta time < ' in rules
    assert 'oifname "exuvia0" drop' in rules


def test_a_kick(world: World, rotator: Rotator) -> None:
    """A gateway that learns the key late is reached at once after a kick, else after REKEY_TIMEOUT."""
    took = {}
    for kicked in (False, True):
        key, grant = rotator.register(on=())
        rotator.call("prepare", rotator.gateway(0), key, grant)
        rotator.call("kick")
        time.sleep(1)
        assert rotator.call("look_beside")[0] == 0
        world.gateways[0].add(rotator.devices[-1])
        began = time.monotonic()
        if kicked:
            rotator.call("kick")
        rotator.wait(lambda: rotator.call("look_beside")[0])
        took[kicked] = time.monotonic() - began
        rotator.call("abandon")

    assert took[True] < 1 < REKEY_TIMEOUT - 2 < took[False]


def test_no_handshake_before_a_kick(world: World, rotator: Rotator) -> None:
    """A tunnel that was only prepared says nothing to anybody, for as long as it takes."""
    key, grant = rotator.register()
    rotator.call("prepare", rotator.gateway(0), key, grant)
    time.sleep(3600)

    assert rotator.call("look_beside")[:3] == [0, 0, 0]


def test_idle(world: World, rotator: Rotator, server: Program) -> None:
    """The old tunnel is idle once no socket has its address and it was silent for 15 s, and not before."""
    transfer = Program(world.home, "transfer", WEB, 1)
    silent = listening(world, "10.77.0.2")
    rotator.rotate()
    for _ in range(30):
        time.sleep(2)
        assert not rotator.call("old_is_idle")
    transfer.end()
    for _ in range(20):
        time.sleep(2)
        assert not rotator.call("old_is_idle")
    silent.close()
    assert rotator.call("old_is_idle")
    rotator.call("end_old")

    connected = Program(world.home, "echo", WEB, 1, 0.5, "connected")
    rotator.rotate()
    time.sleep(2)
    connected.end()
    times = [(rotator.call("old_is_idle"), time.sleep(2)) for _ in range(12)]
    assert [idle for idle, _ in times[:7]] == [False] * 7
    assert times[-1][0]


def listening(world: World, address: str) -> socket.socket:
    """Return a socket of that address at home."""
    with world.home.inside():
        return socket.create_server((address, 5001))


def test_an_idle_tunnel_with_keepalives(world: World, rotator: Rotator) -> None:
    """Keepalives alone don't keep an old tunnel."""
    rotator.call("keep_alive", 25)
    rotator.rotate()
    with contextlib.suppress(StopIteration):
        for _ in range(60):
            time.sleep(2)
            if rotator.call("old_is_idle"):
                raise StopIteration
        raise AssertionError("it never is idle")
    assert "\t25\n" in world.home.run("wg", "show", "exuvia0b", "persistent-keepalive")
