"""Configuration text of wg(8) and wg-quick."""

from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import InvalidConfiguration
from exuvia.wg.conf import Configuration, PeerSection, keys_with_endpoint, read, write
from exuvia.wg.keys import PresharedKey
from exuvia.wg.peers import Peer
from wireguard_samples import key, octets, private_key

PRIVATE = private_key(1).text()
PRESHARED = PresharedKey(octets("p"))

TEXT = f"""
# made by hand
[Interface]
PrivateKey = {PRIVATE}   # secret
ListenPort=51820
FwMark = 0xca6c
Address = 10.0.0.1/8, fd00::1/64
address = 192.0.2.1
DNS = 10.0.0.53, corp.example
PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo a=b
MTU = 1380

[PEER]
PublicKey = {key(1).text()}
PresharedKey = {PRESHARED.text()}
AllowedIPs = 10.0.0.2/32, fd00::2/128
AllowedIPs = 10.0.0.77/24
Endpoint = gateway.example:51820
PersistentKeepalive = 25

[Peer]
PublicKey = {key(2).text()}
AllowedIPs =
PersistentKeepalive = off
"""

PARSED = Configuration(
    private_key=private_key(1),
    listen_port=51820,
    fwmark=0xCA6C,
    addresses=(ip_interface("10.0.0.1/8"), ip_interface("fd00::1/64"), ip_interface("192.0.2.1/32")),
    dns=("10.0.0.53", "corp.example"),
    peers=(
        PeerSection(
            Peer(
                key(1),
                (ip_network("10.0.0.2/32"), ip_network("fd00::2/128"), ip_network("10.0.0.0/24")),
                PRESHARED,
                25,
            ),
            has_endpoint=True,
            endpoint="gateway.example:51820",
        ),
        PeerSection(Peer(key(2))),
    ),
)


def test_a_file_as_people_write_them() -> None:
    """Comments, any case, repeated lists, settings of wg-quick, host bits, empty lists and off."""
    assert read(TEXT, endpoints=True) == PARSED


def test_endpoints_are_kept_only_where_they_are_asked_for() -> None:
    """Whoever only wants to know whether there is one gets no more."""
    first = read(TEXT).peers[0]

    assert (first.has_endpoint, first.endpoint) == (True, None)


def test_keys_with_endpoint() -> None:
    """The peers whose endpoint was configured by a person."""
    assert keys_with_endpoint(TEXT) == {bytes(key(1))}


def test_what_is_written_is_read_again() -> None:
    """Writing and reading are each other's inverse."""
    assert read(write(PARSED), endpoints=True) == PARSED


def test_golden_text() -> None:
    """The text of a client's configuration, as wg-quick takes it."""
    gateway = Peer(key(7), (ip_network("0.0.0.0/0"), ip_network("::/0")), PRESHARED)
    text = write(
        Configuration(
            private_key=private_key(1),
            addresses=(ip_interface("10.1.2.3/32"), ip_interface("fd00::2/128")),
            dns=("10.0.0.1",),
            peers=(PeerSection(gateway, has_endpoint=True, endpoint="[2001:db8::1]:443"),),
        )
    )

    assert text.splitlines() == [
        "[Interface]",
        f"PrivateKey = {PRIVATE}",
        "Address = 10.1.2.3/32, fd00::2/128",
        "DNS = 10.0.0.1",
        "",
        "[Peer]",
        f"PublicKey = {key(7).text()}",
        f"PresharedKey = {PRESHARED.text()}",
        "AllowedIPs = 0.0.0.0/0, ::/0",
        "Endpoint = [2001:db8::1]:443",
    ]


@given(
    st.lists(
        st.builds(
            lambda number, networks, keepalive: PeerSection(
                Peer(key(number), tuple(networks), None, keepalive)
            ),
            st.integers(0, 99),
            st.lists(st.integers(0, 2**32 - 1).map(ip_network), max_size=4, unique=True),
            st.integers(0, 65_535),
        ),
        max_size=4,
    ),
    st.one_of(st.none(), st.integers(0, 65_535)),
)
def test_any_configuration_survives_being_written(peers: list[PeerSection], port: int | None) -> None:
    """Whatever the peers."""
    configuration = Configuration(listen_port=port, peers=tuple(peers))

    assert read(write(configuration)) == configuration


BAD = {
    "[Interfaces]": "there is no such section",
    "PublicKey = x": "a section like [Interface] must come first",
    "[Peer]\nPrivateKey = x": "there is no such setting in this section",
    "[Interface]\nPublicKey = x": "there is no such setting in this section",
    "[Interface]\nPrivateKey = short": "not a base64 key of 32 bytes",
    "[Interface]\nPrivateKey": "it is neither a section nor a setting",
    "[Interface]\nListenPort = 65536": "its value can't be read",
    "[Interface]\nListenPort = -1": "its value can't be read",
    "[Interface]\nListenPort = ٣": "its value can't be read",
    "[Interface]\nFwMark = 0x1_0": "its value can't be read",
    "[Interface]\nAddress = 10.0.0.1,": "its value can't be read",
    "[Peer]\nPersistentKeepalive = 65536": "its value can't be read",
    "[Peer]\nAllowedIPs = 10.0.0.0/33": "its value can't be read",
    "[Peer]\nAllowedIPs = 10.0.0.0.0/8": "its value can't be read",
    "[Peer]\nEndpoint = 192.0.2.1": "its value can't be read",
    "[Peer]\nEndpoint = 2001:db8::1:443": "its value can't be read",
    "[Peer]\nEndpoint = host:0": "its value can't be read",
    "[Peer]\nPublicKey = " + "A" * 43 + "=": "the public key is a point of low order",
}


@pytest.mark.parametrize(("text", "why"), BAD.items())
def test_what_can_not_be_read_is_refused_with_its_line(text: str, why: str) -> None:
    """The message has the number of the line and the reason, and nothing of what stands there."""
    number = text.count("\n") + 3
    with pytest.raises(InvalidConfiguration) as refused:
        read("# one\n\n" + text + "\n")

    assert str(refused.value) == f"line {number}: {why}"


def test_a_peer_without_a_key_is_refused() -> None:
    """A section without PublicKey names nobody."""
    with pytest.raises(InvalidConfiguration, match="no PublicKey"):
        read("[Peer]\nAllowedIPs = 10.0.0.0/8\n")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """There is one kind of error."""
    for prefix in ("", "[Interface]\n", "[Peer]\n"):
        try:
            read(prefix + text)
        except InvalidConfiguration:
            continue
