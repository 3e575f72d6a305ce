"""Peers' configuration out of a dump: as values, or compared with a peer table."""

import random
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import GarbledAnswer
from exuvia.testing.dumps import DumpWriter
from exuvia.wg.attributes import PeerAttribute, attribute, nest
from exuvia.wg.dump import Dump
from exuvia.wg.interface import Comparison, Configured, Facts
from exuvia.wg.keys import PresharedKey
from exuvia.wg.peers import Network, Peer, Sighting, TunnelPeer
from exuvia.wg.reading import Comparing, Configurations, facts
from wireguard_samples import (
    ENDPOINT4,
    ENDPOINT6,
    SEQUENCE,
    dump,
    kernel_peer,
    key,
    octets,
    peer,
    private_key,
    recorded,
    table,
    tunnel_peer,
)

POOLS: list[Network] = [ip_network("10.0.0.0/8"), ip_network("fd00::/64")]
NETWORK = st.one_of(
    st.ip_addresses(v=4).map(lambda address: ip_network(address)),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda net: ip_network(net, strict=False)),
    st.tuples(st.integers(2**127, 2**128 - 1), st.integers(0, 128)).map(
        lambda net: ip_network(net, strict=False)
    ),
)


@st.composite
def peers(draw: st.DrawFn, number: int = 0) -> Peer:
    """Any configuration that a peer can have."""
    networks = draw(st.lists(NETWORK, unique=True, max_size=40))
    preshared = PresharedKey(octets(f"p{number}")) if draw(st.booleans()) else None
    return Peer(key(draw(st.integers(0, 10**6))), tuple(networks), preshared, draw(st.integers(0, 65_535)))


def configurations(datagrams: list[bytearray], wanted: set[bytes] | None = None) -> list[Configured]:
    """Return what is read from these datagrams."""
    reading = Configurations(SEQUENCE, wanted)
    found = [one for datagram in datagrams for one in reading.feed(datagram, len(datagram))]
    assert reading.dump.whole
    return found


def compared(
    datagrams: list[bytearray], expected: dict[bytes, TunnelPeer], pools: list[Network] = POOLS
) -> Comparison:
    """Return how the interface of this dump differs from a table."""
    comparing = Comparing(SEQUENCE, expected, pools)
    for datagram in datagrams:
        comparing.feed(datagram, len(datagram))
    return comparing.result()


@given(st.lists(peers(), max_size=12), st.sampled_from([700, 3_776, 32_424]), st.booleans())
def test_configurations_are_read_exactly_however_they_are_split(
    given_peers: list[Peer], size: int, padded: bool
) -> None:
    """Keys, allowed IPs in their order, preshared key and keepalive come back as they were set."""
    datagrams = dump([kernel_peer(one) for one in given_peers], size=size, padded=padded)

    assert [one.peer for one in configurations(datagrams)] == given_peers


def test_a_split_peer_is_read_as_one_with_all_its_allowed_ips() -> None:
    """Read by its first entry alone, a split peer would be reinstated without half of its addresses."""
    busy = peer(1, *(f"10.0.{n >> 8}.{n & 255}/32" for n in range(3_000)), keepalive=25)
    datagrams = dump(
        [kernel_peer(tunnel_peer(0)), kernel_peer(busy), kernel_peer(tunnel_peer(2))], size=3_776
    )

    assert [one.peer for one in configurations(datagrams)] == [
        tunnel_peer(0).peer(),
        busy,
        tunnel_peer(2).peer(),
    ]


def test_only_chosen_peers_are_read() -> None:
    """Of the other peers no configuration is taken out."""
    datagrams = dump([kernel_peer(tunnel_peer(n)) for n in range(200)], size=3_776)
    found = configurations(datagrams, {bytes(key(17)), bytes(key(170))})

    assert [one.peer.public_key for one in found] == [key(17), key(170)]


