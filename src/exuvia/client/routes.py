"""
Policy routing: all that is not marked as the tunnel's own packets goes into the tunnel.

The main table keeps its default route, so nothing has to be put back: marked packets skip our
rules, and what the main table knows better than by its default route stays local (and is
then for the kill switch to judge). The resolver's address is the exception: a local network
that uses the same addresses must not catch it.
"""

from collections.abc import Iterable

from exuvia.client.gateways import Address
from exuvia.client.killswitch import MARK, MASK

TABLE = 25976
_SKIP, _RESOLVER, _LOCAL, _TUNNEL, _END = PRIORITIES = range(5200, 5205)


def added(interface: str, *, dns: Address | None, family: int) -> list[str]:
    """Return the lines of `ip -batch` that lead a family's traffic into the tunnel."""
    lines = [
        f"route replace default dev {interface} table {TABLE}",
        f"rule add priority {_END} nop",
        f"rule add priority {_SKIP} fwmark {MARK:#x}/{MASK:#x} goto {_END}",
        f"rule add priority {_LOCAL} lookup main suppress_prefixlength 0",
        f"rule add priority {_TUNNEL} lookup {TABLE}",
    ]
    if dns is not None and dns.version == family:
        lines.append(f"rule add priority {_RESOLVER} to {dns} lookup {TABLE}")
    return lines


def removed(present: Iterable[int]) -> list[str]:
    """Return the lines that remove those of our rules whose priorities are there."""
    return [f"rule del priority {number}" for number in present if number in PRIORITIES]
