"""The client's WireGuard interface: made here, with one peer, run by the kernel or by wireguard-go."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from exuvia.client.gateways import Gateway
from exuvia.client.killswitch import TUNNEL_MARK
from exuvia.client.state import Grant
from exuvia.errors import InterfaceUnavailable, NotInKernel
from exuvia.system import links, userspace
from exuvia.system.interface import WireGuardInterface, index_of, open_interface
from exuvia.system.links import AddLink, DeleteLink, SetLink
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Peer, Sighting

ALIAS = "exuvia-client"
"""What marks an interface as made by a client, for as long as it exists."""

KICK = 5
"""Seconds between the empty packets that make WireGuard try a handshake, until one has happened."""

_EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


class Tunnel:
    """An interface with one peer: the gateway that it leads to at the moment."""

    def __init__(self, name: str, number: int = 0) -> None:
        self.name = name
        self.number = number
        self.grant: Grant | None = None
        """What it was dialled with: its addresses."""
        self.gateway: Gateway | None = None
        self._open: WireGuardInterface | None = None
        self._process: userspace.Process | None = None
        self._peer: Peer | None = None

    def exists(self) -> bool:
        """Say whether the interface is there, and is the one that was made here."""
        return self._open is not None and _is_there(self.name, self._open.index)

    def create(self, *, mtu: int) -> None:
        """Make the interface anew: by the kernel, or by wireguard-go if the kernel knows no WireGuard."""
        self.end()
        settings = SetLink(self.name, alias=ALIAS, mtu=mtu)
        try:
            links.run([AddLink(self.name), settings])
        except NotInKernel:
            self._process = userspace.start(self.name)
            links.run([settings])
        self._open = open_interface(self.name)

    def dial(self, gateway: Gateway, key: PrivateKey, grant: Grant, *, keepalive: int) -> None:
        """Make the gateway the only peer, with nothing remembered of any before; keepalive in seconds."""
        interface = self._require_open()
        interface.configure(private_key=key, fwmark=TUNNEL_MARK)
        before = [] if self._peer is None else [self._peer.public_key]
        interface.apply(remove=[*before, gateway.public_key])
        self._peer = Peer(gateway.public_key, _EVERYTHING, grant.preshared_key, keepalive)
        self.gateway, self.grant = gateway, grant
        self._put()

    def kick(self) -> None:
        """Begin a handshake now, with nothing remembered of one that is pending."""
        if self._peer is not None:
            self._require_open().apply(remove=[self._peer.public_key])
            self._peer = replace(self._peer, persistent_keepalive=KICK)
            self._put()

    def keep_alive(self, seconds: int) -> None:
        """Send an empty packet whenever nothing was sent for so long; never, for 0."""
        # What is set is set as a whole, for a moment without allowed IPs: not without need.
        if self._peer is not None and self._peer.persistent_keepalive != seconds:
            self._peer = replace(self._peer, persistent_keepalive=seconds)
            self._put()

    def look(self) -> Sighting:
        """Return what the peer's counters show; all 0 if nothing was sent or received yet."""
        seen: list[Sighting] = []
        self._require_open().look(seen.extend, small=True)
        return seen[0] if seen else Sighting(b"", 0, 0, 0, False)

    def end(self) -> None:
        """Remove the interface, if it is there."""
        if self._open is not None:
            if self.exists():
                links.run([DeleteLink(self.name)])
            self._open.close()
            self._open = None
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._peer = self.gateway = self.grant = None

    def _put(self) -> None:
        if self._peer is not None and self.gateway is not None:
            where = self.gateway.endpoint
            self._require_open().put_with_endpoint(self._peer, (where.address, where.port))

    def _require_open(self) -> WireGuardInterface:
        if self._open is None:
            raise InterfaceUnavailable(f"{self.name} is gone")
        return self._open


def _is_there(name: str, index: int | None = None) -> bool:
    """Say whether there is an interface of this name; and with this index, if one is given."""
    try:
        found = index_of(name)
    except InterfaceUnavailable:
        return False
    return index is None or index == found
