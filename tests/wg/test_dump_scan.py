"""What a look takes out of a dump: who has something to forget, and nothing else."""

import random
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import GarbledAnswer
from exuvia.testing.dumps import DumpWriter
from exuvia.testing.interface import KernelPeer
from exuvia.wg.attributes import (
    MESSAGE_HEADER,
    NLA_F_NESTED,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    PeerAttribute,
    attribute,
    nest,
)
from exuvia.wg.dump import Scan
from exuvia.wg.peers import Sighting
from wireguard_samples import (
    ENDPOINT4,
    ENDPOINT6,
    SEQUENCE,
    dump,
    kernel_peer,
    key,
    octets,
    peer,
    recorded,
    tunnel_peer,
)

NETWORKS = st.lists(
    st.sampled_from(["10.0.0.1/32", "10.1.0.0/16", "fd00::1/128", "fd01::/64", "0.0.0.0/0", "::/0"]),
    unique=True,
    max_size=6,
)


@st.composite
def kernel_peers(draw: st.DrawFn) -> KernelPeer:
    """A peer like most on a gateway, or any other; clean, or with something to forget."""
    number = draw(st.integers(0, 10_000))
    if draw(st.booleans()):
        given_peer = tunnel_peer(number)
    else:
        given_peer = peer(number, *draw(NETWORKS), keepalive=draw(st.sampled_from([0, 25])))
    found = kernel_peer(given_peer)
    if draw(st.booleans()):
        return found
    numbers = st.one_of(st.just(0), st.integers(1, 2**63 - 1))
    handshake = draw(st.one_of(st.just(0), st.integers(1, 2**60)))
    endpoint = draw(st.sampled_from([b"", ENDPOINT4, ENDPOINT6]))
    return replace(found, handshake=handshake, rx=draw(numbers), tx=draw(numbers), endpoint=endpoint)


def sighting(peer: KernelPeer) -> Sighting:
    """Return what a look must tell of a peer that is not clean."""
    return Sighting(peer.public_key, peer.handshake, peer.rx, peer.tx, bool(peer.endpoint))


def is_clean(peer: KernelPeer) -> bool:
    """Whether there is nothing to forget."""
    return not (peer.endpoint or peer.handshake or peer.rx or peer.tx)


def scanned(datagrams: list[bytearray]) -> tuple[Scan, list[Sighting]]:
    """Return a scan that has been fed these datagrams, and what it told."""
    scan = Scan(SEQUENCE)
    return scan, [seen for datagram in datagrams for seen in scan.feed(datagram, len(datagram))]


@given(st.lists(kernel_peers(), max_size=60), st.sampled_from([3_776, 32_424]), st.booleans())
def test_a_scan_tells_exactly_who_has_something_to_forget(
    peers: list[KernelPeer], size: int, padded: bool
) -> None:
    """Whatever the peers, the size of messages and the machine's alignment: all of them, and only they."""
    scan, seen = scanned(dump(peers, size=size, padded=padded))

    assert seen == [sighting(peer) for peer in peers if not is_clean(peer)]
    assert (scan.peers, scan.dump.whole) == (len(peers), True)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "state", [{"endpoint": ENDPOINT4}, {"endpoint": ENDPOINT6}, {"handshake": 1}, {"rx": 1}, {"tx": 1}]
)
def test_one_trace_is_enough_not_to_be_clean(state: dict[str, int | bytes], padded: bool) -> None:
    """An endpoint alone, a handshake alone, a received or a sent byte alone: each is to be forgotten."""
    peers = [kernel_peer(tunnel_peer(n)) for n in range(9)]
    peers[5] = kernel_peer(tunnel_peer(5), **state)
    _, seen = scanned(dump(peers, padded=padded))

    assert seen == [sighting(peers[5])]


def test_a_dump_of_a_real_kernel() -> None:
    """Two endpoints were set among 63 peers, one of which is split over three messages."""
    scan, seen = scanned(recorded("linux-6.12-aligned"))

    assert seen == [Sighting(key(3), 0, 0, 0, True), Sighting(key(30), 0, 0, 0, True)]
    assert (scan.peers, scan.dump.whole) == (63, True)


