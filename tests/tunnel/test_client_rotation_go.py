"""A change of keys over wireguard-go, on a machine with several processors: nothing is lost here either."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exuvia.testing.chatter import Chatter, leaks
from exuvia.testing.home import WEB, WEB6, World
from exuvia.testing.namespaces import Namespace
from exuvia.testing.rotator import Rotator
from exuvia.testing.traffic import Program


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A home, and gateways run by wireguard-go."""
    made = World(tmp_path, go=True)
    made.state.mkdir(mode=0o700)
    yield made
    made.close()


@pytest.fixture
def rotator(world: World) -> Iterator[Rotator]:
    """Its network, connected to the first gateway."""
    made = Rotator(world)
    made.up()
    yield made
    made.kill()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """What starts a program in a namespace."""
    made: list[Program] = []

    def start(namespace: Namespace, *arguments: object) -> Program:
        made.append(Program(namespace, *arguments))
        return made[-1]

    yield start
    for program in made:
        program.kill()


def processes(interface: str) -> int:
    """Return how many wireguard-go processes run an interface."""
    wanted = b"\0".join([b"wireguard-go", b"-f", interface.encode(), b""])
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes() == wanted
        except OSError:
            continue
    return found


def test_every_packet(world: World, rotator: Rotator, start: Callable[..., Program]) -> None:
    """Datagrams over five changes: none lost, none twice; connections go on, and are told of the end."""
    server = start(world.gateways[0].namespace, "serve")
    echoes = [start(world.home, "echo", address, n, 200) for n, address in enumerate((WEB, WEB6))]
    transfers = [start(world.home, "transfer", address, 50) for address in (WEB, WEB6)]
    rotator.rotate()
    time.sleep(0.5)
    for transfer in (program.end() for program in transfers):
        assert (transfer["broken"], transfer["received"]) == ("", transfer["sent"])
    late = start(world.home, "transfer", WEB, 50)
    for _ in range(4):
        rotator.rotate()
        time.sleep(0.3)
    told, heard = [program.end() for program in echoes], server.end()

    for number in (0, 1):
        assert (told[number]["received"], told[number]["duplicated"]) == (told[number]["sent"], 0)
        assert (heard[str(number)]["received"], heard[str(number)]["duplicated"]) == (told[number]["sent"], 0)
        assert len(set(heard[str(number)]["addresses"])) == 6
    assert late.end()["broken"]


def test_nothing_leaks_and_nothing_is_left(world: World, rotator: Rotator) -> None:
    """Also when the client is killed between two tunnels: closed, then taken down with both processes."""
    chatter = Chatter(world.home, [gateway.address for gateway in world.gateways])
    world.wiretap.packets()
    with chatter.talking():
        rotator.rotate(1)
        time.sleep(0.2)
        rotator.kill()
        time.sleep(0.5)
    packets = world.wiretap.packets()
    chatter.close()
    assert leaks(packets, world) == []

    assert world.client("down").stdout == "down\n"
    assert world.interface not in world.home.run("ip", "-br", "link")
    assert world.home.run("nft", "list", "ruleset") == ""
    assert world.home.run("ip", "rule").count("\n") == 3
    assert world.home.run("ip", "-6", "rule").count("\n") == 2
    assert processes(world.interface) + processes(f"{world.interface}b") == 0


def test_the_last_of_them(world: World, rotator: Rotator) -> None:
    """An old tunnel that has ended takes its process with it."""
    for _ in range(3):
        rotator.rotate()
        assert processes(world.interface) + processes(f"{world.interface}b") == 2
        rotator.call("end_old")
        assert processes(world.interface) + processes(f"{world.interface}b") == 1
        assert world.pings()
    assert rotator.call("take_down") == []
    assert processes(world.interface) + processes(f"{world.interface}b") == 0
