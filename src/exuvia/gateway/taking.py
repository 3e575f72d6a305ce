"""
Taking a WireGuard interface into care: one that is there, or one that is made now.

On an interface that we made, key and port are ours to set; on one that we found, never. Which
it is stands on the interface itself: ours are in a group of links that is set as they are made,
so that also one whose making was cut short is known.
"""

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from exuvia.errors import ExuviaError, InterfaceUnavailable, InvalidConfiguration, InvalidKey, NotInKernel
from exuvia.gateway.settings import Settings
from exuvia.rules.ownership import Pools
from exuvia.system import entropy, links, process, userspace
from exuvia.system.interface import WireGuardInterface, open_interface
from exuvia.system.links import GROUP, AddLink, Links, ReplaceAddress, SetLink
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
            links.run([SetLink(name, up=True)])
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
    links.run([ReplaceAddress(interface, ip_interface((pools.address4, pools.pool4.prefixlen)))])
    # On a machine without IPv6 there is nothing to give.
    with suppress(InterfaceUnavailable):
        links.run([ReplaceAddress(interface, ip_interface((pools.address6, pools.pool6.prefixlen)))])


def _make(name: str) -> None:
    try:
        links.run([AddLink(name, GROUP)])
    except NotInKernel:
        userspace.start(name, lasting=True)
        links.run([SetLink(name, group=GROUP)])


def _configure(interface: WireGuardInterface, settings: Settings) -> None:
    """Set key and port of an interface that we made, unless an earlier run has done so."""
    facts = interface.facts()
    if settings.listen_port not in (None, facts.listen_port):
        interface.configure(listen_port=settings.listen_port)
    if facts.public_key is None or settings.private_key_file is not None:
        # No copy of the key is left in a memory that lasts.
        refusal = process.in_child(lambda: _give_key(interface.name, settings.private_key_file))
        if refusal is not None:
            raise InvalidConfiguration(refusal)


def _give_key(name: str, file: str | None) -> str | None:
    """Give an interface the private key of a file, or one made now; return why not, if not."""
    try:
        text = None if file is None else Path(file).read_text()
        key = PrivateKey(entropy.octets(32)) if text is None else PrivateKey.from_text(text.strip())
        # The lock on the interface is our parent's.
        open_interface(name, alone=False).configure(private_key=key)
    except OSError as error:
        return f"{file}: {error.strerror}"
    except (InvalidKey, UnicodeDecodeError):
        return f"{file} holds no WireGuard private key: write one with `wg genkey`"
    except ExuviaError as error:
        return str(error)
    return None