def test_split_peers_are_merged_a_continuation_is_no_clean_peer_of_its_own() -> None:
    """
    A peer whose allowed IPs fill several messages is one peer, with the state of its first entry.

    Its other entries carry no handshake and no counter: read as zeros they would say clean.
    """
    busy = kernel_peer(
        peer(1, *(f"10.0.{n >> 8}.{n & 255}/32" for n in range(3_000))),
        handshake=1_700_000_000_000_000_005,
        rx=148,
        tx=92,
        endpoint=ENDPOINT4,
    )
    datagrams = dump([kernel_peer(tunnel_peer(0)), busy, kernel_peer(tunnel_peer(2))], size=3_776)
    scan, seen = scanned(datagrams)

    assert len(datagrams) > 20
    assert seen == [sighting(busy)]
    assert scan.peers == 3


def in_other_order(number: int, *, endpoint: bool, extra: bytes = b"") -> bytes:
    """Return an entry such as another kernel might write it."""
    parts = [
        attribute(PeerAttribute.TX_BYTES, (92).to_bytes(8, "little")),
        attribute(PeerAttribute.ENDPOINT, ENDPOINT6) if endpoint else b"",
        extra,
        attribute(PeerAttribute.PUBLIC_KEY, key(number)),
        attribute(PeerAttribute.RX_BYTES, (148).to_bytes(8, "little")),
        attribute(PeerAttribute.LAST_HANDSHAKE_TIME, bytes(16)),
    ]
    return nest(0, *parts)


def message(*entries: bytes, flags: int = 2) -> bytearray:
    """Return a message of a dump with these entries of peers."""
    body = bytes([0, 1, 0, 0]) + nest(8, *entries)
    return bytearray(MESSAGE_HEADER.pack(16 + len(body), 21, flags, SEQUENCE, 0) + body)


def test_attributes_may_come_in_any_order_and_with_new_ones_among_them() -> None:
    """Kernels to come may order attributes otherwise and add some; what is known of them still holds."""
    entries = [
        in_other_order(1, endpoint=True),
        in_other_order(2, endpoint=False, extra=attribute(99, b"new")),
    ]
    scan, seen = scanned([message(*entries), bytearray(DumpWriter(SEQUENCE).done())])

    assert seen == [Sighting(key(1), 0, 148, 92, True), Sighting(key(2), 0, 148, 92, False)]
    assert scan.dump.whole


@pytest.mark.parametrize(
    "missing", [PeerAttribute.LAST_HANDSHAKE_TIME, PeerAttribute.RX_BYTES, PeerAttribute.TX_BYTES]
)
def test_an_entry_without_a_number_is_not_taken_for_zero(missing: int) -> None:
    """A peer of which a counter or the handshake is not told can't be called clean."""
    parts = {
        PeerAttribute.PUBLIC_KEY: bytes(key(1)),
        PeerAttribute.PRESHARED_KEY: octets("p"),
        PeerAttribute.LAST_HANDSHAKE_TIME: bytes(16),
        PeerAttribute.RX_BYTES: bytes(8),
        PeerAttribute.TX_BYTES: bytes(8),
    }
    del parts[missing]

    with pytest.raises(GarbledAnswer):
        scanned([message(nest(0, *(attribute(kind, value) for kind, value in parts.items())))])


@pytest.mark.parametrize("interrupted", range(4))
def test_the_sign_of_interruption_counts_on_any_message(interrupted: int) -> None:
    """NLM_F_DUMP_INTR on one message, first, middle or last, makes the whole dump prove nothing."""
    peers = [kernel_peer(tunnel_peer(n), rx=1) for n in range(60)]
    datagrams = dump(peers, size=3_776, interrupted=interrupted)
    scan, seen = scanned(datagrams)

    assert len(datagrams) == 4
    assert len(seen) == 60
    assert not scan.dump.whole


