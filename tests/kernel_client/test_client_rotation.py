"""A change of keys on the real kernel: two tunnels, and every packet counted at both ends."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from exuvia.client.killswitch import Openings, Passage, ruleset
from exuvia.testing.chatter import Chatter, leaks
from exuvia.testing.home import HOME, HOME6, LAN, WEB, WEB6, Gateway, World
from exuvia.testing.namespaces import Packet
from exuvia.testing.rotator import Refused, Rotator
from exuvia.testing.traffic import Program

Start = Callable[..., Program]

OWN = {HOME, HOME6, "192.168.7.2", "0.0.0.0", "::"}
"""The addresses that this home has on the wire."""


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
def servers(town: World) -> Iterator[list[Program]]:
    """What answers at the other end, behind each gateway."""
    made = [Program(gateway.namespace, "serve") for gateway in town.gateways]
    yield made
    for program in made:
        program.kill()


@pytest.fixture
def start(world: World) -> Iterator[Start]:
    """What starts a program at home."""
    made: list[Program] = []

    def start(*arguments: object) -> Program:
        made.append(Program(world.home, *arguments))
        return made[-1]

    yield start
    for program in made:
        program.kill()


def addresses(rotator: Rotator, version: int) -> list[str]:
    """Return the tunnel addresses that there were, in their order."""
    found = (ip_address(text.partition("/")[0]) for device in rotator.devices for text in device.addresses)
    return [str(address) for address in found if address.version == version]


def wrong_sources(packets: list[Packet]) -> set[str]:
    """Return the addresses on the wire that are not this home's own there."""
    found = {packet.source for packet in packets if packet.source} - OWN
    return {address for address in found if not ip_address(address).is_link_local}


def forged(gateway: Gateway) -> int:
    """Return how many packets a gateway has refused because their source was not the key's own."""
    path = f"/sys/class/net/{gateway.interface}/statistics/rx_frame_errors"
    return int(gateway.namespace.run("cat", path))


def test_what_has_no_address_of_its_own(
    world: World, rotator: Rotator, servers: list[Program], start: Start
) -> None:
    """1,000 datagrams a second over three changes: none lost, none twice, each tunnel's own address."""
    before = forged(world.gateways[0])
    programs = [start("echo", address, n, 500) for n, address in enumerate((WEB, WEB6))]
    for _ in range(3):
        rotator.rotate()
        time.sleep(0.3)
    told = [program.end() for program in programs]
    heard = servers[0].end()

    for number, version in ((0, 4), (1, 6)):
        sent = told[number]
        assert (sent["received"], sent["duplicated"], sent["refused"]) == (sent["sent"], 0, 0)
        at_server = heard[str(number)]
        assert (at_server["received"], at_server["duplicated"]) == (sent["sent"], 0)
        assert at_server["addresses"] == addresses(rotator, version)
    assert forged(world.gateways[0]) == before


@pytest.mark.parametrize("strict", [False, True])
def test_what_began_before_goes_on(
    world: World, rotator: Rotator, servers: list[Program], start: Start, strict: bool
) -> None:
    """What began on the old tunnel goes on there, connections and connected sockets, with IPv4 and IPv6."""
    if strict:
        world.home.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    transfers = [start("transfer", address, 50) for address in (WEB, WEB6)]
    connected = start("echo", WEB, 7, 50, "connected")
    rotator.rotate(1 if strict else 0)
    later = start("transfer", WEB, 50)
    time.sleep(0.5)

    for transfer in (program.end() for program in (*transfers, later)):
        assert transfer["broken"] == ""
        assert transfer["received"] == transfer["sent"]
    told = connected.end()
    assert (told["received"], told["duplicated"]) == (told["sent"], 0)
    assert servers[0].end()["7"]["addresses"] == addresses(rotator, 4)[:1]


def test_the_end_of_the_old_is_told(
    world: World, rotator: Rotator, servers: list[Program], start: Start
) -> None:
    """When the old tunnel ends, what still used it learns that at once, and what is new goes on."""
    old = [start("transfer", address, 20) for address in (WEB, WEB6)]
    rotator.rotate()
    new = start("transfer", WEB, 20)
    rotator.call("end_old")
    for program in old:
        broken = program.end()["broken"]
        assert "reset" in broken or "abort" in broken
    told = new.end()

    assert (told["broken"], told["received"]) == ("", told["sent"])
    assert world.home.run("ip", "-br", "link").count("exuvia0") == 1


def test_nothing_leaves_beside_the_tunnels(world: World, rotator: Rotator, servers: list[Program]) -> None:
    """While programs talk to everybody, some insisting on the wire, nothing leaves outside a tunnel."""
    chatter = Chatter(world.home, [gateway.address for gateway in world.gateways])
    before = [forged(gateway) for gateway in world.gateways]
    world.wiretap.packets()
    with chatter.talking():
        for number in (0, 1, 0):
            rotator.rotate(number)
            time.sleep(0.2)
            rotator.call("end_old")
        rotator.prepare()
        rotator.call("abandon")
    packets = world.wiretap.packets()
    chatter.close()

    assert leaks(packets, world) == []
    assert wrong_sources(packets) == set()
    assert [forged(gateway) for gateway in world.gateways] == before
    assert len({packet.data[:2] for packet in packets if packet.kind == "udp"}) >= 5  # a port for each


