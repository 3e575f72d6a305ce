"""
The kill switch: what may leave and enter this machine outside the tunnel, as one nftables table.

It is loaded before the tunnel comes up and removed after it is gone, each time in one
transaction, and it outlives the client: when the client is killed, nothing opens. Packets are
told apart by marks, which only root can set. What is written to a packet socket passes no
table: DHCP clients do so, and so may any program that holds CAP_NET_RAW.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from exuvia.client.gateways import Endpoint

TABLE = "exuvia_client"

MARK = 0x65780000
MASK = 0xFFFF0000
TUNNEL_MARK = MARK | 1
"""On the WireGuard socket's own packets."""
CONTROL_MARK = MARK | 2
"""On the client's own connection to the control plane, which it has only while no tunnel works."""

_LAN4 = (
    "10.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/24, 239.0.0.0/8, 255.255.255.255"
)
_LAN6 = "fc00::/7, fe80::/10, ff02::/16, ff05::/16"
_LAST = 1000
"""Priority of our chains: after all others, so that no other can change a packet that we let pass."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A tunnel, which carries what has its own addresses and nothing else."""

    interface: str
    address4: IPv4Address
    address6: IPv6Address
    ending: bool = False
    """Whether what still uses it is told that it is over."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Until when a user's packets may enter a tunnel; and whose may afterwards, and where to."""

    until: datetime
    uid: int
    control: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Openings:
    """What the kill switch lets through beside loopback, DHCP and neighbour discovery."""

    passages: tuple[Passage, ...] = ()
    gateways: tuple[Endpoint, ...] = ()
    control: tuple[Endpoint, ...] = ()
    lan: bool = False
    """Private addresses on the local network; never DNS, which would tell it where one goes."""
    hold: Hold | None = None


def ruleset(openings: Openings, *, note: str = "") -> str:
    """
    Return the table as one transaction that replaces an earlier one at once.

    `note` is kept as the table's comment.
    """
    table = [
        f'comment "{note}"' if note else "",
        *_chain("prerouting", "prerouting", "mangle", "accept", _marking(openings)),
        *_chain("output", "output", str(_LAST), "drop", _outgoing(openings)),
        *_chain("input", "input", str(_LAST), "drop", _incoming(openings)),
        *_chain("forward", "forward", str(_LAST), "drop", _forwarded(openings)),
        *_chain("postrouting", "postrouting", str(_LAST), "accept", _leaving(openings)),
    ]
    body = "\n".join(f"  {line}" for line in table if line)
    return f"{_removal()}table inet {TABLE} {{\n{body}\n}}\n"


def removal() -> str:
    """Return the transaction that removes the table, whether it is there or not."""
    return _removal()


def _removal() -> str:
    # Adding it first makes the removal succeed where there is none.
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _chain(name: str, hook: str, priority: str, policy: str, rules: Iterable[str]) -> list[str]:
    kind = f"type filter hook {hook} priority {priority}; policy {policy};"
    return [f"chain {name} {{", f"  {kind}", *(f"  {rule}" for rule in rules), "}"]


def _marking(openings: Openings) -> Iterable[str]:
    """Mark answers as their questions were, or a strict reverse path filter would drop them."""
    for gateway in openings.gateways:
        yield f"{_from_gateway(gateway)} meta mark set {TUNNEL_MARK:#x}"
    for endpoint in openings.control:
        yield f"{_from_control(endpoint)} meta mark set {CONTROL_MARK:#x}"


def _outgoing(openings: Openings) -> Iterable[str]:
    yield 'oifname "lo" accept'
    yield from _into_tunnels(openings)
    for gateway in openings.gateways:
        yield f"meta mark {TUNNEL_MARK:#x} {_to(gateway, 'udp')} accept"
    for endpoint in openings.control:
        yield f"meta mark {CONTROL_MARK:#x} {_to(endpoint, 'tcp')} accept"
    yield "ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept"
    yield "ip6 saddr fe80::/10 ip6 daddr { ff02::1:2, ff05::1:3 } udp sport 546 udp dport 547 accept"
    yield (
        "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept"
    )
    if openings.lan:
        yield from _local("daddr")
    # Refusing is kinder than silence: programs fail at once instead of waiting.
    yield "reject with icmpx admin-prohibited"


