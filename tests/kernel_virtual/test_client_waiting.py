"""The client over minutes and hours, in virtual time: what it does when the other side goes silent."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.testing.home import World

BLOCKED = """
table ip censor {
  chain input { type filter hook input priority 0; iifname "to-home" tcp dport 443 drop; }
}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A home with a client that is logged in."""
    made = World(tmp_path)
    try:
        with made.serving():
            made.log_in()
            yield made
    finally:
        made.close()


@contextlib.contextmanager
def surfing(world: World) -> Iterator[None]:
    """Ping through the tunnel every second while the block runs."""
    with subprocess.Popen(
        world.home.command("ping", "-q", "-i", "1", "198.18.0.1"), stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_gateway_with_a_new_key(world: World) -> None:
    """If its gateway was made anew with another key, the client learns the key and is connected again.

    Also where a strict reverse path filter judges the control plane's answers.
    """
    world.home.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    with surfing(world):
        world.gateways[0].new_key()
        world.list_gateways()
        client.wait_for("connected to gw1", times=2, seconds=400)

    assert "gw1 no longer answers" in client.printed
    assert world.pings()


def test_another_gateway_if_any_will_do(world: World) -> None:
    """A client that may use any gateway moves on when its gateway stays silent."""
    client = world.up()
    client.wait_for("connected to")
    first = world.status()["gateway"]
    other = {"gw1": "gw2", "gw2": "gw1"}[first]
    gateway = next(gateway for gateway in world.gateways if gateway.name == first)
    with surfing(world):
        gateway.namespace.ip("link set eth0 down")
        client.wait_for(f"connected to {other}", seconds=400)

    assert world.pings()


def test_an_idle_hour_is_no_loss(world: World) -> None:
    """A client through which nothing is sent stays connected for hours, and the first packet gets through."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    time.sleep(2 * 3600)
    assert world.status()["state"] == "connected"
    assert world.pings()

    assert client.printed.count("\n") == 1


def test_only_keepalives_are_no_loss(world: World) -> None:
    """Keepalives, which nobody answers, do not make a tunnel look lost."""
    client = world.up("--gateway", "gw1", "--keepalive", "25")
    client.wait_for("connected to gw1")
    time.sleep(3600)

    assert client.printed.count("\n") == 1
    assert world.pings()


def test_a_wire_that_comes_back(world: World) -> None:
    """After hours without a network the client is connected again by itself, and was never open meanwhile."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    with surfing(world):
        world.internet.ip("link set to-home down")
        client.wait_for("no longer answers", seconds=400)
        time.sleep(3600)
        assert world.status()["state"] == "connecting"
        assert client.printed.count("connected to gw1") == 1
        assert "exuvia_client" in world.home.run("nft", "list", "tables")
        world.internet.ip("link set to-home up")
        client.wait_for("connected to gw1", times=2, seconds=60)

    assert world.pings()


def test_a_device_removed_while_it_is_up(world: World) -> None:
    """A device that was removed is told so, stays closed, keeps its key, and asks no more."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    state = (world.state / "state.json").read_bytes()
    with surfing(world):
        world.control.devices.clear()
        for gateway in world.gateways:
            gateway.admit([])
        client.wait_for("does not know this device", seconds=400)
        told = world.status()
        assert (told["state"], told["kill_switch"]) == ("refused", True)
        assert "does not know this device" in told["reason"]
        asked = len(world.control.asked)
        time.sleep(3600)

    assert len(world.control.asked) == asked
    assert (world.state / "state.json").read_bytes() == state
    assert client.terminate() == 0
    assert "exuvia_client" not in world.home.run("nft", "list", "tables")


def test_a_removed_device_may_be_let_go(world: World) -> None:
    """With --kill-switch-on-revoke lift everything is taken down, and the exit status is 1."""
    client = world.up("--gateway", "gw1", "--kill-switch-on-revoke", "lift")
    client.wait_for("connected to gw1")
    with surfing(world):
        world.control.devices.clear()
        for gateway in world.gateways:
            gateway.admit([])
        assert client.process.wait(400) == 1

    assert "does not know this device" in client.printed
    assert world.home.run("nft", "list", "ruleset") == ""


def test_an_account_that_is_suspended_for_a_while(world: World) -> None:
    """While the account is suspended the client says why, and is connected again soon after it is active."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    devices = list(world.control.devices)
    with surfing(world):
        world.control.refuse = {("GET", "/v1/gateways"): (403, "The account is suspended")}
        for gateway in world.gateways:
            gateway.admit([])
        client.wait_for("The account is suspended", seconds=400)
        time.sleep(3600)
        assert client.printed.count("suspended") == 1
        assert world.status()["reason"] == "the account is not active: The account is suspended"
        world.control.refuse = {}
        for gateway in world.gateways:
            gateway.admit(devices)
        client.wait_for("connected to gw1", times=2, seconds=400)

    assert world.status()["reason"] is None


def test_the_list_is_caught_up_with_through_the_tunnel(world: World) -> None:
    """A client that connected by what it knew asks the control plane once it can, through the tunnel."""
    world.internet.run("nft", "-f", "-", text=BLOCKED)
    client = world.up("--gateway", "gw1")
    client.wait_for("going by what was known before", seconds=60)
    asked = len(world.control.asked)
    world.wiretap.packets()
    client.wait_for("connected to gw1", seconds=60)
    end = time.monotonic() + 60
    while len(world.control.asked) == asked:
        assert time.monotonic() < end
        time.sleep(1)

    assert not {packet.kind for packet in world.wiretap.packets()} & {"tcp"}
