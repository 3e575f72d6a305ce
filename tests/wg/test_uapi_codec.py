"""The text that wireguard-go takes and gives."""

import random
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import GarbledAnswer
from exuvia.wg import uapi
from exuvia.wg.interface import Configured, Facts
from exuvia.wg.peers import Sighting
from wireguard_samples import key, octets, peer, private_key, tunnel_peer


def answer(*lines: str, code: int = 0) -> bytes:
    """Return the answer to GET with these lines."""
    return "".join(f"{line}\n" for line in (*lines, f"errno={code}", "")).encode()


def told(
    number: int, *, endpoint: str | None = None, handshake: int = 0, rx: int = 0, tx: int = 0
) -> list[str]:
    """Return the lines that wireguard-go tells of a peer, in its order."""
    seconds, nanoseconds = divmod(handshake, 10**9)
    return [
        f"public_key={key(number).hex()}",
        f"preshared_key={octets(f'preshared {number}').hex()}",
        "protocol_version=1",
        *([f"endpoint={endpoint}"] if endpoint else []),
        f"last_handshake_time_sec={seconds}",
        f"last_handshake_time_nsec={nanoseconds}",
        f"tx_bytes={tx}",
        f"rx_bytes={rx}",
        "persistent_keepalive_interval=0",
        f"allowed_ip={tunnel_peer(number).address4}/32",
        f"allowed_ip={tunnel_peer(number).address6}/128",
    ]


def read(text: bytes, reading: uapi.Reading, pieces: list[int]) -> list[Configured | Sighting]:
    """Feed an answer in pieces of these lengths, as an edge does: what is not read stays in front."""
    buffer, found, kept = bytearray(len(text) + 1), [], 0
    for piece in [*pieces, len(text)]:
        taken, text = text[:piece], text[piece:]
        buffer[kept : kept + len(taken)] = taken
        more, position = reading.feed(buffer, kept + len(taken))
        kept = kept + len(taken) - position
        buffer[:kept] = buffer[position : position + kept]
        found += more
    return found


THREE = answer(
    "private_key=" + private_key(0).expose().hex(),
    "listen_port=51820",
    *told(1),
    *told(2, endpoint="192.0.2.1:4500", handshake=1_700_000_000_000_000_005, rx=148, tx=92),
    *told(3, endpoint="[2001:db8::1]:4500"),
)


def test_golden_put() -> None:
    """Adding a peer says all of it, so that what was there before is overwritten."""
    assert uapi.operation([uapi.put(tunnel_peer(1))]).decode().split("\n") == [
        "set=1",
        f"public_key={key(1).hex()}",
        f"preshared_key={octets('preshared 1').hex()}",
        "persistent_keepalive_interval=0",
        "replace_allowed_ips=true",
        f"allowed_ip={tunnel_peer(1).address4}/32",
        f"allowed_ip={tunnel_peer(1).address6}/128",
        "",
        "",
    ]


def test_a_purge_is_one_operation_that_removes_and_then_reinstates() -> None:
    """A purge is the removal and then the whole peer again, with no empty line between them."""
    given_peer = peer(1, "10.0.0.0/24", keepalive=25)
    lines = uapi.purge(given_peer)

    assert lines == f"public_key={key(1).hex()}\nremove=true\n".encode() + uapi.put(given_peer)
    assert b"\n\n" not in lines
    assert uapi.purge(tunnel_peer(1)) == uapi.purge(tunnel_peer(1).peer())


@pytest.mark.parametrize(
    ("address", "expected"),
    [(IPv4Address("192.0.2.1"), "192.0.2.1:443"), (IPv6Address("2001:db8::1"), "[2001:db8::1]:443")],
)
def test_a_gateways_endpoint(address, expected: str) -> None:
    """A client's only peer gets the gateway's endpoint."""
    assert f"endpoint={expected}\n".encode() in uapi.put(peer(1), endpoint=(address, 443))


def test_golden_interface() -> None:
    """Private key, port and mark are set only if they are given."""
    lines = uapi.interface(private_key=private_key(1), listen_port=1, fwmark=2)

    assert lines == f"private_key={private_key(1).expose().hex()}\nlisten_port=1\nfwmark=2\n".encode()
    assert uapi.interface() == b""


@pytest.mark.parametrize(
    ("text", "code"), [(b"errno=0\n\n", 0), (b"errno=-22\n\n", 22), (b"errno=0\n", None), (b"", None)]
)
def test_an_operations_answer(text: bytes, code: int | None) -> None:
    """The answer is an errno, once its empty line has come."""
    assert uapi.answer(text) == code


def test_an_answer_that_is_none_is_refused() -> None:
    """Anything but an errno is an error."""
    with pytest.raises(GarbledAnswer):
        uapi.answer(b"hello\n\n")


