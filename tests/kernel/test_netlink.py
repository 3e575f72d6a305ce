"""The kernel's own WireGuard keeps the contract, and what the codec relies on is so."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from exuvia.errors import InterfaceInUse, InterfaceUnavailable, NotPermitted
from exuvia.system.interface import WireGuardInterface, open_interface
from exuvia.system.kernel import KernelInterface
from exuvia.system.netlink import Netlink
from exuvia.testing.dumps import DumpWriter
from exuvia.testing.interface import FakeInterface
from exuvia.wg.attributes import MESSAGE_HEADER, NLMSG_DONE
from exuvia.wg.netlink import Requests, family_of, family_request
from exuvia.wg.peers import Peer, Sighting
from interface_contract import PORT, Meet, RealInterfaceContract, client, configured, really_meet, seen
from own_memory import copies_of, masked
from wireguard_samples import kernel_peer, peer, private_key, table, tunnel_peer

NAME = "wg-netlink"


def ip(*arguments: str) -> None:
    """Run ip."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def link() -> Iterator[str]:
    """A WireGuard interface without key or peers; its name."""
    ip("link", "add", NAME, "type", "wireguard")
    ip("link", "set", NAME, "up")
    yield NAME
    with contextlib.suppress(subprocess.CalledProcessError):
        ip("link", "del", NAME)


@pytest.fixture
def opened(link: str) -> Iterator[WireGuardInterface]:
    """The same, opened, with key and port."""
    interface = open_interface(link)
    interface.configure(private_key=private_key(0), listen_port=PORT)
    yield interface
    interface.close()


@pytest.fixture
def meet() -> Meet:
    """Shake hands for real."""
    return really_meet


class TestKernelInterface(RealInterfaceContract):
    """The contract, kept by the kernel."""


def raw_dump(index: int, *, small: bool) -> list[bytearray]:
    """Return the datagrams of a dump as the kernel sends them."""
    netlink = Netlink(index + 100)
    family = family_of(netlink.ask(family_request(0)))
    assert family is not None
    datagrams = []
    with netlink.dumping(Requests(family, index).dump(7), small=small) as receive:
        while (
            not datagrams
            or MESSAGE_HEADER.unpack_from(datagrams[-1], len(datagrams[-1]) - 20)[1] != NLMSG_DONE
        ):
            length = receive()
            datagrams.append(netlink.buffer[:length])
    netlink.close()
    return datagrams


def is_the_end(datagram: bytearray) -> bool:
    """Whether NLMSG_DONE is the last message of this datagram."""
    return bool(MESSAGE_HEADER.unpack_from(datagram, len(datagram) - 20)[1] == NLMSG_DONE)


def test_this_kernel_splits_peers_over_messages(opened: WireGuardInterface) -> None:
    """1,500 peers with preshared key, IPv4 and IPv6: some are told in two parts, and still counted once."""
    wanted = table(1_500)
    opened.apply(wanted.values())
    for small in (False, True):
        entries = sum(
            datagram.count(bytes.fromhex("24000100")) for datagram in raw_dump(opened.index, small=small)
        )
        assert entries > 1_500, "nothing was split: this test shows nothing"
        assert opened.look(lambda sightings: pytest.fail("all are clean"), small=small) == (1_500, True)
    assert opened.compare(wanted).equal == 1_500


def test_small_messages_are_small_and_stay_small(opened: KernelInterface) -> None:
    """Messages of two sizes, also after large ones have been received: each has a socket of its own."""
    opened.apply(table(400).values())
    netlink = opened._transport
    for _ in range(2):
        for small, least, most in ((False, 30_000, 32_768), (True, 3_000, 8_192)):
            lengths: list[int] = []
            with netlink.dumping(opened._requests.dump(7), small=small) as receive:
                while not lengths or not is_the_end(netlink.buffer[: lengths[-1]]):
                    lengths.append(receive())
            assert least < max(lengths) <= most


def test_the_fake_writes_the_dump_that_this_kernel_writes(opened: WireGuardInterface) -> None:
    """Byte for byte, but for the interface's name and index and the size of messages."""
    given = [tunnel_peer(1), tunnel_peer(2), peer(3, "10.3.0.0/16", "fd03::/64", keepalive=25), peer(4)]
    opened.apply(given)
    (real,) = raw_dump(opened.index, small=False)
    padded = bytes.fromhex("04000000 0c000800") in real
    message = DumpWriter(7, padded=padded).begin(32_000)
    message.interface(opened.index, private_key(0), PORT, 0)
    for one in given:
        assert message.peer(kernel_peer(one)) == (True, None)
    made = message.finish() + DumpWriter(7).done()

    assert peers_of(real) == peers_of(bytearray(made))