def test_the_sign_of_interruption_counts_on_the_end_too() -> None:
    """NLM_F_DUMP_INTR on NLMSG_DONE alone is honoured as well."""
    done = bytearray(DumpWriter(SEQUENCE).done())
    done[6] |= NLM_F_DUMP_INTR
    scan, _ = scanned([*dump([])[:0], done])

    assert scan.dump.done
    assert not scan.dump.whole


def test_a_dump_without_an_end_is_not_whole() -> None:
    """Until NLMSG_DONE has been seen, peers may be missing."""
    datagrams = dump([kernel_peer(tunnel_peer(n)) for n in range(60)], size=3_776)
    scan, _ = scanned(datagrams[:-1])

    assert not scan.dump.done
    assert not scan.dump.whole


@pytest.mark.parametrize("make", [DumpWriter(SEQUENCE).done, DumpWriter(SEQUENCE).error])
def test_a_dump_that_ends_in_an_error_is_not_whole(make) -> None:
    """NLMSG_DONE carries an errno, and NLMSG_ERROR may come instead: both are told."""
    scan, _ = scanned([bytearray(make(19))])

    assert (scan.dump.done, scan.dump.errno, scan.dump.whole) == (True, 19, False)


def test_answers_to_another_request_are_refused() -> None:
    """A message with another sequence number does not belong to this dump."""
    (datagram,) = dump([kernel_peer(tunnel_peer(1))])

    with pytest.raises(GarbledAnswer):
        Scan(SEQUENCE + 1).feed(datagram, len(datagram))


def test_nothing_may_follow_the_end() -> None:
    """What comes after NLMSG_DONE belongs to nobody."""
    (datagram,) = dump([])

    with pytest.raises(GarbledAnswer):
        scanned([datagram, datagram])


MIXED = [
    kernel_peer(tunnel_peer(1)),
    kernel_peer(tunnel_peer(2), handshake=5, rx=1, tx=2, endpoint=ENDPOINT4),
    kernel_peer(peer(3, "10.0.0.0/8", keepalive=25), endpoint=ENDPOINT6),
    kernel_peer(peer(4)),
    kernel_peer(tunnel_peer(5)),
]


@pytest.mark.parametrize("padded", [False, True])
def test_a_datagram_cut_short_anywhere_is_refused_or_not_the_end(padded: bool) -> None:
    """Cut at any byte, a dump is either an error or visibly unfinished."""
    (whole,) = dump(MIXED, padded=padded)
    end_of_first = len(whole) - 20
    for length in range(len(whole)):
        scan = Scan(SEQUENCE)
        if length in (0, end_of_first):
            scan.feed(whole, length)
            assert not scan.dump.done
        else:
            with pytest.raises(GarbledAnswer):
                scan.feed(whole, length)


@given(st.integers(0, 2**32), st.booleans())
def test_flipped_bits_end_in_an_answer_or_in_one_kind_of_error(seed: int, padded: bool) -> None:
    """However a dump is damaged, the scan comes to an end, and fails in one way only."""
    chance = random.Random(seed)
    (datagram,) = dump(MIXED, padded=padded)
    for _ in range(chance.randint(1, 12)):
        datagram[chance.randrange(len(datagram))] ^= 1 << chance.randrange(8)
    try:
        _, seen = scanned([datagram])
    except GarbledAnswer:
        return
    assert len(seen) <= len(datagram) // 48


@given(st.binary(max_size=400))
def test_noise_ends_in_an_answer_or_in_one_kind_of_error(noise: bytes) -> None:
    """Random bytes, alone or as the body of a well-formed message, are no danger."""
    entry = nest(0, noise)
    for datagram in (
        bytearray(noise),
        message(noise),
        message(entry),
        message(in_other_order(1, endpoint=True), entry),
    ):
        try:
            scanned([datagram])
        except GarbledAnswer:
            continue


