"""
The numbers of netlink, generic netlink and WireGuard's family, in one place.

Names and values are those of the kernel's include/uapi/linux/{netlink,genetlink,wireguard}.h;
a test compares WireGuard's with the kernel's Documentation/netlink/specs/wireguard.yaml.
What the kernel calls a WireGuard device is an interface here.
"""

from enum import IntEnum, IntFlag
from struct import Struct

FAMILY_NAME = b"wireguard"
FAMILY_VERSION = 1
KEY_LENGTH = 32

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_MIN_TYPE = 16
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
NLM_F_DUMP = 0x300
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
LONGEST_ATTRIBUTE = 65_535
"""Bytes of an attribute, its header included: the length has 16 bits."""

CONTROL_FAMILY = 16
CTRL_CMD_NEWFAMILY = 1
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2

AF_INET = 2
AF_INET6 = 10

MESSAGE_HEADER = Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port id."""

GENERIC_HEADER = Struct("=BBH")
"""genlmsghdr: command, version, reserved."""

ATTRIBUTE_HEADER = Struct("=HH")
"""nlattr: length without padding, type."""


class Command(IntEnum):
    """What can be asked of WireGuard's family."""

    GET = 0
    SET = 1


class InterfaceAttribute(IntEnum):
    """Attributes of an interface (wgdevice)."""

    UNSPEC = 0
    IFINDEX = 1
    IFNAME = 2
    PRIVATE_KEY = 3
    PUBLIC_KEY = 4
    FLAGS = 5
    LISTEN_PORT = 6
    FWMARK = 7
    PEERS = 8


class PeerAttribute(IntEnum):
    """Attributes of a peer (wgpeer)."""

    UNSPEC = 0
    PUBLIC_KEY = 1
    PRESHARED_KEY = 2
    FLAGS = 3
    ENDPOINT = 4
    PERSISTENT_KEEPALIVE_INTERVAL = 5
    LAST_HANDSHAKE_TIME = 6
    RX_BYTES = 7
    TX_BYTES = 8
    ALLOWEDIPS = 9
    PROTOCOL_VERSION = 10


class AllowedIPAttribute(IntEnum):
    """Attributes of an allowed IP (wgallowedip)."""

    UNSPEC = 0
    FAMILY = 1
    IPADDR = 2
    CIDR_MASK = 3
    FLAGS = 4


class InterfaceFlag(IntFlag):
    """How a change of an interface is meant."""

    REPLACE_PEERS = 1


class PeerFlag(IntFlag):
    """How a change of a peer is meant."""

    REMOVE_ME = 1
    REPLACE_ALLOWEDIPS = 2
    UPDATE_ONLY = 4


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute with its header, padded to four bytes."""
    length = 4 + len(payload)
    if length > LONGEST_ATTRIBUTE:
        raise ValueError("too much for one netlink attribute")
    return ATTRIBUTE_HEADER.pack(length, kind) + payload + bytes(-length % 4)


def nest(kind: int, *inner: bytes) -> bytes:
    """Return an attribute that is made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(inner))
