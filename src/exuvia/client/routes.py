"""
Policy routing: all that is not marked as the tunnel's own packets goes into the tunnel.

New flows find their tunnel in one table, whose default route is replaced in one step. What has
a tunnel's address already stays in that tunnel: each has a table and a rule of its own.

The main table keeps its default route, so nothing has to be put back: marked packets skip our
rules, and what the main table knows better than by its default route stays local (and is
then for the kill switch to judge). The addresses of resolver and control plane are the exception: a
local network that uses the same addresses, or has the control plane in it, must not catch them.
"""

from collections.abc import Container, Iterable
from typing import NamedTuple

from exuvia.client.gateways import Address
from exuvia.client.killswitch import MARK, MASK
from exuvia.system.links import AddRule, Change, DeleteRule, ReplaceRoute

TABLE = 25976
_MAIN = 254
"""RT_TABLE_MAIN."""
_SKIP, _FIRST, _SECOND, _RESOLVER, _CONTROL, _LOCAL, _TUNNEL, _END = PRIORITIES = range(5200, 5208)


class Place(NamedTuple):
    """A tunnel in one family: its number (0 or 1), its interface and its address there."""

    number: int
    interface: str
    address: Address

    @property
    def table(self) -> int:
        """The table of what began in this tunnel."""
        return TABLE + 1 + self.number

    @property
    def priority(self) -> int:
        """The priority of the rule that leads there."""
        return _FIRST + self.number


def kept(place: Place) -> list[Change]:
    """Return what keeps in a tunnel what has its address."""
    rule = AddRule(place.address.version, place.priority, place.table, source=place.address)
    return [ReplaceRoute(place.interface, place.address, place.table), rule]


def kept_no_more(place: Place) -> DeleteRule:
    """Return what undoes kept(), once the interface and its routes are gone."""
    return DeleteRule(place.address.version, place.priority, source=place.address)


def taken(place: Place) -> ReplaceRoute:
    """Return what lets new flows take this tunnel, in one step."""
    return ReplaceRoute(place.interface, place.address, TABLE)


def added(dns: Address | None, control: Iterable[Address], *, family: int) -> list[Change]:
    """
    Return what leads a family's traffic to the tunnel that new flows take.

    Also what is for the resolver `dns` and the control plane, wherever they are.
    """
    return [
        AddRule(family, _END),
        AddRule(family, _SKIP, goto=_END, mark=(MARK, MASK)),
        AddRule(family, _LOCAL, _MAIN, but_default=True),
        AddRule(family, _TUNNEL, TABLE),
        *_resolver(dns, family),
        *_towards(control, _CONTROL, family),
    ]


def resolver_changed(gone: Address | None, come: Address | None, *, family: int) -> list[Change]:
    """Return what leads to another resolver from now on, unless it is the same."""
    if gone == come:
        return []
    before = [DeleteRule(family, rule.priority, None, rule.destination) for rule in _resolver(gone, family)]
    return [*_resolver(come, family), *before]


def removed(
    present: Iterable[int], *, family: int, number: int | None = None, but: Container[int] = ()
) -> list[DeleteRule]:
    """
    Return what removes those of our rules in a family that are there.

    With `number` only a tunnel's own; `but` names the tunnels whose own stay.
    """
    ours = PRIORITIES if number is None else (_FIRST + number,)
    gone = [priority for priority in present if priority in ours and priority - _FIRST not in but]
    return [DeleteRule(family, priority) for priority in gone]


def _resolver(dns: Address | None, family: int) -> list[AddRule]:
    return [] if dns is None else _towards([dns], _RESOLVER, family)


def _towards(addresses: Iterable[Address], priority: int, family: int) -> list[AddRule]:
    """The same rule twice would be refused."""
    ours = dict.fromkeys(address for address in addresses if address.version == family)
    return [AddRule(family, priority, TABLE, destination=address) for address in ours]