@given(st.lists(peers(), max_size=12, unique_by=lambda one: one.public_key), st.data())
def test_reading_some_agrees_with_reading_all(given_peers: list[Peer], data: st.DataObject) -> None:
    """Whoever is passed over, split or not, the chosen ones are read just as well, and all are counted."""
    chosen = data.draw(
        st.sets(st.sampled_from(given_peers or [peer(0)]).map(lambda one: bytes(one.public_key)))
    )
    datagrams = dump([kernel_peer(one) for one in given_peers], size=data.draw(st.sampled_from([500, 3_776])))
    reading = Configurations(SEQUENCE, chosen)
    found = [one.peer for datagram in datagrams for one in reading.feed(datagram, len(datagram))]

    assert found == [one for one in given_peers if one.public_key in chosen]
    assert reading.peers == len(given_peers)


def test_a_configuration_comes_with_what_there_is_to_forget() -> None:
    """Who purges by a configuration sees in the same reading whether the peer has just come back."""
    state = {"handshake": 1_700_000_000_000_000_005, "rx": 148, "tx": 92, "endpoint": ENDPOINT6}
    (found,) = configurations(dump([kernel_peer(tunnel_peer(1), **state)]))

    assert found.sighting == Sighting(key(1), 1_700_000_000_000_000_005, 148, 92, True)


def test_configurations_of_a_real_kernel() -> None:
    """A recorded dump of 63 peers gives back what had been set on the interface."""
    many = Peer(key(100), tuple(ip_network((0x0B000000 + n, 32)) for n in range(250)), None, 25)
    found = {one.peer.public_key: one.peer for one in configurations(recorded("linux-6.12-aligned"))}
    expected = {
        **{key(number): tunnel_peer(number).peer() for number in range(60)},
        key(100): many,
        key(101): peer(101),
        key(102): peer(102, "10.77.0.0/16", keepalive=15, preshared=False),
    }

    assert found == expected


def test_facts_of_a_real_kernel() -> None:
    """The first datagram tells public key and port."""
    first = recorded("linux-6.12-aligned")[0]

    assert facts(first, len(first), Dump(SEQUENCE)) == Facts(private_key(0).public_key(), 51820)


def test_facts_of_an_error_are_none() -> None:
    """An interface that is none gives an error instead of facts."""
    error = bytearray(DumpWriter(SEQUENCE).error(19))
    dumped = Dump(SEQUENCE)

    assert facts(error, len(error), dumped) is None
    assert dumped.errno == 19


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("size", [500, 3_776, 32_424])
def test_an_interface_that_is_right_has_nothing_to_do(size: int, padded: bool) -> None:
    """Peers that have had traffic are equal too: only the configuration counts."""
    dumped = [kernel_peer(one) for one in table(300).values()]
    for one in dumped[::3]:
        one.endpoint, one.rx = ENDPOINT4, 5
    result = compared(dump(dumped, size=size, padded=padded), table(300))

    assert result == Comparison(whole=True, equal=300)


def test_allowed_ips_in_another_order_are_equal() -> None:
    """The kernel lists addresses in the order in which they were added, which says nothing."""
    turned = kernel_peer(tunnel_peer(1))
    turned.allowed_ips.reverse()

    assert compared(dump([turned]), table(2)).equal == 1


