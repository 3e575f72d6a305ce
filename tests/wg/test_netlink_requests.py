"""What we tell the kernel, byte for byte."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from exuvia.errors import GarbledAnswer
from exuvia.wg.attributes import MESSAGE_HEADER, InterfaceAttribute, PeerAttribute
from exuvia.wg.dump import walk
from exuvia.wg.keys import PrivateKey
from exuvia.wg.netlink import Acknowledgements, Requests, family_of, family_request, joined
from exuvia.wg.peers import Peer, TunnelPeer
from wireguard_samples import key, octets, peer, tunnel_peer

REQUESTS = Requests(family=0x15, interface_index=3)
SIMPLE = TunnelPeer.pack(
    bytes([0xAA]) * 32, IPv4Address("10.9.8.7"), IPv6Address("fd00::1"), bytes([0xBB]) * 32
)


def golden(text: str) -> bytes:
    """Return bytes written as hexadecimal digits, with a comment behind each attribute."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))


def entries(message: bytes) -> list[dict[int, bytes]]:
    """Return the attributes of each peer's entry in a message."""
    buffer = bytearray(message)
    found = []
    for kind, start, end in walk(buffer, 20, len(buffer)):
        if kind == InterfaceAttribute.PEERS:
            for _, first, last in walk(buffer, start, end):
                found.append({name: bytes(buffer[a:b]) for name, a, b in walk(buffer, first, last)})
    return found


PUT = golden(
    """
    c4000000 1500 0100 2a000000 00000000  # nlmsghdr: 196 bytes, family, REQUEST, sequence 42
    01 01 0000                            # genlmsghdr: SET_DEVICE, version 1
    0800 0100 03000000                    # WGDEVICE_A_IFINDEX: 3
    a800 0880                             # WGDEVICE_A_PEERS, nested
      a400 0080                           #   one peer
        2400 0100 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        0800 0300 02000000                #     WGPEER_A_FLAGS: REPLACE_ALLOWEDIPS
        2400 0200 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
        0600 0500 0000 0000               #     WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: off
        4800 0980                         #     WGPEER_A_ALLOWEDIPS, nested
          1c00 0080                       #       10.9.8.7/32
            0600 0100 0200 0000           #         AF_INET
            0800 0200 0a090807
            0500 0300 20 000000           #         /32
          2800 0080                       #       fd00::1/128
            0600 0100 0a00 0000           #         AF_INET6
            1400 0200 fd000000000000000000000000000001
            0500 0300 80 000000           #         /128
    """
)


def test_golden_put() -> None:
    """Adding a peer is one message that says all of it, so that what was there before is overwritten."""
    assert REQUESTS.put(SIMPLE, 42) == PUT


def test_golden_purge_is_one_message_that_removes_and_then_reinstates() -> None:
    """
    A purge is one message: first REMOVE_ME, then the same peer as in a put.

    Two messages would leave the peer out if we were killed between them.
    """
    removal = golden("3000 0080 2400 0100" + "aa" * 32 + "0800 0300 01000000")
    put_entry = PUT[32:]
    expected = golden("f4000000 1500 0100 2a000000 00000000 01010000 0800 0100 03000000 d800 0880")

    assert REQUESTS.purge(SIMPLE, 42) == expected + removal + put_entry


def test_golden_remove() -> None:
    """Removing a peer names its key and says REMOVE_ME, and nothing else."""
    assert REQUESTS.remove(SIMPLE[:32], 1) == golden(
        "50000000 1500 0100 01000000 00000000 01010000 0800 0100 03000000 3400 0880"
        "3000 0080 2400 0100" + "aa" * 32 + "0800 0300 01000000"
    )


def test_golden_dump_request() -> None:
    """A dump is asked for by the interface's index, which no other interface ever gets."""
    assert REQUESTS.dump(5) == golden("1c000000 1500 0103 05000000 00000000 00 01 0000 0800 0100 03000000")


def test_golden_interface() -> None:
    """Private key, listen port and mark are set only if they are given."""
    raw = octets("private")
    message = REQUESTS.interface(1, private_key=PrivateKey(raw), listen_port=51820, fwmark=0xCA6C)

    assert message[28:] == golden(
        "2400 0300" + PrivateKey(raw).expose().hex() + "0600 0600 6cca 0000" + "0800 0700 6cca0000"
    )
    assert REQUESTS.interface(1)[28:] == b""


@pytest.mark.parametrize("number", range(20))
def test_a_packed_peer_makes_the_same_bytes_as_the_peer_it_stands_for(number: int) -> None:
    """The fast encoder and the general one can't be told apart."""
    packed = tunnel_peer(number)

    assert REQUESTS.put(packed, number) == REQUESTS.put(packed.peer(), number)
    assert REQUESTS.purge(packed, number) == REQUESTS.purge(packed.peer(), number)


def test_a_purge_keeps_preshared_key_allowed_ips_and_keepalive() -> None:
    """The second entry of a purge is all of the peer's configuration."""
    given = peer(1, "10.0.0.0/24", "192.0.2.7/32", "fd00::/64", keepalive=25)
    removal, reinstated = entries(REQUESTS.purge(given, 1))

    assert removal == {PeerAttribute.PUBLIC_KEY: key(1), PeerAttribute.FLAGS: b"\x01\0\0\0"}
    assert reinstated[PeerAttribute.PUBLIC_KEY] == key(1)
    assert reinstated[PeerAttribute.PRESHARED_KEY] == given.preshared_key
    assert reinstated[PeerAttribute.PERSISTENT_KEEPALIVE_INTERVAL] == b"\x19\0"
    assert len(list(walk(bytearray(reinstated[PeerAttribute.ALLOWEDIPS]), 0, 28 + 28 + 40))) == 3


