"""What the two processes of a gateway say to each other."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exuvia.errors import GarbledRecord
from exuvia.gateway.records import (
    LENGTH,
    Alive,
    Applied,
    Beat,
    ChangeBegins,
    Follow,
    FromKernel,
    FromNetwork,
    Identity,
    Removal,
    Row,
    SnapshotBegins,
    SnapshotEnds,
    StreamBegins,
    StreamLost,
    Welcome,
    WentBack,
    from_kernel,
    from_network,
    split,
)
from exuvia.rules.feed import Position
from exuvia.rules.ownership import Pools
from exuvia.wg.keys import PublicKey
from exuvia.wg.peers import TunnelPeer

POOLS = Pools.around("10.0.0.1/8", "fd00::1/64")
AT = Position("some-epoch_0.9", 2**63)
KEY = b"\x10" + bytes(31)
PEER = TunnelPeer.pack(KEY, IPv4Address("10.0.0.9"), IPv6Address("fd00::9"), b"p" * 32)

FROM_NETWORK = [
    Alive(),
    Welcome(POOLS),
    StreamLost(),
    StreamBegins(2**32 - 1),
    WentBack(),
    SnapshotBegins(AT, 2**32 - 1),
    SnapshotEnds(b"d" * 32),
    ChangeBegins(AT, 2**64 - 1, 7, 8),
    Removal(PublicKey(KEY)),
    Row(PEER),
    Beat(AT),
]
FROM_KERNEL = [
    Identity(PublicKey(KEY), lasting=True),
    Identity(PublicKey(KEY), lasting=False),
    Follow(7, AT),
    Follow(7, None),
    Applied(AT),
]


@pytest.mark.parametrize("record", FROM_NETWORK, ids=lambda record: type(record).__name__)
def test_what_the_network_process_says_arrives(record: FromNetwork) -> None:
    """Each record is 128 bytes, and is read as what was said."""
    assert len(record.encode()) == LENGTH
    assert from_network(record.encode()) == record


@pytest.mark.parametrize("record", FROM_KERNEL, ids=lambda record: type(record).__name__)
def test_what_the_kernel_process_says_arrives(record: FromKernel) -> None:
    """Each record is 128 bytes, and is read as what was said."""
    assert len(record.encode()) == LENGTH
    assert from_kernel(record.encode()) == record


@pytest.mark.parametrize("record", [*FROM_KERNEL], ids=lambda record: type(record).__name__)
def test_each_side_says_only_its_own(record: FromKernel) -> None:
    """What the kernel process says is nothing that the network process could say."""
    with pytest.raises(GarbledRecord):
        from_network(record.encode())


@given(st.binary(max_size=2 * LENGTH) | st.binary(min_size=LENGTH, max_size=LENGTH))
@example(b"")
@example(b"P" + bytes(LENGTH))
def test_rubbish_is_refused_or_is_a_record(rubbish: bytes) -> None:
    """Whatever comes is refused in one way, or is exactly what a record says."""
    try:
        record = from_network(rubbish)
    except GarbledRecord:
        return

    assert record.encode() == rubbish


@given(
    st.sampled_from(FROM_NETWORK),
    st.lists(st.tuples(st.integers(0, LENGTH - 1), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_damaged_record_is_refused_or_is_another_record(
    record: FromNetwork, damage: list[tuple[int, int]]
) -> None:
    """A record with a few bytes changed never is anything but one that could have been said."""
    damaged = bytearray(record.encode())
    for place, value in damage:
        damaged[place] = value
    try:
        read = from_network(bytes(damaged))
    except GarbledRecord:
        return

    assert read.encode() == damaged


@pytest.mark.parametrize(
    "epoch", [b"", b"with space", b"\xc3\xa9", b"line\nbreak", b"a\0b", b"e" * 63 + b"\xff"]
)
def test_an_epoch_is_a_plain_word(epoch: bytes) -> None:
    """It is written into an alias and into a URL: other names than plain ones are refused."""
    raw = Beat(Position("x" * 64, 1)).encode().replace(b"x" * 64, epoch.ljust(64, b"\0"))
    with pytest.raises(GarbledRecord):
        from_network(raw)


def test_an_epoch_that_is_too_long_is_not_passed_on() -> None:
    """What does not fit into a record is an error where it comes from."""
    with pytest.raises(GarbledRecord):
        Beat(Position("x" * 65, 1)).encode()


def test_a_number_that_is_too_large_is_not_passed_on() -> None:
    """What does not fit into a record is an error where it comes from."""
    for record in (Beat(Position("x", 2**64)), Beat(Position("x", -1)), SnapshotBegins(AT, 2**32)):
        with pytest.raises(GarbledRecord):
            record.encode()


@pytest.mark.parametrize(
    "pools",
    [
        POOLS._replace(address4=IPv4Address("192.0.2.1")),
        POOLS._replace(address6=IPv6Address("fd01::1")),
    ],
)
def test_pools_without_their_own_addresses_are_refused(pools: Pools) -> None:
    """The kernel process believes no pools that make no sense."""
    with pytest.raises(GarbledRecord):
        from_network(Welcome(pools).encode())


@given(st.lists(st.sampled_from(FROM_NETWORK), max_size=6), st.lists(st.integers(1, 300), max_size=12))
def test_records_are_cut_out_of_whatever_arrives(records: list[FromNetwork], sizes: list[int]) -> None:
    """However the bytes are cut on their way, the records come out whole and in order."""
    stream = b"".join(record.encode() for record in records)
    buffer, found = bytearray(), []
    for size in [*sizes, len(stream)]:
        buffer += stream[:size]
        stream = stream[size:]
        found += [from_network(raw) for raw in split(buffer)]

    assert (found, buffer) == (records, b"")


def test_records_show_nobody() -> None:
    """A record that is printed by mistake shows neither key nor address."""
    text = repr([Row(PEER), Removal(PublicKey(KEY)), Identity(PublicKey(KEY), lasting=True)])

    assert "10.0" not in text
    assert "\\x10" not in text
