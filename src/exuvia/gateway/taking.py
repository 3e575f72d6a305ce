"""
Taking a WireGuard interface into care: one that is there, or one that is made now.

On an interface that we made, key and port are ours to set; on one that we found, never. Which
it is stands on the interface itself: ours are in a group of links that is set as they are made,
so that also one whose making was cut short is known.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exuvia.errors import InterfaceUnavailable, InvalidConfiguration, InvalidKey
from exuvia.gateway.settings import Settings
from exuvia.rules.ownership import Pools
from exuvia.system import entropy, links, userspace
from exuvia.system.aliases import GROUP, Links
from exuvia.system.interface import WireGuardInterface, open_interface
from exuvia.wg.interface import Facts
from exuvia.wg.keys import PrivateKey, PublicKey


@dataclass(slots=True)
class Taken:
    """An interface in our care."""

    interface: WireGuardInterface
    public_key: PublicKey
    listen_port: int
    made: bool
    alias: str

    def lasting(self, settings: Settings) -> bool:
        """Say whether its key outlives it: one that somebody configured, or that stands in a file."""
        return not self.made or settings.private_key_file is not None


def take(settings: Settings, known: Links, *, make: bool = True) -> Taken:
    """
    Return the interface of the settings, made first if there is none and `make` says so.

    Raises InterfaceInUse if another daemon looks after it, InvalidConfiguration if it has no
    private key.
    """
    name = settings.interface
    if known.find(name) is None:
        if not make:
            raise InterfaceUnavailable(f"there is no interface {name} any more")
        _make(name)
    link = known.find(name)
    if link is None:
        raise InterfaceUnavailable(f"{name} went away")
    interface = open_interface(name)
    try:
        made = link.group == GROUP
        if made:
            _configure(interface, settings)
        if not link.up:
            links.run([f"link set {name} up"])
        facts = interface.facts()
        if facts.public_key is None:
            raise InvalidConfiguration(
                f"{name} has no private key: give it one with `wg set`, or delete {name} and it will be "
                "made with one"
            )
        return Taken(interface, facts.public_key, facts.listen_port, made, link.alias)
    except BaseException:
        interface.close()
        raise


def give_addresses(interface: str, pools: Pools) -> None:
    """Give the interface the gateways' own addresses, each with its pool as its network."""
    links.run([f"addr replace {pools.address4}/{pools.pool4.prefixlen} dev {interface}"])
    # On a machine without IPv6 there is nothing to give.
    with suppress(InterfaceUnavailable):
        links.run([f"addr replace {pools.address6}/{pools.pool6.prefixlen} dev {interface} nodad"])


def _make(name: str) -> None:
    try:
        links.run([f"link add {name} group {GROUP} type wireguard"])
    except InterfaceUnavailable as error:
        if "Unknown device type" not in str(error):
            raise
        userspace.start(name, lasting=True)
        links.run([f"link set {name} group {GROUP}"])


def _configure(interface: WireGuardInterface, settings: Settings) -> None:
    """Set key and port of an interface that we made, unless an earlier run has done so."""
    facts = interface.facts()
    key = _private_key(settings, facts)
    port = settings.listen_port if settings.listen_port != facts.listen_port else None
    if key is not None or port is not None:
        interface.configure(private_key=key, listen_port=port)


def _private_key(settings: Settings, facts: Facts) -> PrivateKey | None:
    if settings.private_key_file is None:
        return None if facts.public_key is not None else PrivateKey(entropy.octets(32))
    try:
        return PrivateKey.from_text(Path(settings.private_key_file).read_text().strip())
    except OSError as error:
        raise InvalidConfiguration(f"{settings.private_key_file}: {error.strerror}") from None
    except (InvalidKey, UnicodeDecodeError):
        raise InvalidConfiguration(
            f"{settings.private_key_file} holds no WireGuard private key: write one with `wg genkey`"
        ) from None