@pytest.mark.parametrize("length", [0, 1, 3])
def test_an_attribute_that_says_it_is_nothing_does_not_hold_up_the_scan(length: int) -> None:
    """An attribute shorter than its own header would be walked over for ever."""
    entry = (length).to_bytes(2, "little") + NLA_F_NESTED.to_bytes(2, "little") + bytes(60)

    with pytest.raises(GarbledAnswer):
        scanned([message(entry)])
    with pytest.raises(GarbledAnswer):
        scanned([message(nest(0, entry))])


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_message_that_is_shorter_than_its_header_is_refused(size: int) -> None:
    """A message that says it takes no room is read neither again and again nor from its middle."""
    datagram = message(bytes(64))
    datagram[:4] = size.to_bytes(4, sys.byteorder)
    datagram[4:6] = bytes(2)  # of a kind that is passed over
    with pytest.raises(GarbledAnswer):
        Scan(SEQUENCE).feed(datagram, len(datagram))


@pytest.mark.parametrize("kind", [NLMSG_ERROR, NLMSG_DONE])
def test_an_end_that_does_not_say_how_it_went_is_refused(kind: int) -> None:
    """What lies behind it in the buffer is of an earlier datagram."""
    datagram = bytearray(MESSAGE_HEADER.pack(16, kind, 0, SEQUENCE, 0))
    with pytest.raises(GarbledAnswer):
        Scan(SEQUENCE).feed(datagram + bytes(16), len(datagram))


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_a_rest_that_is_no_attribute_is_refused(rest: int) -> None:
    """Behind the last entry, or behind an entry's last attribute, there is nothing."""
    whole = in_other_order(1, endpoint=True)
    for entries in ((whole, bytes(rest)), (nest(0, whole[4:], bytes(rest)),)):
        with pytest.raises(GarbledAnswer):
            scanned([message(*entries)])
    behind_the_peers = message(whole)
    behind_the_peers[:4] = (len(behind_the_peers) + rest).to_bytes(4, sys.byteorder)
    with pytest.raises(GarbledAnswer):
        Scan(SEQUENCE).feed(behind_the_peers + bytes(4), len(behind_the_peers) + 4)


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (PeerAttribute.PUBLIC_KEY, 31),
        (PeerAttribute.PUBLIC_KEY, 33),
        (PeerAttribute.LAST_HANDSHAKE_TIME, 8),
        (PeerAttribute.LAST_HANDSHAKE_TIME, 24),
        (PeerAttribute.RX_BYTES, 4),
        (PeerAttribute.TX_BYTES, 12),
    ],
)
def test_an_attribute_of_another_length_is_refused(kind: int, length: int) -> None:
    """Reading on beyond its end would take somebody else's bytes for its own."""
    parts = {
        PeerAttribute.PUBLIC_KEY: bytes(key(1)),
        PeerAttribute.LAST_HANDSHAKE_TIME: bytes(16),
        PeerAttribute.RX_BYTES: bytes(8),
        PeerAttribute.TX_BYTES: bytes(8),
    }
    parts[kind] = bytes(length)
    with pytest.raises(GarbledAnswer):
        scanned([message(nest(0, *(attribute(one, value) for one, value in parts.items())))])


def test_an_entry_without_a_key_is_refused() -> None:
    """What is told of nobody is not taken for something told of whoever came before."""
    parts = (
        attribute(PeerAttribute.LAST_HANDSHAKE_TIME, bytes(16)),
        attribute(PeerAttribute.RX_BYTES, bytes(8)),
        attribute(PeerAttribute.TX_BYTES, bytes(8)),
    )
    with pytest.raises(GarbledAnswer):
        scanned([message(nest(0, *parts))])


def test_an_error_repeats_nothing_of_the_dump() -> None:
    """The text of an error is the same whatever was in the dump."""
    (datagram,) = dump(MIXED)

    with pytest.raises(GarbledAnswer) as refused:
        scanned([datagram[:-30]])

    assert str(refused.value) == "what the interface says of its peers can't be read"
    assert refused.value.__context__ is None
