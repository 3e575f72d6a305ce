"""
What a gateway with `--nat` lets the kernel do with its clients' packets.

A table of our own, in one transaction. It names the interface and not its index, so that
it holds for one that was made anew, and it stays when the daemon ends, like the interface.
"""

from exuvia.errors import InterfaceUnavailable
from exuvia.system import firewall, sysctl

_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
_REMEMBERING = ("acct", "timestamp", "log_invalid")
"""What connection tracking can write down beyond what it needs: all off."""


def table(interface: str) -> str:
    """Return the name of our table."""
    return f"inet exuvia-{interface}"


def ruleset(interface: str, way_out: str, port: int) -> str:
    """
    Return the rules of a gateway, which replace those that were there.

    The tunnel's own packets are not tracked: an entry would show where a client is for up to
    two minutes after the purge. Clients reach the way out, and neither each other nor any
    network beside it; nobody reaches a client that has not asked.
    """
    name = table(interface)
    return f"""\
table {name} {{}}
delete table {name}
table {name} {{
    chain tunnel-in {{
        type filter hook prerouting priority raw; policy accept;
        iifname != "{interface}" udp dport {port} fib daddr type local notrack
    }}
    chain tunnel-out {{
        type filter hook output priority raw; policy accept;
        oifname != "{interface}" udp sport {port} notrack
    }}
    chain through {{
        type filter hook forward priority filter; policy accept;
        iifname "{interface}" oifname != "{way_out}" drop
        oifname "{interface}" ct state != {{ established, related }} drop
    }}
    chain leaving {{
        type nat hook postrouting priority srcnat; policy accept;
        iifname "{interface}" oifname "{way_out}" masquerade
    }}
}}
"""


def begin(interface: str, way_out: str, port: int) -> None:
    """Let clients out: rules and forwarding; InterfaceUnavailable or NotPermitted if that can't be."""
    firewall.load(ruleset(interface, way_out, port))
    # A machine that forwards IPv6 gives up its own default route unless it is told to accept it.
    accepts = f"net/ipv6/conf/{way_out.replace('.', '/')}/accept_ra"
    if sysctl.read(accepts) == 1:
        sysctl.write(accepts, 2)
    for name in _FORWARDING:
        if sysctl.read(name) == 0:
            sysctl.write(name, 1)
    for name in _REMEMBERING:
        setting = f"net/netfilter/nf_conntrack_{name}"
        if sysctl.read(setting):
            sysctl.write(setting, 0)


def end(interface: str) -> None:
    """Take the rules away that an earlier run with --nat left, if there are any."""
    try:
        if firewall.shown(table(interface)) is not None:
            firewall.load(f"delete table {table(interface)}\n")
    except InterfaceUnavailable:
        # Without nftables there is nothing to take away.
        return