def _into_tunnels(openings: Openings) -> Iterable[str]:
    """What programs of this machine say in a tunnel; nowhere else may they use its addresses."""
    for passage in openings.passages:
        for one in _own(passage, "oifname", "saddr"):
            if passage.ending:
                yield f"{one} tcp flags & rst == rst accept"
                yield f"{one} meta l4proto tcp reject with tcp reset"
            else:
                yield from _with_own_address(one, openings.hold)
    if openings.hold is not None:
        # Silence here: it is over in seconds, and nothing has to fail for it.
        yield from (f'oifname "{passage.interface}" drop' for passage in openings.passages)
    for passage in openings.passages:
        yield f"ip saddr {passage.address4} reject with icmpx admin-prohibited"
        yield f"ip6 saddr {passage.address6} reject with icmpx admin-prohibited"


def _with_own_address(one: str, hold: Hold | None) -> Iterable[str]:
    yield f"{one} {_in_time(hold)}accept"
    if hold is None:
        return
    for endpoint in hold.control:
        if f" {endpoint.family} saddr " in one:
            yield f"{one} meta skuid {hold.uid} {_to(endpoint, 'tcp')} accept"


def _in_time(hold: Hold | None) -> str:
    return "" if hold is None else f"meta time < {int(hold.until.timestamp())} "


def _incoming(openings: Openings) -> Iterable[str]:
    yield 'iifname "lo" accept'
    for passage in openings.passages:
        for one in _own(passage, "iifname", "daddr"):
            yield f"{one} meta l4proto tcp reject with tcp reset" if passage.ending else f"{one} accept"
    for gateway in openings.gateways:
        yield f"{_from_gateway(gateway)} accept"
    for endpoint in openings.control:
        yield f"{_from_control(endpoint)} accept"
    yield "udp sport 67 udp dport 68 accept"
    yield "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"
    yield (
        "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept"
    )
    yield "icmpv6 type packet-too-big accept"
    if openings.lan:
        yield from _local("saddr")


def _forwarded(openings: Openings) -> Iterable[str]:
    for passage in openings.passages:
        yield f'oifname "{passage.interface}" {_in_time(openings.hold)}accept'
        yield f'iifname "{passage.interface}" accept'
        if openings.hold is not None:
            yield f'oifname "{passage.interface}" drop'
    if openings.lan:
        yield from _local("daddr")


def _leaving(openings: Openings) -> Iterable[str]:
    """After every translation of addresses: what has not a tunnel's own does not enter it."""
    for passage in openings.passages:
        yield f'oifname "{passage.interface}" ip saddr != {passage.address4} drop'
        yield f'oifname "{passage.interface}" ip6 saddr != {passage.address6} drop'


def _own(passage: Passage, name: str, side: str) -> tuple[str, str]:
    return (
        f'{name} "{passage.interface}" ip {side} {passage.address4}',
        f'{name} "{passage.interface}" ip6 {side} {passage.address6}',
    )


def _local(side: str) -> Iterable[str]:
    yield "meta l4proto { tcp, udp } th dport { 53, 853 } drop"
    yield f"ip {side} {{ {_LAN4} }} accept"
    yield f"ip6 {side} {{ {_LAN6} }} accept"


def _to(endpoint: Endpoint, protocol: str) -> str:
    return f"{endpoint.family} daddr {endpoint.address} {protocol} dport {endpoint.port}"


def _from_gateway(endpoint: Endpoint) -> str:
    return f"{endpoint.family} saddr {endpoint.address} udp sport {endpoint.port}"


def _from_control(endpoint: Endpoint) -> str:
    # An answer is never a bare SYN: nobody can open a connection by coming from that port.
    answer = "tcp flags & (syn | ack) != syn"
    return f"{endpoint.family} saddr {endpoint.address} tcp sport {endpoint.port} {answer}"
