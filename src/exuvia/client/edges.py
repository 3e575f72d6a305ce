"""What a running client reaches out with: this machine's network, the control plane, clocks, chance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from exuvia.client.gateways import Address, Endpoint, Gateway
from exuvia.client.state import Grant
from exuvia.client.tunnels import Tunnels
from exuvia.messages import DeviceState, GatewayListing
from exuvia.system.dns import Way
from exuvia.wg.keys import PrivateKey, PublicKey
from exuvia.wg.peers import Sighting


class Clock(Protocol):
    """The two clocks: the module exuvia.system.clock, or those of a simulation."""

    def boottime(self) -> float:
        """Return seconds since boot, counting suspend."""

    def wall(self) -> datetime:
        """Return the time of day."""

    def boot(self) -> str:
        """Return the name of this boot."""


class Entropy(Protocol):
    """Chance: the module exuvia.system.entropy, or that of a simulation."""

    def bits(self, count: int, /) -> int:
        """Return a random number of so many bits."""

    def octets(self, count: int, /) -> bytes:
        """Return so many random bytes."""


class Machine(Tunnels, Protocol):
    """The network of this machine, as exuvia.client.network.Network changes it."""

    def shut(self, gateway: Gateway | None, control: Iterable[Endpoint]) -> None:
        """Close the kill switch but for these."""

    def harden(self) -> list[str]:
        """Change what the kernel does by itself; return what could not be changed."""

    def dial(self, gateway: Gateway, key: PrivateKey, grant: Grant, *, keepalive: int) -> Way | None:
        """Make one tunnel, to this gateway, and lead everything into it."""

    def keep_alive(self, seconds: int) -> None:
        """Send an empty packet whenever nothing was sent for so long."""

    def look(self) -> Sighting:
        """Return the counters of the tunnel that new flows take."""

    def keep_names(self) -> None:
        """Put our resolver back if something else has replaced it."""


class Registry(Protocol):
    """What the control plane does with a device's keys."""

    async def register_key(self, key: PrivateKey) -> Grant:
        """Register the next key, or say again what it got; KeyRefused: use another."""

    async def applied(self, grant: Grant) -> bool:
        """Say whether every gateway knows the key of this grant; wait a little for it."""

    async def confirm(self, key: PublicKey) -> bool:
        """Say that the next key works; False if that is not the device's next key."""

    async def retire(self, key: PublicKey) -> bool:
        """Delete a key; False if it is the only one."""

    async def device(self) -> DeviceState:
        """Return which keys it knows."""


class Plane(Registry, Protocol):
    """The control plane, over a connection of one kind."""

    async def gateways(self) -> list[GatewayListing]:
        """Return the gateways that there are."""

    async def close(self) -> None:
        """Close the connection."""


class Connect(Protocol):
    """Makes connections to the control plane."""

    def __call__(self, *, addresses: Sequence[Address], mark: int | None) -> Plane:
        """Return one to these addresses, or to where its name leads; `mark` is on each of its packets."""


@dataclass(frozen=True, slots=True)
class Edges:
    """All of it."""

    machine: Machine
    connect: Connect
    clock: Clock
    entropy: Entropy
