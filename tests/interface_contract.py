"""
What every WireGuard interface must do for us: the kernel's, wireguard-go's and the fake one.

A test file per kind inherits the class and gives it the fixtures `opened`, an interface with
the private key of client 0 that listens on PORT, and `meet`, which lets a client have traffic.
"""

import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from exuvia.errors import InterfaceUnavailable
from exuvia.system.interface import WireGuardInterface
from exuvia.testing.initiator import Initiator, tai64n
from exuvia.wg.interface import Comparison, Configured
from exuvia.wg.keys import PresharedKey, PublicKey
from exuvia.wg.peers import Peer, Sighting, TunnelPeer
from wireguard_samples import octets, peer, private_key, table, tunnel_peer

PORT = 51999
Meet = Callable[[int], None]


def client(number: int) -> TunnelPeer:
    """Return the peer whose private key is private_key(number)."""
    return TunnelPeer.pack(
        private_key(number).public_key(),
        IPv4Address("10.99.0.0") + number,
        IPv6Address("fd99::") + number,
        octets(f"preshared {number}"),
    )


def really_meet(number: int) -> None:
    """Shake hands as this client, by UDP on the loopback, and send a keepalive."""
    own = client(number)
    initiator = Initiator(private_key(number), private_key(0).public_key(), own.preshared_key)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(5)
        wire.connect(("127.0.0.1", PORT))
        wire.send(initiator.initiation(number, tai64n(time.time())))
        session = initiator.finish(wire.recv(500))
        wire.send(session.data())
        time.sleep(0.2)


def seen(interface: WireGuardInterface, *, small: bool = False) -> list[Sighting]:
    """Return all that a look tells."""
    found: list[Sighting] = []
    assert interface.look(found.extend, small=small).whole
    return found


def configured(interface: WireGuardInterface) -> dict[bytes, Peer]:
    """Return the configuration of all peers."""
    found: list[Configured] = []
    assert interface.configurations(None, found.extend).whole
    return {bytes(one.peer.public_key): one.peer for one in found}


