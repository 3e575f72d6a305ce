"""
This machine's network as the client changes it, in one order up and the same order back.

Up: kill switch, interface, addresses, routes, names. Down: names, routes, interface, and the
kill switch last. Nothing of it depends on memory: what an earlier client left behind is found
by its name, its number or its alias, whatever became of that client.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from exuvia.client import killswitch, routes
from exuvia.client.gateways import Endpoint, Gateway
from exuvia.client.killswitch import Openings
from exuvia.client.state import Grant
from exuvia.client.tunnel import ALIAS, Tunnel
from exuvia.errors import ExuviaError, InterfaceExists
from exuvia.system import firewall, links, sysctl
from exuvia.system.dns import Resolver, Way
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Sighting

_TABLE = f"inet {killswitch.TABLE}"
_ARP_IGNORE = "net/ipv4/conf/all/arp_ignore"
_SRC_VALID_MARK = "net/ipv4/conf/all/src_valid_mark"
_USUAL_MTU = 1420
_LEAST_MTU = 1280
_OVERHEAD = 80
"""Bytes that WireGuard adds to a packet, at most: 40 of IPv6, 8 of UDP, 32 of its own."""


class Network:
    """The kill switch, the tunnel and what leads into it."""

    def __init__(self, interface: str, *, lan: bool = False, names: bool = True) -> None:
        self._interface = interface
        self._lan = lan
        self._names = names
        self._resolver = Resolver()
        self._tunnel = Tunnel(interface)
        self._servers: list[str] = []
        self._ruleset = self._note = ""

    def shut(self, gateway: Gateway | None, control: Iterable[Endpoint]) -> None:
        """Close the kill switch but for these; closed already, it changes in one step."""
        if not self._ruleset:
            before = _arp_ignore_before()
            self._note = "" if before is None else f"arp_ignore {before}"
        endpoint = None if gateway is None else gateway.endpoint
        openings = Openings(self._interface, endpoint, tuple(control), self._lan)
        self._ruleset = killswitch.ruleset(openings, note=self._note)
        firewall.load(self._ruleset)

    def shut_again(self) -> bool:
        """Close the kill switch as it was, if somebody has removed it; say whether that was so."""
        if not self._ruleset or is_shut():
            return False
        firewall.load(self._ruleset)
        return True

    def harden(self) -> list[str]:
        """Change what the kernel does by itself; return what could not be changed."""
        # 0 answers on every network for every address of this machine, the tunnel's too. 2 would
        # be stricter, but cuts off machines whose address stands in a network of its own.
        wanted = [(_ARP_IGNORE, 1)] if sysctl.read(_ARP_IGNORE) == 0 else []
        wanted.append((_SRC_VALID_MARK, 1))
        return _problems([partial(sysctl.write, name, value) for name, value in wanted])

    def dial(self, gateway: Gateway, key: PrivateKey, grant: Grant, *, keepalive: int) -> Way | None:
        """
        Make the tunnel lead to this gateway, and everything lead into the tunnel.

        Returns how names are looked up now; None if the gateway has no resolver, or names are
        to be left alone.
        """
        if not self._tunnel.exists():
            self._tunnel.create(mtu=_mtu_towards(gateway.endpoint))
        self._tunnel.dial(gateway, key, grant.preshared_key, keepalive=keepalive)
        links.run([f"link set dev {self._interface} up"])
        for family, address in ((4, f"{grant.address4}/32"), (6, f"{grant.address6}/128")):
            if family in _families(self._interface):
                links.run(
                    [
                        f"address replace {address} dev {self._interface}",
                        *_routes_removed(family),
                        *routes.added(self._interface, dns=gateway.dns, family=family),
                    ],
                    family=family,
                )
        return self._look_up_names(gateway)

    def keep_alive(self, seconds: int) -> None:
        """Send an empty packet whenever nothing was sent for so long; never, for 0."""
        self._tunnel.keep_alive(seconds)

    def look(self) -> Sighting:
        """Return what the tunnel's counters show."""
        return self._tunnel.look()

    def keep_names(self) -> None:
        """Put our resolver back if something else has replaced it meanwhile."""
        if self._servers:
            self._resolver.use(self._servers, interface=self._interface)

    def take_down(self) -> list[str]:
        """Put everything back, the kill switch last; return what could not be."""
        self._ruleset = ""
        return clear(before_opening=self._tunnel.end)

    def _look_up_names(self, gateway: Gateway) -> Way | None:
        self._servers = []
        if not self._names or gateway.dns is None:
            return None
        way = self._resolver.use([str(gateway.dns)], interface=self._interface)
        if way == "file":
            self._servers = [str(gateway.dns)]
        return way