def test_another_tunnels_address_is_refused(world: World, rotator: Rotator) -> None:
    """Neither by another tunnel nor by the wire does anything leave with a tunnel's address."""
    rotator.rotate()
    first, second = addresses(rotator, 4)
    before = forged(world.gateways[0])
    assert sends(world, first, "exuvia0") and sends(world, second, "exuvia0b")
    for address, device in ((first, "exuvia0b"), (second, "exuvia0"), (first, "eth0"), (HOME, "exuvia0")):
        assert not sends(world, address, device)
    assert forged(world.gateways[0]) == before

    table = world.home.run("nft", "list", "table", "inet", "exuvia_client")
    assert 'oifname "exuvia0b" ip saddr 10.77.0.3 accept' in table
    world.home.run("nft", "flush", "chain", "inet", "exuvia_client", "postrouting")
    accept_all = ("insert", "rule", "inet", "exuvia_client", "output", "oifname", "exuvia0b", "accept")
    world.home.run("nft", *accept_all)
    assert sends(world, first, "exuvia0b")
    assert forged(world.gateways[0]) > before


def sends(world: World, source: str, device: str, *, to: str = WEB) -> bool:
    """Say whether a socket that insists on an address and a device may send."""
    with world.home.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        world.wiretap.packets()
        try:
            for _ in range(2):
                sock.sendto(b"hello", (to, 9))
                time.sleep(0.05)
        except OSError:
            return False
        return any(packet.kind == "udp" for packet in world.wiretap.packets())


def test_a_tunnels_address_on_the_local_network(world: World, rotator: Rotator) -> None:
    """Where the local network is let through, nothing is said there with a tunnel's address."""
    rotator.rotate()
    passages = [
        Passage(name, IPv4Address(four), IPv6Address(six))
        for name, four, six in zip(
            ("exuvia0", "exuvia0b"), addresses(rotator, 4), addresses(rotator, 6), strict=True
        )
    ]
    text = ruleset(Openings(tuple(passages), lan=True))
    world.home.run("nft", "-f", "-", text=text)
    assert sends(world, "192.168.7.2", "eth0", to=LAN)
    assert not sends(world, str(passages[0].address4), "eth0", to=LAN)
    assert not sends(world, str(passages[1].address4), "eth0", to=LAN)

    broken = text.replace("ip saddr 10.77.0.2 reject with icmpx admin-prohibited", "")
    assert broken != text
    world.home.run("nft", "-f", "-", text=broken)
    assert sends(world, "10.77.0.2", "eth0", to=LAN)


def test_a_gateway_that_asks_for_other_addresses(world: World, rotator: Rotator) -> None:
    """What comes by a tunnel reaches that tunnel's own address only, not the one on the local network."""
    gateway = world.gateways[0]
    peer = rotator.devices[0]
    allowed = ",".join([*peer.addresses, "192.168.7.2/32"])
    gateway.namespace.run("wg", "set", gateway.interface, "peer", peer.public_key, "allowed-ips", allowed)
    gateway.namespace.ip(f"route add 192.168.7.2/32 dev {gateway.interface}")
    try:
        with world.home.inside():
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with listener:
            listener.bind(("", 5002))
            listener.settimeout(0.5)
            assert hears(listener, gateway, "10.77.0.2")
            assert not hears(listener, gateway, "192.168.7.2")
            world.home.run("nft", "flush", "chain", "inet", "exuvia_client", "input")
            world.home.run("nft", "add", "rule", "inet", "exuvia_client", "input", "accept")
            assert hears(listener, gateway, "192.168.7.2")
    finally:
        gateway.namespace.ip(f"route delete 192.168.7.2/32 dev {gateway.interface}")


def hears(listener: socket.socket, gateway: Gateway, address: str) -> bool:
    """Say whether what a gateway sends to an address at home is heard there."""
    with gateway.namespace.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", (address, 5002))
        try:
            return listener.recv(100) == b"hello"
        except TimeoutError:
            return False


def test_a_source_translated_by_somebody_else(world: World, rotator: Rotator) -> None:
    """What another program's translation gives a wrong source does not enter the tunnel either."""
    nat = "table ip other {{ chain p {{ type nat hook postrouting priority srcnat; snat to {}; }}\n}}"
    rotator.rotate()
    before = forged(world.gateways[0])
    world.home.run("nft", "-f", "-", text=nat.format(HOME))
    assert not world.pings()
    assert forged(world.gateways[0]) == before
    world.home.run("nft", "flush", "chain", "inet", "exuvia_client", "postrouting")
    assert not world.pings()
    assert forged(world.gateways[0]) > before


