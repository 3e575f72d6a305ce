"""The client on the real kernel: up, through the tunnel, and down again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.testing.home import FIRST_RESOLV_CONF, RESOLVER, WEB, WEB6, World


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


def network_of(world: World) -> set[str]:
    """Everything at home that a client may change."""
    commands = (
        *("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all"),
        *("ip -br link", "nft list ruleset", "sysctl net.ipv4.conf.all.arp_ignore"),
    )
    found = "".join(world.home.run(*command.split()) for command in commands)
    return set((found + world.resolv_conf()).splitlines())


def test_up_and_down(world: World) -> None:
    """Up: everything goes through the gateway, by IPv4 and IPv6. Down: all is as it was."""
    before = network_of(world)
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert world.pings(WEB)
    assert world.pings(WEB6)
    assert world.resolv_conf().endswith(f"nameserver {RESOLVER}\n")
    told = world.status()
    assert (told["state"], told["gateway"], told["interface"]) == ("connected", "gw1", "exuvia0")
    assert told["kill_switch"] is True
    assert 0 <= told["handshake_age"] < 60

    assert client.terminate() == 0
    assert network_of(world) == before
    assert world.resolv_conf() == FIRST_RESOLV_CONF
    assert world.status()["state"] == "down"
