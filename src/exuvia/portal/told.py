"""Devices as pages tell of them."""

from dataclasses import dataclass

from exuvia.api import identifiers
from exuvia.api.devices import addresses
from exuvia.store.devices import Device, Key

STANDINGS = {
    "current": "in use",
    "next": "not confirmed yet",
    "old": "being replaced",
    "retired": "replaced, gone within ten minutes",
}


@dataclass(frozen=True, slots=True)
class ToldKey:
    """A key of a device, in words."""

    public_key: str
    addresses: list[str]
    preshared_key: str
    standing: str


@dataclass(frozen=True, slots=True)
class ToldDevice:
    """A device, in words."""

    id: str
    name: str
    keys: list[ToldKey]


def told(device: Device) -> ToldDevice:
    """Return a device in words; of its keys the one in use comes first."""
    keys = sorted(device.keys, key=lambda key: key.standing != "current")
    return ToldDevice(identifiers.text(device.id), device.name, [_key(key) for key in keys])


def _key(key: Key) -> ToldKey:
    peer = key.peer
    return ToldKey(
        peer.public_key.text(), addresses(peer), peer.preshared_key.text(), STANDINGS[key.standing]
    )
