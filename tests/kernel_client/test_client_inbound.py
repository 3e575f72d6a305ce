"""What gets into a home whose client is up, and what its neighbours can find out."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from exuvia.client.gateways import Endpoint
from exuvia.client.killswitch import CONTROL_MARK, Openings, Passage, removal, ruleset
from exuvia.testing.home import CONTROL, HOME, HOME6, PORT, WEB, World
from exuvia.testing.namespaces import Namespace, wire

DOOR = 8443
"""A port of the control plane's at which nobody listens yet."""
CONNECTING = Openings(
    (Passage("exuvia0", IPv4Address("10.77.0.2"), IPv6Address("fd77::2")),),
    (Endpoint(ip_address("198.51.101.2"), PORT),),
    (Endpoint(ip_address(CONTROL), DOOR),),
)


@pytest.fixture
def home(town: World) -> Iterator[World]:
    """A home without a client, without a kill switch."""
    town.new_home()
    yield town
    load(town, removal())


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


def load(world: World, text: str) -> None:
    """Load a ruleset at home."""
    world.home.run("nft", "-f", "-", text=text)


def heard(listener: socket.socket) -> list[bytes]:
    """Return what has arrived at a listening socket."""
    time.sleep(0.05)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listener.recv(100))
    return found


def tell(world: World, *addresses: str) -> None:
    """Say something to port 5000 of these addresses from the internet."""
    with world.internet.inside():
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
                sock.sendto(address.encode(), (address, 5000))


def listener_at(world: World) -> socket.socket:
    """Return a socket at home that hears what is sent to its port 5000, at any address."""
    with world.home.inside():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::", 5000))
    sock.setblocking(False)
    return sock


def test_the_wire_gets_nothing_in(home: World) -> None:
    """What comes by the wire, and not from the gateway's port, is not heard at home."""
    with listener_at(home) as listener:
        tell(home, HOME, HOME6)
        assert len(heard(listener)) == 2
        load(home, ruleset(CONNECTING))
        tell(home, HOME, HOME6)
        assert heard(listener) == []

        open_input = "hook input priority 1000; policy accept;"
        load(home, ruleset(CONNECTING).replace("hook input priority 1000; policy drop;", open_input))
        tell(home, HOME, HOME6)
        assert len(heard(listener)) == 2


def test_a_tunnel_address_is_reached_by_the_tunnel_only(world: World) -> None:
    """A neighbour who guesses the tunnel address reaches nothing there, and ARP tells him nothing of it."""
    world.up("--gateway", "gw1").wait_for("connected to gw1")
    address = world.control.devices[0].addresses[0].removesuffix("/32")
    world.internet.ip(f"route add {address}/32 dev to-home")
    with listener_at(world) as listener:
        world.wiretap.packets()
        tell(world, address)
        time.sleep(0.2)
        assert heard(listener) == []
        answers = [packet for packet in world.wiretap.packets() if packet.kind == "arp"]
        assert address not in {packet.source for packet in answers}

        world.home.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")
        world.internet.run("ip", "neigh", "flush", "all")
        tell(world, address)
        time.sleep(0.2)
        assert heard(listener) == []
        answers = [packet for packet in world.wiretap.packets() if packet.kind == "arp"]
        assert address in {packet.source for packet in answers}


def test_the_control_planes_address_opens_no_door(home: World) -> None:
    """While the control plane may answer, whoever comes from its address and port begins nothing here."""
    load(home, ruleset(CONNECTING))
    with home.home.inside():
        incoming = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with incoming:
        incoming.setblocking(False)
        with home.internet.inside():
            control = socket.create_server((CONTROL, DOOR))
        with control:
            assert _connects(home.home, ("", 0), (CONTROL, DOOR), mark=CONTROL_MARK)
        heard(incoming)
        _connects(home.internet, (CONTROL, DOOR), (HOME, 5001))
        assert heard(incoming) == []
        load(home, ruleset(CONNECTING).replace(" tcp flags & (syn | ack) != syn", ""))
        _connects(home.internet, (CONTROL, DOOR), (HOME, 5001))
        assert heard(incoming)


def _connects(
    namespace: Namespace, source: tuple[str, int], to: tuple[str, int], *, mark: int | None = None
) -> bool:
    with namespace.inside():
        sock = socket.socket()
    with sock:
        sock.settimeout(0.3)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if mark is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            sock.bind(source)
            sock.connect(to)
        except OSError:
            return False
    return True


def test_guests_of_the_home_do_not_leak_either(home: World) -> None:
    """What a virtual machine sends through this machine does not leave by the wire."""
    guest = Namespace("guest")
    try:
        wire(home.home, "vm0", guest, "eth0")
        home.home.ip("address add 192.168.50.1/24 dev vm0")
        home.home.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        guest.ip("address add 192.168.50.2/24 dev eth0", "route add default via 192.168.50.1")
        assert _leaves(home, guest)
        load(home, ruleset(CONNECTING))
        assert not _leaves(home, guest)
        opened = ruleset(CONNECTING).replace(
            "hook forward priority 1000; policy drop;", "hook forward priority 1000; policy accept;"
        )
        load(home, opened)
        assert _leaves(home, guest)
    finally:
        guest.close()


def _leaves(home: World, guest: Namespace) -> bool:
    home.wiretap.packets()
    with guest.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        for _ in range(3):
            sock.sendto(b"hello", (WEB, 9))
            time.sleep(0.05)
    return any(packet.source == "192.168.50.2" for packet in home.wiretap.packets())


def test_a_strict_reverse_path_filter(world: World) -> None:
    """The tunnel works where the kernel drops what comes by another way than answers would go."""
    world.home.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    client = world.up("--gateway", "gw1")
    client.wait_for("connected to gw1")
    assert world.pings()
    client.kill()
    world.up("--gateway", "gw2").wait_for("connected to gw2")

    assert world.pings()


def test_the_local_network_has_the_resolvers_address(world: World) -> None:
    """A local network that uses the same addresses as the tunnel does not catch what goes to the resolver."""
    world.home.ip("address add 10.77.0.5/24 dev eth0")
    world.up("--gateway", "gw1", "--allow-lan").wait_for("connected to gw1")
    with world.gateways[0].namespace.inside():
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with resolver:
        resolver.bind(("10.77.0.1", 53))
        resolver.settimeout(5)
        command = world.home.command("timeout", "2", "getent", "hosts", "somewhere.example")
        subprocess.run(command, capture_output=True)

        assert b"somewhere" in resolver.recv(512)