def test_as_if_it_had_never_been(
    world: World, rotator: Rotator, servers: list[Program], start: Start
) -> None:
    """An abandoned tunnel leaves no interface, rule, route or opening, and nothing has used it."""
    before = network_of(world)
    program = start("echo", WEB, 0, 200)
    rotator.prepare()
    assert network_of(world) != before
    rotator.call("abandon")
    told = program.end()

    assert network_of(world) == before
    assert (told["received"], told["duplicated"]) == (told["sent"], 0)
    assert servers[0].end()["0"]["addresses"] == addresses(rotator, 4)[:1]
    rotator.call("abandon")
    rotator.call("end_old")
    assert rotator.call("old_is_idle")


def network_of(world: World) -> set[str]:
    """Everything at home that a client may change."""
    commands = (
        *("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all"),
        *("ip -br addr", "nft list ruleset", "sysctl net.ipv4.conf.all.arp_ignore"),
    )
    found = "".join(world.home.run(*command.split()) for command in commands)
    return set((found + world.resolv_conf()).splitlines())


def test_a_switch_that_fails_half_way(world: World, rotator: Rotator) -> None:
    """If new flows of one family can't take the new tunnel, abandoning it leads all of them back."""
    rotator.prepare()
    world.home.ip("address flush dev exuvia0b scope global", "address add 10.77.0.3/32 dev exuvia0b")
    with pytest.raises(Refused):
        rotator.call("switch")
    rotator.call("abandon")

    assert world.pings(WEB)
    assert world.pings(WEB6)
    rotator.rotate()
    assert world.pings(WEB)
    assert world.pings(WEB6)


def test_one_after_the_other(world: World, rotator: Rotator) -> None:
    """A change during a drain ends the old tunnel first; the two names take turns."""
    names = []
    for _ in range(3):
        rotator.rotate()
        names.append(rotator.call("interface"))
        assert world.home.run("ip", "-br", "link").count("exuvia0") == 2

    assert names == ["exuvia0b", "exuvia0", "exuvia0b"]
    with pytest.raises(Refused):
        rotator.call("kick")


def test_dialled_again_while_the_old_one_drains(
    world: World, rotator: Rotator, servers: list[Program], start: Start
) -> None:
    """If the new tunnel has to be dialled again, what began on the old one goes on there."""
    transfer = start("transfer", WEB, 50)
    rotator.rotate()
    key, grant = rotator.register()
    rotator.call("dial", rotator.gateway(1), key, grant, keepalive=5)
    rotator.wait(lambda: rotator.call("look")[0])
    assert world.pings(WEB)
    assert world.pings(WEB6)

    told = transfer.end()
    assert (told["broken"], told["received"]) == ("", told["sent"])


@pytest.mark.parametrize("where", ["all", "default"])
def test_without_ipv6(world: World, where: str) -> None:
    """Where IPv6 is switched off, or for new interfaces, IPv4 alone changes its tunnel."""
    world.home.run("sysctl", "-qw", f"net.ipv6.conf.{where}.disable_ipv6=1")
    rotator = Rotator(world)
    rotator.up()
    rotator.rotate()
    assert world.pings()
    rotator.call("end_old")
    assert world.pings()
    assert rotator.call("take_down") == []
    rotator.kill()


def test_the_mtu_fits_the_way(world: World) -> None:
    """A second tunnel is as wide as the first: what counts is the way to the gateway."""
    world.internet.ip("link set to-home mtu 1400")
    world.home.ip("link set eth0 mtu 1400")
    rotator = Rotator(world)
    rotator.up()
    rotator.rotate()
    links = json.loads(world.home.run("ip", "-j", "link", "show"))
    rotator.kill()

    assert [link["mtu"] for link in links if link["ifname"].startswith("exuvia0")] == [1320, 1320]


def test_names_follow(world: World) -> None:
    """Each gateway's resolver is asked by its own tunnel from the switch on; afterwards all is as it was."""
    before = network_of(world)
    rotator = Rotator(world, names=True)
    for gateway, address in zip(world.gateways, ("10.77.0.1", "10.77.128.1"), strict=True):
        gateway.namespace.ip(f"address replace {address}/16 dev {gateway.interface}")
    gateways = [{**rotator.gateway(n), "dns": f"10.77.{128 * n}.1"} for n in (0, 1)]
    key, grant = rotator.register()
    rotator.call("shut", gateways[0], True)
    assert rotator.call("dial", gateways[0], key, grant, keepalive=5) == "file"
    assert "nameserver 10.77.0.1\n" in world.resolv_conf()
    rotator.call("prepare", gateways[1], *rotator.register())
    assert "nameserver 10.77.0.1\n" in world.resolv_conf()
    rotator.call("kick")
    rotator.wait(lambda: rotator.call("look_beside")[0])
    rotator.call("switch")

    assert world.resolv_conf().endswith("nameserver 10.77.128.1\n")
    rules = world.home.run("ip", "rule")
    assert "to 10.77.128.1 lookup 25976" in rules and "to 10.77.0.1 " not in rules
    assert rotator.call("take_down") == []
    assert network_of(world) == before
    rotator.kill()
