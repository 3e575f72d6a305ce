"""A client killed at any moment of a change of keys: closed until taken down, and then nothing is left."""

import time
from collections.abc import Iterator

import pytest

from exuvia.testing.chatter import Chatter, leaks
from exuvia.testing.home import World
from exuvia.testing.rotator import Rotator

MOMENTS = {
    "prepare": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "switch": (0.0, 0.02, 0.05),
    "end_old": (0.0, 0.03, 0.1),
}
"""Seconds after the beginning of a step at which the client is killed."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home, an internet and two gateways."""
    made = World(tmp_path_factory.mktemp("town"))
    made.state.mkdir(mode=0o700)
    yield made
    made.close()


@pytest.fixture
def chatter(world: World) -> Iterator[Chatter]:
    """Programs at home that talk to everybody."""
    made = Chatter(world.home, [gateway.address for gateway in world.gateways])
    yield made
    made.close()


def network_of(world: World) -> set[str]:
    """Everything at home that a client may change."""
    commands = (
        *("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all"),
        *("ip -br link", "nft list ruleset", "sysctl net.ipv4.conf.all.arp_ignore"),
    )
    return set("".join(world.home.run(*command.split()) for command in commands).splitlines())


@pytest.mark.parametrize("step", ["prepare", "switch", "end_old"])
def test_killed_in_a_step(world: World, chatter: Chatter, step: str) -> None:
    """Whenever it is killed, nothing leaks, and `down` removes both tunnels, all rules and tables."""
    before = network_of(world)
    for moment in MOMENTS[step]:
        rotator = Rotator(world)
        rotator.up()
        arguments = (rotator.gateway(1), *rotator.register()) if step == "prepare" else ()
        if step != "prepare":
            rotator.prepare(1)
        if step == "end_old":
            rotator.call("switch")
        chatter.talk()
        world.wiretap.packets()
        rotator.begin(step, *arguments)
        time.sleep(moment)
        rotator.kill()
        for _ in range(3):
            chatter.talk()
            time.sleep(0.03)
        assert leaks(world.wiretap.packets(), world) == []
        assert world.client("down").stdout == "down\n"
        assert network_of(world) == before


def test_the_next_client_clears_up(world: World, chatter: Chatter) -> None:
    """A client that starts after one that was killed between two tunnels begins with none, still closed."""
    rotator = Rotator(world)
    rotator.up()
    rotator.rotate()
    rotator.kill()
    world.wiretap.packets()
    with chatter.talking():
        rotator.start()
        assert rotator.call("clear_up") == []
        assert "exuvia0" not in world.home.run("ip", "-br", "link")
        rotator.up()
        rotator.rotate()
        time.sleep(0.1)
    assert leaks(world.wiretap.packets(), world) == []
    assert world.pings()
    assert rotator.call("take_down") == []
    rotator.kill()
