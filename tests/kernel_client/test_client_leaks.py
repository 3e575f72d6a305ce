"""The kill switch on the real kernel: what crosses the wire while the client comes, is killed, and goes."""

import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from exuvia.client.gateways import Endpoint
from exuvia.client.killswitch import Openings, Passage, removal, ruleset
from exuvia.testing.chatter import Chatter, is_tunnel, leaks
from exuvia.testing.home import CONTROL, CONTROL_PORT, LAN, NEIGHBOUR, NEIGHBOUR6, PORT, WEB, WEB6, World

CLEAR_INSIDE = "from exuvia.client import network; print(network.clear(stay_shut=True))"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home, an internet and two gateways."""
    made = World(tmp_path_factory.mktemp("town"))
    try:
        with made.serving():
            yield made
    finally:
        made.close()


@pytest.fixture
def world(town: World) -> World:
    """A new home with a client that is logged in."""
    town.new_home()
    town.log_in()
    return town


@pytest.fixture
def home(town: World) -> Iterator[tuple[World, Chatter]]:
    """A home without a client, and programs that talk to everybody."""
    town.new_home()
    chatter = Chatter(town.home, [gateway.address for gateway in town.gateways])
    yield town, chatter
    chatter.close()
    load(town, removal())


@pytest.fixture
def chatter(world: World) -> Iterator[Chatter]:
    """Programs at home that talk to everybody."""
    made = Chatter(world.home, [gateway.address for gateway in world.gateways])
    yield made
    made.close()


def said(world: World, chatter: Chatter, *, times: int = 5) -> set[tuple[str, str, int]]:
    """Let everything be said, and return what of it leaked, as kind, destination and port."""
    world.wiretap.packets()
    for _ in range(times):
        chatter.talk()
        time.sleep(0.02)
    return {
        (packet.kind, packet.destination, packet.port) for packet in leaks(world.wiretap.packets(), world)
    }


def test_without_a_client_everything_leaks(home: tuple[World, Chatter]) -> None:
    """What these tests look for is really said: by every protocol, to every kind of address."""
    leaked = said(*home)

    assert {kind for kind, _, _ in leaked} >= {"udp", "tcp", "icmp", "icmpv6"}
    addresses = {address for _, address, _ in leaked}
    assert addresses >= {WEB, NEIGHBOUR, "255.255.255.255", "224.0.0.251", "ff02::fb", CONTROL}
    assert addresses >= {gateway.address for gateway in home[0].gateways}
    assert {port for kind, _, port in leaked if kind == "udp"} >= {53, 5353, 9, PORT}


def test_nothing_leaks_from_the_first_handshake_on(world: World, chatter: Chatter) -> None:
    """From before the first packet of the tunnel on nothing leaves outside it."""
    with chatter.talking():
        client = world.up("--gateway", "gw1")
        client.wait_for("connected to gw1")
        time.sleep(0.5)
    packets = world.wiretap.packets()
    first = next(n for n, packet in enumerate(packets) if is_tunnel(packet, world))

    assert leaks(packets[:first], world)
    assert leaks(packets[first:], world) == []
    assert said(world, chatter) == set()
    assert world.pings()


def test_nothing_leaks_when_it_is_killed_and_comes_back(world: World, chatter: Chatter) -> None:
    """A killed client leaves the kill switch closed, and the next one never opens it on its way up."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    world.wiretap.packets()
    with chatter.talking():
        client.kill()
        assert world.status()["state"] == "closed"
        client = world.up("--gateway", "gw2")
        client.wait_for("connected to gw2")
    assert leaks(world.wiretap.packets(), world) == []
    assert world.pings()

    assert client.terminate() == 0
    assert ("udp", WEB, 9) in said(world, chatter)


def test_a_killed_one_is_taken_down_from_outside(world: World, chatter: Chatter) -> None:
    """After kill -9 `down` opens what was closed, and everything is as before."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.kill()
    assert said(world, chatter) == set()
    done = world.client("down")

    assert (done.returncode, done.stdout) == (0, "down\n")
    assert ("udp", WEB, 9) in said(world, chatter)
    assert world.client("down").stdout == "it was not up\n"


def test_the_kill_switch_opens_last(world: World, chatter: Chatter) -> None:
    """With tunnel, routes and resolver gone, and the kill switch the only thing left, nothing leaks."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    client.kill()
    assert world.home.run(sys.executable, "-c", CLEAR_INSIDE) == "[]\n"

    assert "exuvia0" not in world.home.run("ip", "link", "show")
    assert said(world, chatter) == set()


