"""
This machine's network as the client changes it, in one order up and the same order back.

Up: kill switch, interface, addresses, routes, names. Down: names, routes, interface, and the
kill switch last. Nothing of it depends on memory: what an earlier client left behind is found
by its name, its number or its alias, whatever became of that client.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from ipaddress import ip_interface
from typing import Literal

from exuvia.client import killswitch, routes
from exuvia.client.gateways import Address, Endpoint, Gateway
from exuvia.client.killswitch import TUNNEL_MARK, Hold, Openings, Passage
from exuvia.client.routes import Place
from exuvia.client.state import Grant
from exuvia.client.tunnel import ALIAS, Tunnel
from exuvia.errors import ExuviaError, InterfaceExists, InterfaceUnavailable, InvalidConfiguration
from exuvia.rules.liveness import Stillness
from exuvia.system import clock, firewall, flows, links, sockets, sysctl
from exuvia.system.dns import Resolver, Way
from exuvia.system.links import Change, DeleteAddress, DeleteLink, ReplaceAddress, SetLink
from exuvia.wg.keys import PrivateKey
from exuvia.wg.peers import Sighting

_TABLE = f"inet {killswitch.TABLE}"
_ARP_IGNORE = "net/ipv4/conf/all/arp_ignore"
_SRC_VALID_MARK = "net/ipv4/conf/all/src_valid_mark"
_USUAL_MTU = 1420
_LEAST_MTU = 1280
_OVERHEAD = 80
"""Bytes that WireGuard adds to a packet, at most: 40 of IPv6, 8 of UDP, 32 of its own."""

LONGEST_NAME = 14
"""Characters of an interface's name: one more has to fit, for the second tunnel's."""
STILL = 15.0
"""Seconds without a packet after which an old tunnel is idle."""
_TELLING = 0.5
"""Seconds in which whoever sends is told that it is over, where sockets can't be closed."""

Role = Literal["none", "beside", "old"]
"""What the other tunnel is: not there, one that nobody uses yet, or one that nobody new uses."""