@given(st.lists(st.integers(1, 200), max_size=30))
def test_a_look_tells_the_same_however_the_answer_is_cut(pieces: list[int]) -> None:
    """Lines may be cut anywhere between two receptions."""
    reading = uapi.Reading()
    found = read(THREE, reading, pieces)

    assert found == [
        Sighting(key(2), 1_700_000_000_000_000_005, 148, 92, True),
        Sighting(key(3), 0, 0, 0, True),
    ]
    assert (reading.done, reading.errno, reading.peers) == (True, 0, 3)


@given(st.integers(0, 2**32))
def test_reading_at_a_glance_agrees_with_reading_line_by_line(seed: int) -> None:
    """Whoever is among the peers, and however the answer is cut: the same sightings and the same count."""
    chance = random.Random(seed)
    lines = []
    for number in range(chance.randint(0, 12)):
        lines += told(
            number,
            endpoint=chance.choice([None, None, "192.0.2.1:1", "[2001:db8::1]:65535"]),
            handshake=chance.choice([0, 0, 10**9, 1_700_000_000_000_000_005]),
            rx=chance.choice([0, 0, 148]),
            tx=chance.choice([0, 0, 2**64 - 1]),
        )
        if chance.random() < 0.2:
            lines.insert(len(lines) - chance.randint(0, 10), "novelty=1")
    text, pieces = answer(*lines), [chance.randint(1, 900) for _ in range(chance.randint(0, 9))]
    quick, slow = uapi.Reading(), uapi.Reading({b"nobody"})

    assert read(text, quick, pieces) == read(text, slow, pieces)
    assert quick.peers == slow.peers


def test_configurations_of_chosen_peers() -> None:
    """Chosen peers come with their whole configuration, the others as what there is to forget."""
    found = read(THREE, uapi.Reading({bytes(key(2))}), [])
    every = read(THREE, uapi.Reading(None), [])

    assert [type(one) for one in found] == [Configured, Sighting]
    assert found[0] == every[1]
    assert [one.peer for one in every if isinstance(one, Configured)] == [
        tunnel_peer(n).peer() for n in (1, 2, 3)
    ]


def test_the_public_key_is_worked_out_only_when_it_is_asked_for() -> None:
    """The protocol tells the private key alone: no look ever touches it."""
    facts, look = uapi.Reading(facts=True), uapi.Reading()
    read(THREE, facts, [])
    read(THREE, look, [])

    assert facts.facts == Facts(private_key(0).public_key(), 51820)
    assert look.facts.public_key is None


def test_lines_that_are_new_are_passed_over() -> None:
    """Programs to come may tell more."""
    reading = uapi.Reading()
    (found,) = read(answer("obfuscation=7", *told(1), "mood=good", *told(2, rx=5), "x=y"), reading, [])

    assert found == Sighting(key(2), 0, 5, 0, False)
    assert reading.peers == 2


def test_an_errno_ends_the_answer_and_is_told() -> None:
    """A refused GET is an errno like any other."""
    reading = uapi.Reading()
    read(answer(code=-5), reading, [])

    assert (reading.done, reading.errno) == (True, 5)


@pytest.mark.parametrize(
    "line",
    [
        "public_key=" + "ab" * 31,
        "public_key=" + "AB" * 32,
        "rx_bytes=-1",
        "rx_bytes=",
        "allowed_ip=10.0.0.1",
        "allowed_ip=10.0.0.1/33",
        "no sense",
        "preshared_key=" + "zz" * 32,
    ],
)
def test_a_line_that_can_not_be_read_is_refused(line: str) -> None:
    """What is known by name must have a value that can be read."""
    with pytest.raises(GarbledAnswer):
        read(answer(*told(1), line), uapi.Reading(None), [])


def test_a_number_before_any_peer_is_refused() -> None:
    """Counters of nobody belong to nobody."""
    with pytest.raises(GarbledAnswer):
        read(answer("rx_bytes=1"), uapi.Reading(), [])


def test_a_line_without_end_is_refused() -> None:
    """A program that never ends a line does not fill our memory."""
    with pytest.raises(GarbledAnswer):
        read(b"public_key=" + b"a" * 5000, uapi.Reading(), [])


@given(st.integers(0, 2**32))
def test_damaged_answers_end_in_an_answer_or_in_one_kind_of_error(seed: int) -> None:
    """Bits flipped, or cut short: reading fails in one way only, or shows that it is not done."""
    chance = random.Random(seed)
    text = bytearray(THREE)
    if chance.random() < 0.5:
        del text[chance.randrange(1, len(text)) :]
    for _ in range(chance.randint(0, 6)):
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
    for reading in (uapi.Reading(), uapi.Reading(None, facts=True)):
        try:
            read(bytes(text), reading, [chance.randint(1, 300)])
        except GarbledAnswer:
            continue
