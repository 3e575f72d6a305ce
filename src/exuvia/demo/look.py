"""What `wg show` tells of a gateway's interface, as anybody with root would see it."""

from collections.abc import Callable
from dataclasses import dataclass

from exuvia.demo.world import StepFailed, World

OfKeys = Callable[[set[str]], bool]
"""Says whether the public keys on an interface are those one waits for."""


@dataclass(frozen=True)
class Gateway:
    """A gateway of the demonstration."""

    name: str
    network: str
    interface: str

    @property
    def address(self) -> str:
        """Its public address."""
        return f"{self.network}.2"


@dataclass(frozen=True)
class Shown:
    """One peer's line of `wg show … dump`."""

    preshared_key: str
    endpoint: str | None
    allowed_ips: str
    handshake: int
    received: int
    sent: int

    @property
    def configuration(self) -> tuple[str, str]:
        """What a purge must keep."""
        return self.preshared_key, self.allowed_ips

    @property
    def forgotten(self) -> bool:
        """Whether nothing is left but the configuration."""
        return self.endpoint is None and (self.handshake, self.received, self.sent) == (0, 0, 0)


def peers(world: World, gateway: Gateway) -> dict[str, Shown]:
    """Return all peers of a gateway by their public keys."""
    lines = world.run(gateway.name, "wg", "show", gateway.interface, "dump").splitlines()[1:]
    found = {}
    for line in lines:
        key, psk, endpoint, allowed, handshake, received, sent, _keepalive = line.split("\t")
        where = None if endpoint == "(none)" else endpoint
        found[key] = Shown(psk, where, allowed, int(handshake), int(received), int(sent))
    return found


def paragraph(world: World, gateway: Gateway, key: str) -> str:
    """Return what `wg show` prints of one peer."""
    for part in world.run(gateway.name, "wg", "show", gateway.interface).split("\n\n"):
        if part.startswith(f"peer: {key}"):
            return part
    raise StepFailed(f"wg show {gateway.interface} does not know the peer")