def is_shut() -> bool:
    """Say whether a kill switch stands, whoever closed it."""
    return firewall.is_there(_TABLE)


def require_free(interface: str) -> None:
    """Raise InterfaceExists if there is an interface of this name that no client of ours made."""
    if any(link["ifname"] == interface and not _is_ours(link) for link in links.show("link", "show")):
        raise InterfaceExists(
            f"there is an interface {interface} already: choose another name with --interface"
        )


def clear(*, stay_shut: bool = False, before_opening: Callable[[], None] = lambda: None) -> list[str]:
    """
    Put back whatever a client has changed here, the kill switch last; return what could not be.

    With `stay_shut` the kill switch stays closed, for a client that is about to come up.
    """
    arp_ignore = _arp_ignore_before()
    ours = [str(link["ifname"]) for link in links.show("link", "show") if _is_ours(link)]
    steps: list[Callable[[], None]] = [
        partial(Resolver().restore, interface=ours[0] if ours else None),
        *(partial(_remove_routes, family) for family in _families()),
        *(partial(links.run, [f"link delete dev {name}"]) for name in ours),
        before_opening,
    ]
    if not stay_shut and is_shut():
        if arp_ignore is not None:
            steps.append(partial(sysctl.write, _ARP_IGNORE, arp_ignore))
        steps.append(partial(firewall.load, killswitch.removal()))
    return _problems(steps)


def _problems(steps: Iterable[Callable[[], None]]) -> list[str]:
    problems = []
    for step in steps:
        try:
            step()
        except ExuviaError as error:
            problems.append(str(error))
    return problems


def _is_ours(link: dict[str, Any]) -> bool:
    return link.get("ifalias") == ALIAS


def _remove_routes(family: int) -> None:
    links.run(_routes_removed(family), family=family)


def _routes_removed(family: int) -> list[str]:
    return routes.removed(int(rule["priority"]) for rule in links.show(f"-{family}", "rule", "show"))


def _arp_ignore_before() -> int | None:
    """Return what the setting was before a client changed it: the kill switch's table remembers."""
    table = firewall.shown(_TABLE)
    noted = None if table is None else re.search(r"arp_ignore (\d+)", table)
    if noted is not None:
        return int(noted[1])
    return sysctl.read(_ARP_IGNORE)


def _families(interface: str | None = None) -> tuple[int, ...]:
    """Return the address families that this kernel has, or that are switched on for an interface."""
    off = sysctl.read(f"net/ipv6/conf/{interface or 'all'}/disable_ipv6")
    return (4,) if off is None or (interface is not None and off) else (4, 6)


def _mtu_towards(endpoint: Endpoint) -> int:
    """Return the tunnel's MTU: what the way to the gateway carries, less WireGuard's own bytes."""
    try:
        (route,) = links.show("route", "get", str(endpoint.address))
        (link,) = links.show("link", "show", "dev", str(route["dev"]))
    except (ExuviaError, ValueError, KeyError):
        return _USUAL_MTU
    return max(_LEAST_MTU, min(_USUAL_MTU, int(link["mtu"]) - _OVERHEAD))
