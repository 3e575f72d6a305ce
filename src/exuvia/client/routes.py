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

TABLE = 25976
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


def kept(place: Place) -> list[str]:
    """Return the lines of `ip -batch` that keep in a tunnel what has its address."""
    return [f"route replace {_default(place)} table {place.table}", f"rule add {_from(place)}"]


def kept_no_more(place: Place) -> str:
    """Return the line that undoes kept(), once the interface and its routes are gone."""
    return f"rule del {_from(place)}"


def taken(place: Place) -> str:
    """Return the line that lets new flows take this tunnel, in one step."""
    return f"route replace {_default(place)} table {TABLE}"


def added(dns: Address | None, control: Iterable[Address], *, family: int) -> list[str]:
    """
    Return the lines that lead a family's traffic to the tunnel that new flows take.

    Also what is for the resolver `dns` and the control plane, wherever they are.
    """
    return [
        f"rule add priority {_END} nop",
        f"rule add priority {_SKIP} fwmark {MARK:#x}/{MASK:#x} goto {_END}",
        f"rule add priority {_LOCAL} lookup main suppress_prefixlength 0",
        f"rule add priority {_TUNNEL} lookup {TABLE}",
        *_resolver(dns, family),
        *_towards(control, _CONTROL, family),
    ]


def resolver_changed(gone: Address | None, come: Address | None, *, family: int) -> list[str]:
    """Return the lines that lead to another resolver from now on, unless it is the same."""
    if gone == come:
        return []
    before = [line.replace("rule add", "rule del", 1) for line in _resolver(gone, family)]
    return [*_resolver(come, family), *before]


def removed(present: Iterable[int], *, number: int | None = None, but: Container[int] = ()) -> list[str]:
    """
    Return the lines that remove those of our rules that are there.

    With `number` only a tunnel's own; `but` names the tunnels whose own stay.
    """
    ours = PRIORITIES if number is None else (_FIRST + number,)
    gone = [priority for priority in present if priority in ours and priority - _FIRST not in but]
    return [f"rule del priority {priority}" for priority in gone]


def _resolver(dns: Address | None, family: int) -> list[str]:
    return [] if dns is None else _towards([dns], _RESOLVER, family)


def _towards(addresses: Iterable[Address], priority: int, family: int) -> list[str]:
    """The same rule twice would be refused."""
    ours = dict.fromkeys(address for address in addresses if address.version == family)
    return [f"rule add priority {priority} to {address} lookup {TABLE}" for address in ours]


def _from(place: Place) -> str:
    return f"priority {place.priority} from {place.address} lookup {place.table}"


def _default(place: Place) -> str:
    # Not "default": this tells the family, so that one batch can be of both.
    everything = "0.0.0.0/0" if place.address.version == 4 else "::/0"
    return f"{everything} dev {place.interface} src {place.address}"
