"""Our numbers of WireGuard's generic netlink family are the kernel's."""

import pytest

from exuvia.wg import attributes
from exuvia.wg.attributes import (
    AllowedIPAttribute,
    Command,
    InterfaceAttribute,
    InterfaceFlag,
    PeerAttribute,
    PeerFlag,
)

# As published in the kernel's Documentation/netlink/specs/wireguard.yaml: an attribute's number is
# its place in its attribute-set, a flag's is 2 to the power of its place.
WGDEVICE = "unspec ifindex ifname private-key public-key flags listen-port fwmark peers"
WGPEER = (
    "unspec public-key preshared-key flags endpoint persistent-keepalive-interval last-handshake-time "
    "rx-bytes tx-bytes allowedips protocol-version"
)
WGALLOWEDIP = "unspec family ipaddr cidr-mask flags"
WG_CMD = "get set"
WGPEER_FLAGS = "remove-me replace-allowedips update-only"
WGDEVICE_FLAGS = "replace-peers"


@pytest.mark.parametrize(
    ("ours", "published"),
    [
        (InterfaceAttribute, WGDEVICE),
        (PeerAttribute, WGPEER),
        (AllowedIPAttribute, WGALLOWEDIP),
        (Command, WG_CMD),
    ],
)
def test_attribute_numbers_are_those_of_the_published_specification(ours, published: str) -> None:
    """Every attribute and command has the number that the kernel's specification gives it."""
    expected = {name.upper().replace("-", "_"): number for number, name in enumerate(published.split())}

    assert {member.name: member.value for member in ours} == expected


@pytest.mark.parametrize(("ours", "published"), [(PeerFlag, WGPEER_FLAGS), (InterfaceFlag, WGDEVICE_FLAGS)])
def test_flags_are_those_of_the_published_specification(ours, published: str) -> None:
    """Every flag has the bit that the kernel's specification gives it."""
    expected = {name.upper().replace("-", "_"): 1 << place for place, name in enumerate(published.split())}

    assert {member.name: member.value for member in ours} == expected


def test_constants_of_the_family() -> None:
    """Name, version and key length are those of the specification and of linux/wireguard.h."""
    assert (attributes.FAMILY_NAME, attributes.FAMILY_VERSION) == (b"wireguard", 1)
    assert attributes.KEY_LENGTH == 32


def test_an_attribute_is_padded_but_its_length_is_not() -> None:
    """The length of an attribute counts its header and payload, not the padding behind it."""
    assert attributes.attribute(3, b"\x20") == bytes.fromhex("0500 0300 20000000")


def test_an_attribute_that_is_too_long_is_refused() -> None:
    """More than 65,535 bytes would wrap around in the 16 bits of the length."""
    attributes.attribute(1, bytes(65_531))
    with pytest.raises(ValueError, match="too much"):
        attributes.attribute(1, bytes(65_532))