class Network:
    """The kill switch, the tunnel that new flows take, at most one other, and what leads into them."""

    def __init__(self, interface: str, *, lan: bool = False, names: bool = True) -> None:
        """InvalidConfiguration if the interface's name is too long."""
        first, second = _names(interface)
        self._lan = lan
        self._names = names
        self._resolver = Resolver()
        self._tunnel, self._other = Tunnel(first, 0), Tunnel(second, 1)
        self._role: Role = "none"
        self._stillness: Stillness | None = None
        self._servers: list[str] = []
        self._ruleset = self._note = ""
        self._gateway: Gateway | None = None
        self._control: tuple[Endpoint, ...] = ()
        self._control_within: tuple[Endpoint, ...] = ()
        self._keepalive = 0
        self._until: datetime | None = None

    @property
    def interface(self) -> str:
        """The name of the interface that new flows use."""
        return self._tunnel.name

    def shut(self, gateway: Gateway | None, control: Iterable[Endpoint]) -> None:
        """
        Close the kill switch but for these; closed already, it changes in one step.

        The latest control plane that was told here is the one that hold() lets through.
        """
        if not self._ruleset:
            before = _arp_ignore_before()
            self._note = "" if before is None else f"arp_ignore {before}"
        self._gateway, self._control = gateway, tuple(control)
        self._control_within = self._control or self._control_within
        self._close()

    def shut_again(self) -> bool:
        """Close the kill switch as it was, if somebody has removed it; say whether that was so."""
        if not self._ruleset or is_shut():
            return False
        firewall.load(self._ruleset)
        return True

    def hold(self, until: datetime | None) -> None:
        """Let traffic into the tunnels only until then, and the client's own afterwards; None: always."""
        self._until = until
        if self._ruleset:
            self._close()

    def harden(self) -> list[str]:
        """Change what the kernel does by itself; return what could not be changed."""
        # 0 answers on every network for every address of this machine, the tunnel's too. 2 would
        # be stricter, but cuts off machines whose address stands in a network of its own.
        wanted = [(_ARP_IGNORE, 1)] if sysctl.read(_ARP_IGNORE) == 0 else []
        wanted.append((_SRC_VALID_MARK, 1))
        return _problems([partial(sysctl.write, name, value) for name, value in wanted])

    def dial(self, gateway: Gateway, key: PrivateKey, grant: Grant, *, keepalive: int) -> Way | None:
        """
        Make the tunnel lead to this gateway, and everything new lead into the tunnel.

        Returns how names are looked up now; None if the gateway has no resolver, or names are
        to be left alone.
        """
        before, self._gateway = self._tunnel.grant, gateway
        self._make(self._tunnel, gateway, key, grant, keepalive=keepalive)
        if before is not None and before != grant:
            links.run(DeleteAddress(self.interface, address) for address in links.addresses(self.interface))
        # Where the local network is let through, the control plane may be in it, and nowhere else.
        control = () if self._lan else [endpoint.address for endpoint in self._control_within]
        for place in self._places(self._tunnel):
            family = place.address.version
            others = () if self._role == "none" else (self._other.number,)
            changes: list[Change] = [*routes.removed(links.priorities(family), family=family, but=others)]
            changes += [*_arrived(place), routes.taken(place)]
            changes += routes.added(gateway.dns, control, family=family)
            links.run(changes)
        return self._look_up_names(gateway)

    def keep_alive(self, seconds: int) -> None:
        """Send an empty packet whenever nothing was sent for so long; never, for 0."""
        self._keepalive = seconds
        self._tunnel.keep_alive(seconds)

    def look(self) -> Sighting:
        """Return what the tunnel's counters show."""
        return self._tunnel.look()

    def keep_names(self) -> None:
        """Put our resolver back if something else has replaced it meanwhile."""
        if self._servers:
            self._resolver.use(self._servers, interface=self.interface)

    def take_down(self) -> list[str]:
        """Put everything back, the kill switch last; return what could not be."""
        self._ruleset = ""
        return clear(before_opening=self._end_both)

    # A change of keys: see client/tunnels.py.

    def prepare(self, gateway: Gateway, key: PrivateKey, grant: Grant) -> None:
        """Make a second tunnel beside the one in use."""
        self.end_old()
        self.abandon()
        self._role = "beside"
        try:
            self._make(self._other, gateway, key, grant, keepalive=0)
            for place in self._places(self._other):
                links.run(_arrived(place))
        except ExuviaError:
            with contextlib.suppress(ExuviaError):
                self.abandon()
            raise

    def kick(self) -> None:
        """Begin the handshake of the tunnel beside now, anew also if one is pending."""
        self._require("beside").kick()

    def look_beside(self) -> Sighting:
        """Return what the counters of the tunnel beside show."""
        return self._require("beside").look()

    def switch(self) -> None:
        """Let new flows and name resolution take the tunnel beside; taken again, it ends what failed."""
        if self._role != "old":
            beside = self._require("beside")
            beside.keep_alive(self._keepalive)
            self._lead_into(beside)
            self._tunnel, self._other, self._role = beside, self._tunnel, "old"
            self._gateway = beside.gateway
        if self._gateway is not None and self._look_up_names(self._gateway) == "resolved":
            self._resolver.leave(interface=self._other.name)

    def abandon(self) -> None:
        """Remove the tunnel beside, as if it had never been prepared."""
        if self._role == "beside":
            # A switch may have been cut short.
            if self._tunnel.exists() and self._other.grant is not None:
                self._lead_into(self._tunnel)
            self._end_other()

    def old_is_idle(self) -> bool:
        """Say whether nothing uses the old tunnel any more."""
        if self._role != "old" or not self._other.exists():
            return True
        now, sighting = clock.boottime(), self._other.look()
        if self._stillness is None:
            self._stillness = Stillness(sighting, now=now)
        self._stillness.see(sighting, now=now)
        return self._stillness.lasts(now=now) >= STILL and not flows.are_there(_addresses(self._other))

    def end_old(self) -> None:
        """Remove the old tunnel; what still used it is told at once."""
        if self._role == "old":
            if self._other.exists():
                self._tell_that_it_is_over(_addresses(self._other))
            self._end_other()

    def _tell_that_it_is_over(self, addresses: Sequence[Address]) -> None:
        flows.end(addresses)
        if flows.are_there(addresses):
            self._close(ending=self._other)
            time.sleep(_TELLING)

    def _end_other(self) -> None:
        """In this order: what of it is left when we are killed between two steps carries nothing."""
        number, addresses = self._other.number, _addresses(self._other)
        self._other.end()
        try:
            for place in (Place(number, "", address) for address in addresses):
                if place.address.version in _families():
                    links.run([routes.kept_no_more(place)])
        except InterfaceUnavailable:  # one of them was not there
            for family in _families():
                links.run(routes.removed(links.priorities(family), family=family, number=number))
        self._role, self._stillness = "none", None
        if self._ruleset:
            self._close()

    def _end_both(self) -> None:
        self._role = "none"
        self._tunnel.end()
        self._other.end()

    def _make(
        self, tunnel: Tunnel, gateway: Gateway, key: PrivateKey, grant: Grant, *, keepalive: int
    ) -> None:
        if not tunnel.exists():
            tunnel.create(mtu=_mtu_towards(gateway.endpoint))
        tunnel.dial(gateway, key, grant, keepalive=keepalive)
        self._close()
        links.run([SetLink(tunnel.name, up=True)])

    def _lead_into(self, tunnel: Tunnel) -> None:
        """Let new flows take this tunnel, and no other: one step for each family."""
        gone, come = (None if of is None else of.dns for of in (self._gateway, tunnel.gateway))
        links.run(routes.taken(place) for place in self._places(tunnel))
        for family in (4, 6):
            for change in routes.resolver_changed(gone, come, family=family):
                # It may be as it is to be already, if an earlier attempt was cut short.
                with contextlib.suppress(InterfaceUnavailable):
                    links.run([change])

    def _places(self, tunnel: Tunnel) -> list[Place]:
        return [
            Place(tunnel.number, tunnel.name, address)
            for address in _addresses(tunnel)
            if address.version in _families(tunnel.name)
        ]

    def _require(self, role: Role) -> Tunnel:
        if self._role != role:
            raise InterfaceUnavailable(f"there is no tunnel that is {role}")
        return self._other

    def _close(self, *, ending: Tunnel | None = None) -> None:
        """Load the kill switch as everything stands."""
        tunnels = [self._tunnel] if self._role == "none" else [self._tunnel, self._other]
        gateways = [self._gateway, self._other.gateway if self._role != "none" else None]
        openings = Openings(
            passages=tuple(
                Passage(tunnel.name, tunnel.grant.address4, tunnel.grant.address6, tunnel is ending)
                for tunnel in tunnels
                if tunnel.grant is not None
            ),
            gateways=tuple(dict.fromkeys(gateway.endpoint for gateway in gateways if gateway is not None)),
            control=self._control,
            lan=self._lan,
            hold=None if self._until is None else Hold(self._until, os.geteuid(), self._control_within),
        )
        self._ruleset = killswitch.ruleset(openings, note=self._note)
        firewall.load(self._ruleset)

    def _look_up_names(self, gateway: Gateway) -> Way | None:
        self._servers = []
        if not self._names or gateway.dns is None:
            return None
        way = self._resolver.use([str(gateway.dns)], interface=self.interface)
        if way == "file":
            self._servers = [str(gateway.dns)]
        return way