def peers_of(datagram: bytearray) -> bytes:
    """Return the attribute of all peers, without the end of the dump that follows it."""
    return bytes(datagram[datagram.index(b"\x08\x80") - 2 : -20])


def test_a_message_that_fails_is_the_one_that_is_told(opened: KernelInterface) -> None:
    """One broken message among good ones: its errno comes back for it, and the others are carried out."""
    requests, netlink = opened._requests, opened._transport
    messages = [requests.put(tunnel_peer(n), 100 + n) for n in range(5)]
    broken = bytearray(messages[2])
    broken[broken.rindex(bytes.fromhex("05000300 20")) + 4] = 33
    messages[2] = bytes(broken)

    codes = netlink.send(messages, 100)

    assert [bool(code) for code in codes] == [False, False, True, False, False]
    assert configured(opened).keys() - {tunnel_peer(2)[:32]} == {tunnel_peer(n)[:32] for n in (0, 1, 3, 4)}


def test_an_answer_that_is_lost_is_never_taken_for_success(opened: KernelInterface) -> None:
    """With room for a few answers only, every message whose failure could not be told counts as failed."""
    requests, netlink = opened._requests, opened._transport
    assert isinstance(netlink, Netlink)
    netlink._commands.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    messages = [requests.put(tunnel_peer(n), 100 + n) for n in range(200)]
    bad = range(3, 200, 3)
    for place in bad:
        broken = bytearray(messages[place])
        broken[broken.rindex(bytes.fromhex("05000300 20")) + 4] = 33
        messages[place] = bytes(broken)

    codes = netlink.send(messages, 100)

    assert all(codes[place] for place in bad)
    assert netlink.send([requests.put(tunnel_peer(1), 999)], 999) == [0]


def test_thousands_of_changes_in_one_call_are_all_answered(opened: WireGuardInterface) -> None:
    """Answers are never lost for want of room, however many there are."""
    wanted = table(3_000)

    assert opened.apply(wanted.values()) == []
    assert opened.purge(wanted.values()) == []
    assert opened.apply(remove=wanted) == []
    assert opened.compare({}).foreign == 0


def test_messages_too_large_for_one_send_are_sent_in_several(opened: WireGuardInterface) -> None:
    """A batch of peers with very many allowed IPs each is more than the socket takes at once."""
    many = [
        Peer(peer(n).public_key, tuple(ip_network((0x0A000000 + 2_000 * n + i, 32)) for i in range(2_000)))
        for n in range(25)
    ]

    assert opened.apply(many) == []
    found = configured(opened)
    assert [found[one.public_key] for one in many] == many


def test_a_second_daemon_is_refused(opened: WireGuardInterface, link: str) -> None:
    """The lock is on the interface, not on its name, and goes with whoever held it."""
    with pytest.raises(InterfaceInUse):
        open_interface(link)
    ip("link", "set", link, "down")
    ip("link", "set", link, "name", "wg-renamed")
    try:
        with pytest.raises(InterfaceInUse):
            open_interface("wg-renamed")
        opened.close()
        open_interface("wg-renamed").close()
    finally:
        ip("link", "set", "wg-renamed", "name", link)


