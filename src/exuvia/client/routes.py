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


def added(interface: str, *, dns: Address | None, families: Iterable[int]) -> list[str]:
    """Return the lines of `ip -batch` that lead traffic into the tunnel."""
    lines = []
    for family in families:
        ip = f"-{family}"
        lines += [
            f"{ip} route replace default dev {interface} table {TABLE}",
            f"{ip} rule add priority {_END} nop",
            f"{ip} rule add priority {_SKIP} fwmark {MARK:#x}/{MASK:#x} goto {_END}",
            f"{ip} rule add priority {_LOCAL} lookup main suppress_prefixlength 0",
            f"{ip} rule add priority {_TUNNEL} lookup {TABLE}",
        ]
        if dns is not None and dns.version == family:
            lines.append(f"{ip} rule add priority {_RESOLVER} to {dns} lookup {TABLE}")
    return lines


def removed(present: Iterable[tuple[int, int]]) -> list[str]:
    """Return the lines that remove those of our rules that are there, as (family, priority)."""
    return [f"-{family} rule del priority {number}" for family, number in present if number in PRIORITIES]
