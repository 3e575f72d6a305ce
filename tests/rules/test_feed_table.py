"""What a gateway lets into its peer table, and whose peers are whose."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import InvalidConfiguration
from exuvia.rules.ownership import Pools
from exuvia.rules.table import PeerTable
from exuvia.wg.peers import TunnelPeer

POOLS = Pools.around("10.0.0.1/16", "fd00::1/64")
OWN_KEY = b"\x09" + bytes(31)
KEY = b"\x10" + bytes(31)
OTHER = b"\x11" + bytes(31)


def row(key: bytes = KEY, address4: str = "10.0.0.9", address6: str = "fd00::9") -> TunnelPeer:
    """Return a peer with this key and these addresses."""
    return TunnelPeer.pack(key, IPv4Address(address4), IPv6Address(address6), b"p" * 32)


def table(*rows: TunnelPeer) -> PeerTable:
    """Return a table that starts with these peers."""
    return PeerTable(POOLS, own_key=OWN_KEY, peers=rows)


@pytest.mark.parametrize(
    ("why", "refused"),
    [
        ("the gateway's own key", row(OWN_KEY)),
        ("a key of low order", row(bytes(32))),
        ("a key that is not canonical", row(b"\xff" * 32)),
        ("IPv4 below the pool", row(address4="9.255.255.255")),
        ("IPv4 above the pool", row(address4="10.1.0.0")),
        ("IPv4 network address", row(address4="10.0.0.0")),
        ("IPv4 broadcast address", row(address4="10.0.255.255")),
        ("the gateways' own IPv4 address", row(address4="10.0.0.1")),
        ("IPv6 outside the pool", row(address6="fd00:0:0:1::9")),
        ("IPv6 subnet-router address", row(address6="fd00::")),
        ("the gateways' own IPv6 address", row(address6="fd00::1")),
        ("no IPv4 address", row(address4="0.0.0.0")),
        ("no IPv6 address", row(address6="::")),
    ],
)
def test_p10_a_row_that_does_not_fit_is_refused_and_counted(why: str, refused: TunnelPeer) -> None:
    """A row that the control plane should never have sent changes nothing."""
    peers = table()

    assert not peers.put(refused)
    assert (len(peers), peers.refused) == (0, 1)
    assert peers.put(row())


@pytest.mark.parametrize("taken", [row(OTHER, address6="fd00::8"), row(OTHER, address4="10.0.0.8")])
def test_p10_an_address_that_another_key_has_is_refused(taken: TunnelPeer) -> None:
    """Neither of the two addresses can be taken away from whoever has it."""
    peers = table(row())

    assert not peers.put(taken)
    assert (peers.peers, peers.refused) == ({KEY: row()}, 1)


def test_a_peer_may_get_other_addresses_and_keep_one() -> None:
    """Its own addresses are no obstacle, and those it gave up are free."""
    peers = table(row())

    assert peers.put(row(address4="10.0.0.8"))
    assert peers.put(row(OTHER, address4="10.0.0.9", address6="fd00::8"))
    assert (len(peers), peers.refused) == (2, 0)


def test_a_refused_row_leaves_the_peer_as_it_was() -> None:
    """What can't be changed stays, with the addresses that it had."""
    peers = table(row(), row(OTHER, "10.0.0.8", "fd00::8"))

    assert not peers.put(row(address4="10.0.0.8"))
    assert peers.peers[KEY] == row()
    assert not peers.put(row(b"\x12" + bytes(31), "10.0.0.9", "fd00::7"))


def test_what_a_removed_peer_had_is_free() -> None:
    """A removed peer is given back, and its addresses may go to another key."""
    peers = table(row())

    assert peers.remove(KEY) == row()
    assert peers.remove(KEY) is None
    assert peers.put(row(OTHER))


def test_who_has_an_address_is_found_among_some() -> None:
    """Only keys that are asked about and hold one of the addresses are returned, never the peer's own."""
    peers = table(row(), row(OTHER, "10.0.0.8", "fd00::8"))
    wanted = row(b"\x12" + bytes(31), "10.0.0.8", "fd00::9")

    assert peers.holders(wanted, [KEY, OTHER]) == [KEY, OTHER]
    assert peers.holders(wanted, [OTHER]) == [OTHER]
    assert peers.holders(row(), [KEY, OTHER]) == []
    assert peers.holders(row(b"\x12" + bytes(31), "10.0.0.7", "fd00::7"), [KEY, OTHER]) == []


rows = st.builds(
    lambda key, four, six: row(bytes([16 + key]) + bytes(31), f"10.0.0.{four}", f"fd00::{six:x}"),
    st.integers(0, 3),
    st.integers(0, 6),
    st.integers(0, 6),
)


@given(st.lists(st.one_of(rows, st.integers(0, 3)), max_size=30))
def test_p7_no_two_peers_of_a_table_share_an_address(steps: list[TunnelPeer | int]) -> None:
    """Whatever is put and removed: every address is one peer's, and a free one is never refused."""
    peers = table()
    for step in steps:
        if isinstance(step, int):
            peers.remove(bytes([16 + step]) + bytes(31))
            continue
        others = [peer for key, peer in peers.peers.items() if key != step[:32]]
        free = all(step.address4 != p.address4 and step.address6 != p.address6 for p in others)
        reserved = step[35] <= 1 or step[51] <= 1
        assert peers.put(step) is (free and not reserved)
    addresses = [address for p in peers.peers.values() for address in (p.address4, p.address6)]

    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize(
    ("ours", "allowed_ips"),
    [
        (True, ["10.0.0.9/32", "fd00::9/128"]),
        (True, ["10.0.0.0/24"]),
        (True, ["10.0.0.0/16", "fd00::/64"]),
        (False, []),
        (False, ["10.0.0.9/32", "192.0.2.1/32"]),
        (False, ["10.0.0.0/8"]),
        (False, ["0.0.0.0/0"]),
        (False, ["10.0.0.9/32", "::/0"]),
        (False, ["fd00::/63"]),
    ],
)
def test_p10_a_peer_is_ours_if_all_its_allowed_ips_are(ours: bool, allowed_ips: list[str]) -> None:
    """One allowed IP outside the pools, or none at all, makes it somebody else's."""
    networks = [IPv6Network(text) if ":" in text else IPv4Network(text) for text in allowed_ips]

    assert POOLS.own(networks) is ours


@pytest.mark.parametrize(
    ("address4", "address6"),
    [("10.0.0.1/33", "fd00::1/64"), ("10.0.0.1/8", "10.0.0.1/8"), ("", "fd00::1/64")],
)
def test_pools_that_make_no_sense_are_refused(address4: str, address6: str) -> None:
    """What can't be read is no pool."""
    with pytest.raises(InvalidConfiguration):
        Pools.around(address4, address6)


def test_own_addresses_have_to_lie_in_the_pools() -> None:
    """A gateway without an address in its pool could reach nobody."""
    elsewhere = POOLS._replace(address4=IPv4Address("192.0.2.1"))
    with pytest.raises(InvalidConfiguration):
        elsewhere.check()
    with pytest.raises(InvalidConfiguration):
        POOLS._replace(address6=IPv6Address("fd01::1")).check()
    POOLS.check()