class InterfaceContract:
    """The contract; every test gets a fresh interface."""

    def test_it_says_who_it_is(self, opened: WireGuardInterface) -> None:
        """Public key and port are told, the private key is not."""
        assert opened.facts() == (private_key(0).public_key(), PORT)

    def test_it_can_be_given_another_key(self, opened: WireGuardInterface) -> None:
        """Setting the private key changes the public key, and nothing else."""
        opened.configure(private_key=private_key(77))

        assert opened.facts() == (private_key(77).public_key(), PORT)

    def test_peers_are_added_compared_and_removed(self, opened: WireGuardInterface) -> None:
        """Put, the table is on the interface exactly; removed, it is not; absent keys do not matter."""
        wanted = table(1_200)
        assert sorted(opened.compare(wanted).missing) == sorted(wanted)

        assert opened.apply(wanted.values()) == []
        assert opened.compare(wanted) == Comparison(whole=True, equal=1_200)
        assert opened.look(lambda seen: pytest.fail("all are clean")).peers == 1_200

        gone = list(wanted)[::2]
        assert opened.apply(remove=[*gone, octets("absent")]) == []
        result = opened.compare(wanted)
        assert (result.equal, sorted(result.missing)) == (600, sorted(gone))

    def test_configurations_come_back_as_they_were_set(self, opened: WireGuardInterface) -> None:
        """With and without preshared key, many allowed IPs or none, and with a keepalive."""
        given = [
            peer(1, *(f"10.1.{n >> 8}.{n & 255}/32" for n in range(2_000)), keepalive=25),
            peer(2, preshared=False),
            peer(3, "10.2.0.0/16", "fd02::/64", preshared=False),
            tunnel_peer(4).peer(),
        ]
        assert opened.apply(given) == []
        found = configured(opened)

        assert len(found) == 4
        for one in given:
            assert found[one.public_key].same_as(one)

    def test_a_put_makes_a_peer_exactly_so(self, opened: WireGuardInterface) -> None:
        """What was there before and is not wanted any more goes: addresses, preshared key, keepalive."""
        opened.apply([peer(1, "10.1.0.0/16", "fd01::/64", keepalive=25)])
        opened.apply([peer(1, "10.3.0.0/16", preshared=False)])

        assert configured(opened) == {bytes(peer(1).public_key): peer(1, "10.3.0.0/16", preshared=False)}

    def test_an_address_belongs_to_one_peer(self, opened: WireGuardInterface) -> None:
        """Given to another peer, an address leaves the first one, which is then found to be different."""
        wanted = table(2)
        opened.apply(wanted.values())
        thief = peer(9, f"{tunnel_peer(0).address4}/32")
        opened.apply([thief])
        result = opened.compare(wanted, [ip_network("10.0.0.0/8")])

        assert result == Comparison(
            whole=True, equal=1, different=[tunnel_peer(0).public_key], strangers=[thief.public_key]
        )

    def test_its_own_key_is_never_a_peer(self, opened: WireGuardInterface) -> None:
        """Putting the interface's own key succeeds and does nothing: only a comparison shows it."""
        own = client(0)

        assert opened.apply([own]) == []
        assert opened.compare({bytes(own[:32]): own}).missing == [bytes(own[:32])]

    def test_a_handshake_leaves_traces(self, opened: WireGuardInterface, meet: Meet) -> None:
        """A client that shook hands has an endpoint, a handshake, and counters; the others are clean."""
        opened.apply([client(n) for n in range(1, 6)])
        meet(3)
        for small in (False, True):
            (sighting,) = seen(opened, small=small)

            assert sighting.public_key == client(3)[:32]
            assert sighting.endpoint
            assert sighting.rx >= 148
            assert sighting.tx >= 92
            assert sighting.handshake > 1_600_000_000_000_000_000

    def test_a_purge_takes_every_trace_and_nothing_else(self, opened: WireGuardInterface, meet: Meet) -> None:
        """Endpoint, handshake and counters are gone; preshared key and addresses are as they were."""
        wanted = {bytes(one[:32]): one for one in (client(n) for n in range(1, 6))}
        opened.apply(wanted.values())
        meet(3)
        before = configured(opened)

        assert opened.purge([client(3)]) == []
        assert seen(opened) == []
        assert configured(opened) == before
        assert opened.compare(wanted) == Comparison(whole=True, equal=5)

    def test_a_purged_client_can_come_back(self, opened: WireGuardInterface, meet: Meet) -> None:
        """After a purge the same client shakes hands again, with the same preshared key."""
        opened.apply([client(1)])
        meet(1)
        opened.purge([client(1)])
        meet(1)

        assert [one.public_key for one in seen(opened)] == [client(1)[:32]]

    def test_any_peer_can_be_purged_from_its_own_configuration(
        self, opened: WireGuardInterface, meet: Meet
    ) -> None:
        """As the guard does it: read, then purge at once; all of the configuration stays."""
        other = Peer(
            PublicKey(client(2)[:32]),
            (ip_network("10.50.0.0/16"), ip_network("fd50::/64")),
            PresharedKey(client(2)[52:]),
            0,
        )
        opened.apply([other, peer(7, *(f"10.1.{n >> 8}.{n & 255}/32" for n in range(2_000)))])
        meet(2)
        before = configured(opened)
        opened.configurations({bytes(client(2)[:32])}, lambda read: opened.purge([one.peer for one in read]))

        assert seen(opened) == []
        assert configured(opened) == before

    def test_peers_can_be_purged_while_they_are_told_of(self, opened: WireGuardInterface, meet: Meet) -> None:
        """Purging in the middle of a look, with small messages: all are purged once, none is lost."""
        wanted = {bytes(one[:32]): one for one in (client(n) for n in range(1, 400))}
        opened.apply(wanted.values())
        for number in (1, 20, 200, 398, 399):
            meet(number)
        purged: list[bytes] = []

        def see(sightings: list[Sighting]) -> None:
            assert opened.purge([wanted[one.public_key] for one in sightings]) == []
            purged.extend(one.public_key for one in sightings)

        opened.look(see, small=True)

        assert len(purged) == len(set(purged)) == 5
        assert seen(opened) == []
        assert opened.compare(wanted) == Comparison(whole=True, equal=399)

    def test_a_gateway_as_a_clients_peer(self, opened: WireGuardInterface) -> None:
        """A peer can be put with its published endpoint and a keepalive."""
        gateway = peer(5, "10.0.0.0/8", keepalive=25)
        opened.put_with_endpoint(gateway, (IPv4Address("127.0.0.1"), 9))

        assert configured(opened) == {bytes(gateway.public_key): gateway}
        assert [(one.public_key, one.endpoint) for one in seen(opened)] == [(gateway.public_key, True)]

    def test_a_look_that_fails_midway_leaves_the_interface_usable(self, opened: WireGuardInterface) -> None:
        """An error in whoever is told does no harm to the next look, or to changes."""
        opened.apply([client(n) for n in range(1, 400)])
        opened.put_with_endpoint(client(1).peer(), (IPv4Address("127.0.0.1"), 9))

        def fail(sightings: list[Sighting]) -> None:
            raise ZeroDivisionError

        for small in (True, False):
            with pytest.raises(ZeroDivisionError):
                opened.look(fail, small=small)
            assert len(seen(opened, small=small)) == 1
        assert opened.purge([client(1)]) == []

    def test_nothing_changes_by_putting_what_is_there(self, opened: WireGuardInterface, meet: Meet) -> None:
        """A put of a peer that is right disturbs no session: its traces stay."""
        opened.apply([client(1)])
        meet(1)
        before = seen(opened)
        opened.apply([client(1)])

        assert seen(opened) == before


class RealInterfaceContract(InterfaceContract):
    """What only an interface with real sockets can show."""

    def test_a_listen_port_that_is_taken_is_refused(self, opened: WireGuardInterface) -> None:
        """The error says what is wrong. (What port it has then is up to who runs the interface.)"""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 0))
            with pytest.raises(InterfaceUnavailable, match="listen port"):
                opened.configure(listen_port=other.getsockname()[1])