def test_a_killed_daemon_leaves_no_lock(link: str) -> None:
    """kill -9 frees the interface at once."""
    program = (
        "from exuvia.system.interface import open_interface\n"
        f"held = open_interface('{link}'); print('held', flush=True)\n"
        "import time; time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InterfaceInUse):
        open_interface(link)
    holder.kill()
    holder.wait()
    holder.stdout.close()

    open_interface(link).close()


def test_another_interface_can_be_held_at_the_same_time(opened: WireGuardInterface) -> None:
    """One daemon for each interface, as many interfaces as there are."""
    ip("link", "add", "wg-other", "type", "wireguard")
    try:
        open_interface("wg-other").close()
    finally:
        ip("link", "del", "wg-other")


def test_an_interface_that_went_away_is_unavailable(opened: WireGuardInterface, link: str) -> None:
    """Also if another one has been made under its name: that one has another index."""
    ip("link", "del", link)
    ip("link", "add", link, "type", "wireguard")
    for ask in (
        opened.facts,
        lambda: seen(opened),
        lambda: opened.compare({}),
        lambda: opened.purge([client(1)]),
        lambda: opened.apply([client(1)]),
        lambda: opened.configure(listen_port=1),
    ):
        with pytest.raises(InterfaceUnavailable, match="gone"):
            ask()
    opened.close()
    open_interface(link).close()


@pytest.mark.parametrize(
    ("name", "why"),
    [("lo", "not a WireGuard interface"), ("wg-nowhere", "no network interface")],
)
def test_what_is_no_wireguard_interface_is_refused(name: str, why: str) -> None:
    """The error says what is wrong with the name that was given."""
    with pytest.raises(InterfaceUnavailable, match=why):
        open_interface(name)


def test_without_the_capability_nothing_is_permitted(link: str) -> None:
    """An unprivileged process gets one clear error."""
    program = (
        "import os\n"
        "from exuvia.errors import NotPermitted\n"
        "from exuvia.system import kernel, uapi\n"
        "from exuvia.system.interface import open_interface\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        f"    open_interface('{link}')\n"
        "except NotPermitted as error:\n"
        "    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert "CAP_NET_ADMIN" in done.stdout
    assert NotPermitted.__name__ not in done.stderr


def test_a_change_by_another_program_is_noticed(opened: WireGuardInterface) -> None:
    """wg(8) at work while we look: the look is not whole, and nothing is concluded from what it left out."""
    opened.apply([client(n) for n in range(1, 400)])
    really_meet(1)

    def interfere(sightings: list[Sighting]) -> None:
        subprocess.run(["wg", "set", NAME, "peer", peer(50).public_key.text()], check=True)

    assert not opened.look(interfere, small=True).whole


def test_the_dump_of_this_kernel_ends_early_if_its_cursor_is_removed(opened: WireGuardInterface) -> None:
    """Peers that are left out of such a dump are still there: only the interruption tells."""
    wanted = {bytes(one[:32]): one for one in (client(n) for n in range(1, 400))}
    opened.apply(wanted.values())
    really_meet(1)
    fake = FakeInterface()
    fake.apply(wanted.values())
    fake.kernel.meet(client(1)[:32], rx=1)
    gone = list(wanted)[:200]
    for interface in (opened, fake):
        look = interface.look(lambda _, one=interface: one.apply(remove=gone) and None, small=True)  # type: ignore[misc]
        assert look.peers < 200
        assert not look.whole


def test_an_endpoint_is_nowhere_in_our_memory_after_a_look() -> None:
    """
    Looking, comparing and reading leave no copy of a client's address and port behind.

    In a process of its own that looks for the sockaddr of the endpoint in all of its memory, and
    that finds what is really there: a copy that it makes on purpose.
    """
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, env=environment)

    assert done.stdout.split() == [b"0", b"0", b"0", b"0", b"1", b"8", b"86"]


MASK = bytes(255 - octet for octet in (2, 0, 0xC0, 0xA8, 127, 1, 2, 3))
"""The endpoint's sockaddr, masked."""


def look_for_endpoints() -> None:
    """Print how many copies of an endpoint there are after each kind of reading, and with one on purpose."""
    ip("link", "add", "wg-memory", "type", "wireguard")
    interface = open_interface("wg-memory")
    wanted = table(300)
    interface.apply(wanted.values())
    for one in list(wanted.values())[::7]:
        command = ["wg", "set", "wg-memory", "peer", one.public_key.text(), "endpoint", "127.1.2.3:49320"]
        subprocess.run(command, check=True)
    sightings: list[Sighting] = []
    for reading in (
        lambda: interface.look(sightings.extend),
        lambda: interface.look(sightings.extend, small=True),
        lambda: interface.compare(wanted),
        lambda: interface.configurations(None, lambda found: None),
    ):
        reading()
        print(copies_of(MASK))
    kept = masked(MASK)
    print(copies_of(MASK), len(kept), sum(sighting.endpoint for sighting in sightings))
    ip("link", "del", "wg-memory")


if __name__ == "__main__":
    look_for_endpoints()