def is_shut() -> bool:
    """Say whether a kill switch stands, whoever closed it."""
    return firewall.is_there(_TABLE)


def require_free(interface: str) -> None:
    """Raise InterfaceExists if an interface has this name, or the second tunnel's, that is not ours."""
    for link in links.found():
        if link.name in _names(interface) and link.alias != ALIAS:
            raise InterfaceExists(
                f"there is an interface {link.name} already: choose another name with --interface"
            )


def clear(*, stay_shut: bool = False, before_opening: Callable[[], None] = lambda: None) -> list[str]:
    """
    Put back whatever a client has changed here, the kill switch last; return what could not be.

    With `stay_shut` the kill switch stays closed, for a client that is about to come up.
    """
    arp_ignore = _arp_ignore_before()
    ours = [link.name for link in links.found() if link.alias == ALIAS]
    steps: list[Callable[[], None]] = [
        *(partial(Resolver().leave, interface=name) for name in ours),
        Resolver().restore,
        *(partial(_remove_routes, family) for family in _families()),
        *(partial(links.run, [DeleteLink(name)]) for name in ours),
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


def _remove_routes(family: int) -> None:
    links.run(routes.removed(links.priorities(family), family=family))


def _arrived(place: Place) -> list[Change]:
    """What gives a tunnel its address, and keeps in it what has that address."""
    return [ReplaceAddress(place.interface, ip_interface(place.address)), *routes.kept(place)]


def _addresses(tunnel: Tunnel) -> tuple[Address, ...]:
    return () if tunnel.grant is None else (tunnel.grant.address4, tunnel.grant.address6)


def _names(interface: str) -> tuple[str, str]:
    """Return the names of the two tunnels."""
    if len(interface) > LONGEST_NAME:
        raise InvalidConfiguration(f"--interface: a name of at most {LONGEST_NAME} characters")
    return interface, f"{interface}b"


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
    carried = sockets.mtu_towards(str(endpoint.address), endpoint.port, mark=TUNNEL_MARK)
    return _USUAL_MTU if carried is None else max(_LEAST_MTU, min(_USUAL_MTU, carried - _OVERHEAD))
