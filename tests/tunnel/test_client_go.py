"""The client over wireguard-go, on a kernel that has no WireGuard: connected, closed, and nothing leaks."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.testing.chatter import Chatter, is_tunnel, leaks
from exuvia.testing.home import FIRST_RESOLV_CONF, RESOLVER, WEB, WEB6, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A home with a client that is logged in, and gateways run by wireguard-go."""
    made = World(tmp_path, go=True)
    try:
        with made.serving():
            made.log_in()
            yield made
    finally:
        made.close()


@pytest.fixture
def chatter(world: World) -> Iterator[Chatter]:
    """Programs at home that talk to everybody."""
    made = Chatter(world.home, [gateway.address for gateway in world.gateways])
    yield made
    made.close()


def test_up_and_down(world: World) -> None:
    """The tunnel carries IPv4 and IPv6; afterwards neither interface nor process nor table is left."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert world.pings(WEB)
    assert world.pings(WEB6)
    assert RESOLVER in world.resolv_conf()
    assert world.status()["state"] == "connected"

    assert client.terminate() == 0
    assert world.interface not in world.home.run("ip", "-br", "link")
    assert world.home.run("nft", "list", "ruleset") == ""
    assert world.home.run("ip", "rule").count("\n") == 3
    assert world.resolv_conf() == FIRST_RESOLV_CONF
    assert not processes(world.interface)


def test_nothing_leaks(world: World, chatter: Chatter) -> None:
    """From the tunnel's first packet on, through kill -9 and another start, nothing leaves outside it."""
    with chatter.talking():
        client = world.up("--gateway", "gw1")
        client.wait_for("connected to gw1")
        client.kill()
        assert world.status()["state"] == "closed"
        time.sleep(0.3)
        client = world.up("--gateway", "gw2")
        client.wait_for("connected to gw2")
    packets = world.wiretap.packets()
    first = next(n for n, packet in enumerate(packets) if is_tunnel(packet, world))
    assert leaks(packets[:first], world)
    assert leaks(packets[first:], world) == []
    assert world.pings()

    assert client.terminate() == 0
    chatter.talk()
    assert leaks(world.wiretap.packets(), world)


def test_wireguard_go_dies(world: World) -> None:
    """If wireguard-go is killed the client starts another, and is connected again."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    (process,) = processes(world.interface)
    os.kill(process, 9)
    client.wait_for("connected to gw1", times=2)

    assert world.pings()


def test_killed_with_its_client(world: World) -> None:
    """wireguard-go ends with its client, however that ends."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.kill()
    end = time.monotonic() + 10
    while processes(world.interface):
        assert time.monotonic() < end
        time.sleep(0.05)

    assert world.client("down").stdout == "down\n"


def processes(interface: str) -> list[int]:
    """Return the wireguard-go processes of an interface."""
    wanted = b"\0".join([b"wireguard-go", b"-f", interface.encode(), b""])
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