def test_nothing_leaks_while_it_goes_down(world: World, chatter: Chatter) -> None:
    """On the way down the kill switch is there for as long as the tunnel is."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    world.wiretap.packets()
    order: list[str] = []
    with chatter.talking():
        client.process.terminate()
        while not {"tunnel", "table"} <= set(order):
            # In this order: what is seen to be there in the second look was there in the first.
            table = "exuvia_client" in world.home.run("nft", "list", "tables")
            tunnel = "exuvia0" in world.home.run("ip", "-br", "link")
            if not tunnel and "tunnel" not in order:
                order.append("tunnel")
            if not table and "table" not in order:
                order.append("table")
            assert not (tunnel and not table)
    assert client.process.wait(10) == 0


GATEWAY = Endpoint(ip_address("198.51.101.2"), PORT)
TUNNEL = Passage("exuvia0", IPv4Address("10.77.0.2"), IPv6Address("fd77::2"))
CONNECTED = Openings((TUNNEL,), (GATEWAY,))
CONNECTING = Openings((TUNNEL,), (GATEWAY,), (Endpoint(ip_address(CONTROL), CONTROL_PORT),))
AT_HOME = Openings((TUNNEL,), (GATEWAY,), lan=True)


def load(world: World, text: str) -> None:
    """Load a ruleset at home."""
    world.home.run("nft", "-f", "-", text=text)


def broken(openings: Openings, old: str, new: str) -> str:
    """Return the kill switch with one thing in it changed."""
    text = ruleset(openings)
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    "openings", [Openings(), CONNECTED, CONNECTING], ids=["closed", "connected", "connecting"]
)
def test_the_kill_switch_alone_lets_nothing_out(home: tuple[World, Chatter], openings: Openings) -> None:
    """Without any tunnel or route the kill switch by itself stops all that is said."""
    load(home[0], ruleset(openings))

    assert said(*home) == set()


POLICY = "type filter hook output priority 1000; policy drop;"
REJECT = "reject with icmpx admin-prohibited"
DNS = "meta l4proto { tcp, udp } th dport { 53, 853 }"
DHCP4 = "ip daddr 255.255.255.255 udp sport 68"
DHCP6 = "ip6 saddr fe80::/10 ip6 daddr { ff02::1:2, ff05::1:3 } udp sport 546"
SOLICITS = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }"


@pytest.mark.parametrize(
    ("openings", "old", "new", "leaking"),
    [
        (CONNECTED, REJECT, "accept", ("icmp", WEB, 8)),
        (CONNECTED, 'oifname "lo" accept', "accept", ("udp", NEIGHBOUR, 53)),
        (
            CONNECTED,
            'oifname "exuvia0" ip saddr 10.77.0.2 accept',
            "ip saddr != 10.77.0.2 accept",
            ("udp", WEB, 53),
        ),
        (CONNECTED, "meta mark 0x65780001 ip daddr", "ip daddr", ("udp", "198.51.101.2", PORT)),
        (
            CONNECTED,
            "meta mark 0x65780001 ip daddr 198.51.101.2 ",
            "meta mark 0x65780001 ",
            ("udp", WEB, PORT),
        ),
        (CONNECTING, "meta mark 0x65780002 ip daddr", "ip daddr", ("tcp", CONTROL, CONTROL_PORT)),
        (
            CONNECTING,
            f"meta mark 0x65780002 ip daddr {CONTROL} tcp dport {CONTROL_PORT}",
            f"meta mark 0x65780002 ip daddr {CONTROL}",
            ("udp", CONTROL, 9),
        ),
        (CONNECTED, DHCP4, "udp sport 68", ("udp", WEB, 67)),
        (CONNECTED, DHCP6, "udp sport 546", ("udp", WEB6, 547)),
        (CONNECTED, f"{SOLICITS} ip6 hoplimit 255", SOLICITS, ("icmpv6", WEB6, 135)),
        (CONNECTED, SOLICITS, "meta l4proto 58", ("icmpv6", NEIGHBOUR6, 128)),
        (AT_HOME, f"{DNS} drop\n    ip daddr", "ip daddr", ("udp", LAN, 53)),
    ],
)
def test_a_broken_line_leaks(
    home: tuple[World, Chatter], openings: Openings, old: str, new: str, leaking: tuple[str, str, int]
) -> None:
    """Each line of the kill switch is needed: with one thing in it changed, something leaks, and is seen."""
    load(home[0], broken(openings, old, new))

    assert leaking in said(*home)


def test_the_policy_alone_stops_everything(home: tuple[World, Chatter]) -> None:
    """Refusing is a kindness to programs; also without it nothing is let out. Without both, all is."""
    load(home[0], broken(CONNECTED, REJECT, ""))
    assert said(*home) == set()

    load(home[0], broken(CONNECTED, REJECT, "").replace(POLICY, POLICY.replace("drop", "accept")))
    assert ("udp", WEB, 9) in said(*home)


def test_the_local_network_if_asked_for(home: tuple[World, Chatter]) -> None:
    """With --allow-lan private addresses are reached, but for DNS; all others are not."""
    load(home[0], ruleset(AT_HOME))
    reached = said(*home)

    assert reached >= {("udp", LAN, 9), ("icmp", LAN, 8)}
    assert not {port for _, _, port in reached} & {53, 80}
    assert not {address for _, address, _ in reached} & {WEB, WEB6, NEIGHBOUR, CONTROL}


def test_somebody_flushes_the_firewall(world: World, chatter: Chatter) -> None:
    """If another program flushes all rules, the kill switch is closed again at once, and says what it did."""
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    # Just after it has connected it loads its own rules once more: that closes it too, without a word.
    time.sleep(1)
    world.home.run("nft", "flush", "ruleset")
    client.wait_for("closed again")
    assert said(world, chatter) == set()

    assert client.terminate() == 0
    assert world.home.run("nft", "list", "ruleset") == ""
    assert world.home.run("sysctl", "-n", "net.ipv4.conf.all.arp_ignore").strip() == "0"


def test_killed_at_any_moment(world: World, chatter: Chatter) -> None:
    """Whenever the client is killed on its way up, nothing leaks once closed, and `down` puts all back."""
    before = world.home.run("ip", "rule") + world.home.run("ip", "-6", "rule") + world.resolv_conf()
    for moment in range(12):
        client = world.up("--gateway", "gw1")
        time.sleep(0.25 + 0.06 * moment)
        client.kill()
        if "exuvia_client" in world.home.run("nft", "list", "tables"):
            assert said(world, chatter, times=2) == set()
        assert world.client("down").returncode == 0
        assert world.home.run("nft", "list", "ruleset") == ""
        assert "exuvia0" not in world.home.run("ip", "-br", "link")
        after = world.home.run("ip", "rule") + world.home.run("ip", "-6", "rule") + world.resolv_conf()
        assert after == before