CHANGES = {
    "another preshared key": lambda p: setattr(p, "preshared_key", octets("other")),
    "no preshared key": lambda p: setattr(p, "preshared_key", bytes(32)),
    "a keepalive": lambda p: setattr(p, "persistent_keepalive", 25),
    "no address": lambda p: p.allowed_ips.clear(),
    "no IPv4 address": lambda p: p.allowed_ips.pop(0),
    "no IPv6 address": lambda p: p.allowed_ips.pop(1),
    "another IPv4 address": lambda p: p.allowed_ips.__setitem__(0, (2, b"\x0a\xff\xff\xff", 32)),
    "another IPv6 address": lambda p: p.allowed_ips.__setitem__(1, (10, b"\xfd" + bytes(15), 128)),
    "a shorter IPv4 prefix": lambda p: p.allowed_ips.__setitem__(0, (2, b"\x0a\0\0\0", 31)),
    "a shorter IPv6 prefix": lambda p: p.allowed_ips.__setitem__(1, (10, b"\xfd" + bytes(15), 127)),
    "one more address": lambda p: p.allowed_ips.append((2, b"\x0a\xff\xff\xff", 32)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("place", [0, 4, 8])
def test_every_difference_is_seen(change, place: int) -> None:
    """Whatever is changed on a peer, first, middle or last in the dump, it is found to be different."""
    dumped = [kernel_peer(tunnel_peer(n)) for n in range(9)]
    change(dumped[place])

    assert compared(dump(dumped), table(9)) == Comparison(whole=True, equal=8, different=[key(place)])


def test_an_address_split_off_into_the_next_message_is_not_overlooked() -> None:
    """
    A peer that looks right at the end of a message may go on in the next one.

    With messages of every length, the extra address comes to lie behind each possible cut.
    """
    dumped = [kernel_peer(tunnel_peer(n)) for n in range(6)]
    dumped[4].allowed_ips.append((2, b"\x0a\xff\xff\xff", 32))
    for size in range(400, 1600, 4):
        result = compared(dump(dumped, size=size), table(6))
        assert result == Comparison(whole=True, equal=5, different=[key(4)]), size


def test_what_is_missing_and_what_is_not_in_the_table() -> None:
    """Peers that are not in the table are told apart by their allowed IPs: ours, nobody's, or foreign."""
    found = [
        kernel_peer(tunnel_peer(0)),
        kernel_peer(peer(10, "10.200.0.1/32")),
        kernel_peer(peer(11, "10.200.0.2/32", "192.0.2.1/32")),
        kernel_peer(peer(12)),
        kernel_peer(peer(13, "192.0.2.0/24")),
        kernel_peer(peer(14, "10.200.0.3/32", "fd00::7/128")),
        kernel_peer(peer(15, "0.0.0.0/0")),
    ]
    result = compared(dump(found, size=700), table(3))

    assert result.equal == 1
    assert sorted(result.missing) == sorted([key(1), key(2)])
    assert result.strangers == [key(10), key(14)]
    assert result.bare == [key(12)]
    assert result.foreign == 3


def test_what_an_interrupted_dump_leaves_out_is_marked_as_proving_nothing() -> None:
    """A comparison from a dump with NLM_F_DUMP_INTR on one message says that it is not whole."""
    datagrams = dump([kernel_peer(tunnel_peer(n)) for n in range(60)], size=3_776, interrupted=1)

    assert not compared(datagrams, table(60)).whole
    assert compared(datagrams, table(60)).equal == 60


@given(st.integers(0, 2**32))
def test_comparing_agrees_with_reading(seed: int) -> None:
    """The comparison inside the buffer and the one of values come to the same conclusion."""
    chance = random.Random(seed)
    expected = table(20)
    dumped = [kernel_peer(tunnel_peer(n)) for n in range(25) if chance.random() < 0.8]
    for one in dumped:
        if chance.random() < 0.3:
            chance.choice(list(CHANGES.values()))(one)
    datagrams = dump(dumped, size=chance.choice([400, 700, 3_776]), padded=chance.random() < 0.5)
    by_value = {one.peer.public_key: one.peer for one in configurations(datagrams)}
    result = compared(datagrams, expected)

    same = {key for key, want in expected.items() if key in by_value and by_value[key].same_as(want.peer())}
    assert result.equal == len(same)
    assert set(result.different) == expected.keys() & by_value.keys() - same
    assert set(result.missing) == expected.keys() - by_value.keys()


def test_a_continuation_of_another_peer_is_refused() -> None:
    """Allowed IPs that belong to nobody we know must not be given to whoever came before."""
    stray = nest(0, attribute(PeerAttribute.PUBLIC_KEY, key(2)), nest(PeerAttribute.ALLOWEDIPS))
    (datagram,) = dump([kernel_peer(tunnel_peer(1))])
    body = bytes([0, 1, 0, 0]) + nest(8, stray)
    stray_message = (16 + len(body)).to_bytes(4, "little") + datagram[4:16] + body
    for reader in (Configurations(SEQUENCE), Comparing(SEQUENCE, table(3))):
        reader.feed(datagram[:-20], len(datagram) - 20)
        with pytest.raises(GarbledAnswer):
            reader.feed(stray_message, len(stray_message))


@pytest.mark.parametrize("networks", [("10.0.1.0/24", "fd00::/128"), ("10.0.1.0/32", "fd00::/64")])
def test_a_network_is_not_taken_for_the_host_it_begins_with(networks: tuple[str, str]) -> None:
    """Whoever may use a whole network on the interface differs from whoever has one address in the table."""
    expected = TunnelPeer.from_peer(peer(1, "10.0.1.0/32", "fd00::/128"))
    assert expected is not None
    on_it = [kernel_peer(peer(1, *networks)), kernel_peer(tunnel_peer(2))]

    found = compared(dump(on_it), {key(1): expected, key(2): tunnel_peer(2)})

    assert (found.different, found.equal) == ([key(1)], 1)


@pytest.mark.parametrize("rest", [b"x", bytes(3), b"\x03\x00\x00\x80", b"\x30\x00\x00\x80"])
def test_what_is_no_whole_entry_is_refused(rest: bytes) -> None:
    """Behind the last peer there is nothing: neither a few bytes nor an entry longer than its room."""
    (datagram,) = dump([kernel_peer(tunnel_peer(1))])
    entry = datagram[datagram.index(key(1)) - 8 : -20]

    def message(*entries: bytes) -> bytearray:
        body = bytes([0, 1, 0, 0]) + nest(8, *entries)
        return bytearray((16 + len(body)).to_bytes(4, "little") + datagram[4:16] + body)

    for reader in (Configurations, Comparing):
        reader(SEQUENCE, table(3)).feed(message(entry), 20 + 4 + len(entry))
        with pytest.raises(GarbledAnswer):
            longer = message(entry, rest)
            reader(SEQUENCE, table(3)).feed(longer, len(longer))


@given(st.integers(0, 2**32), st.booleans())
def test_damaged_dumps_end_in_an_answer_or_in_one_kind_of_error(seed: int, padded: bool) -> None:
    """Bits flipped, or cut short: reading and comparing come to an end, and fail in one way only."""
    chance = random.Random(seed)
    (datagram,) = dump([kernel_peer(tunnel_peer(n), endpoint=ENDPOINT4) for n in range(4)], padded=padded)
    if chance.random() < 0.5:
        del datagram[chance.randrange(len(datagram)) :]
    for _ in range(chance.randint(0, 8) if datagram else 0):
        datagram[chance.randrange(len(datagram))] ^= 1 << chance.randrange(8)
    for reader in (Configurations(SEQUENCE), Comparing(SEQUENCE, table(4), POOLS)):
        try:
            reader.feed(datagram, len(datagram))
        except GarbledAnswer:
            continue


def test_a_peer_of_the_table_survives_the_way_through_an_interface() -> None:
    """TunnelPeer, set and read back, is the same TunnelPeer; any other peer is none."""
    (found,) = configurations(dump([kernel_peer(tunnel_peer(1))]))

    assert TunnelPeer.from_peer(found.peer) == tunnel_peer(1)
    for other in (peer(1), peer(1, "10.0.0.1/32"), peer(1, "10.0.0.0/31", "fd00::1/128")):
        assert TunnelPeer.from_peer(other) is None
    assert TunnelPeer.from_peer(peer(1, "10.0.0.1/32", "fd00::1/128", keepalive=1)) is None
    assert TunnelPeer.from_peer(peer(1, "10.0.0.1/32", "10.0.0.2/32")) is None
