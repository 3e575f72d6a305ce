"""An interface that wg-quick has brought up, and whose key is exchanged while it runs."""

import asyncio
from dataclasses import replace
from ipaddress import ip_interface
from typing import Self

from exuvia.client.state import Grant
from exuvia.errors import InterfaceUnavailable
from exuvia.system import clock, links
from exuvia.system.interface import WireGuardInterface, index_of, open_interface
from exuvia.system.links import DeleteAddress, ReplaceAddress
from exuvia.wg.conf import Configuration
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Peer, Sighting

HANDSHAKE = 20.0
"""Seconds that the first handshake with a new key may take."""
_TRYING = 5
"""Seconds between the empty packets that bring a handshake about."""
_LOOK = 0.1


class Running:
    """The interface, as its configuration file has it."""

    def __init__(self, interface: WireGuardInterface, peers: list[Peer]) -> None:
        self._interface = interface
        self._peers = peers
        self._changed = False

    @classmethod
    def found(cls, name: str, configuration: Configuration) -> Self | None:
        """Return the interface of this name, None if it does not run."""
        try:
            index_of(name)
        except InterfaceUnavailable:
            return None
        return cls(open_interface(name), [section.peer for section in configuration.peers])

    async def take(self, key: PrivateKey, grant: Grant) -> bool:
        """Change to this key and its addresses; say whether a handshake came of it."""
        before = self._handshakes()
        self._set(key, grant, trying=True)
        deadline = clock.boottime() + HANDSHAKE
        while self._handshakes() == before:
            if clock.boottime() >= deadline:
                return False
            await asyncio.sleep(_LOOK)
        self._put(grant, trying=False)
        return True

    def go_back(self, key: PrivateKey, grant: Grant) -> None:
        """Change to this key without waiting, if it has another one."""
        if self._changed:
            self._set(key, grant, trying=False)
            self._changed = False

    def _set(self, key: PrivateKey, grant: Grant, *, trying: bool) -> None:
        self._changed = True
        wanted = {ip_interface(grant.address4), ip_interface(grant.address6)}
        name = self._interface.name
        present = set(links.addresses(name))
        links.run(ReplaceAddress(name, address) for address in wanted - present)
        self._interface.configure(private_key=key)
        self._put(grant, trying=trying)
        links.run(DeleteAddress(name, address) for address in present - wanted)

    def _put(self, grant: Grant, *, trying: bool) -> None:
        peers = [replace(peer, preshared_key=grant.preshared_key) for peer in self._peers]
        if trying:
            # Only a keepalive that was off before is sent at once.
            self._interface.apply(put=[replace(peer, persistent_keepalive=0) for peer in peers])
            peers = [replace(peer, persistent_keepalive=_TRYING) for peer in peers]
        self._interface.apply(put=peers)

    def _handshakes(self) -> dict[bytes, int]:
        seen: list[Sighting] = []
        self._interface.look(seen.extend, small=True)
        return {sighting.public_key: sighting.handshake for sighting in seen}