def test_a_peer_without_preshared_key_takes_away_the_one_that_was_there() -> None:
    """No preshared key is said as 32 zero bytes: to say nothing would keep the old one."""
    (entry,) = entries(REQUESTS.put(peer(1, preshared=False), 1))

    assert entry[PeerAttribute.PRESHARED_KEY] == bytes(32)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (IPv4Address("192.0.2.1"), "0200 c1a7 c0000201 0000000000000000"),
        (
            IPv6Address("2001:db8::1"),
            "0a00 c1a7 00000000 20010db8000000000000000000000001 00000000",
        ),
    ],
)
def test_a_gateways_endpoint_is_a_socket_address(address, expected: str) -> None:
    """A client's only peer gets the gateway's endpoint as sockaddr_in or sockaddr_in6."""
    (entry,) = entries(REQUESTS.put(peer(1), 1, endpoint=(address, 0xC1A7)))

    assert entry[PeerAttribute.ENDPOINT] == bytes.fromhex(expected)


def test_peers_that_do_not_fit_into_one_message_are_refused() -> None:
    """
    More than 65,535 bytes of peers are refused here.

    In the message they would be taken for fewer, after the peer has been removed.
    """
    networks = tuple(ip_network((0x0A000000 + number, 32)) for number in range(2400))
    fits, too_many = Peer(key(1), networks[:2330]), Peer(key(1), networks)

    REQUESTS.purge(fits, 1)
    with pytest.raises(ValueError, match="too much"):
        REQUESTS.put(too_many, 1)
    with pytest.raises(ValueError, match="too much"):
        REQUESTS.purge(too_many, 1)


def acknowledgement(sequence: int, code: int) -> bytes:
    """Return the kernel's answer to one message, as with NETLINK_CAP_ACK."""
    return (
        MESSAGE_HEADER.pack(36, 2, 0x100, sequence, 9)
        + (-code).to_bytes(4, "little", signed=True)
        + bytes(16)
    )


def test_the_last_message_of_a_send_asks_for_an_answer() -> None:
    """Only NLM_F_ACK is set, and only there."""
    messages = [REQUESTS.put(tunnel_peer(number), number) for number in range(3)]
    sent = joined(messages)
    place = len(messages[0] + messages[1]) + 6

    assert sent[place] == 5
    assert sent[:place] + b"\1" + sent[place + 1 :] == b"".join(messages)


def test_each_failure_is_told_of_the_message_that_failed() -> None:
    """Failures are matched by sequence number; the answer to the last ends it, and clears the others."""
    answers = Acknowledgements(first=10, count=5)
    answers.feed(acknowledgement(11, 22) + acknowledgement(13, 12))
    assert answers.answered == 4
    answers.feed(acknowledgement(14, 0))

    assert (answers.errors, answers.answered) == ([0, 22, 0, 12, 0], 5)


def test_answers_to_something_else_are_passed_over() -> None:
    """A late answer to an earlier send changes nothing, also where sequence numbers wrap around."""
    for first in (10, 0, 0xFFFFFFFF):
        answers = Acknowledgements(first=first, count=1)
        answers.feed(acknowledgement((first - 1) % 2**32, 22) + acknowledgement((first + 1) % 2**32, 22))
        assert (answers.errors, answers.answered) == ([0], 0)


def test_what_is_not_answered_has_failed() -> None:
    """When the kernel could not deliver an answer, nothing that is unanswered is taken for done."""
    answers = Acknowledgements(first=1, count=4)
    answers.feed(acknowledgement(2, 22))
    answers.lost(105)

    assert answers.errors == [0, 22, 105, 105]


@pytest.mark.parametrize("cut", range(1, 36))
def test_an_acknowledgement_cut_short_is_refused(cut: int) -> None:
    """An answer that ends too early is an error, never a success."""
    with pytest.raises(GarbledAnswer):
        Acknowledgements(first=1, count=1).feed(acknowledgement(1, 0)[:cut])


# As the kernel answered in a guest: see tests/kernel/test_netlink.py for the real thing.
FAMILY = bytes.fromhex(
    "70000000100000000100000003000000010200000e0002007769726567756172640000000600010015000000"
    "0800030001000000080004000000000008000500080000002c00060014000100080001000000000008000200"
    "1c000000140002000800010001000000080002001a000000"
)


def test_the_family_is_asked_for_by_name() -> None:
    """The request names wireguard, and the answer's number is found among its attributes."""
    assert b"wireguard\0" in family_request(1)
    assert family_of(FAMILY) == 0x15


def test_a_kernel_without_wireguard_says_so() -> None:
    """ENOENT instead of a family means that this kernel has no WireGuard."""
    assert family_of(acknowledgement(1, 2)) is None


def test_an_answer_without_a_family_is_refused() -> None:
    """What is neither an error nor names a family can't be used."""
    with pytest.raises(GarbledAnswer):
        family_of(FAMILY.replace(bytes.fromhex("06000100"), bytes.fromhex("0600ff00")))
