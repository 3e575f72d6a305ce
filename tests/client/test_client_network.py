"""In which order the network is changed and put back, and from what gateways are chosen."""

import os
from ipaddress import ip_address
from typing import Any

import pytest

from exuvia.client import killswitch, network, routes
from exuvia.client.gateways import Endpoint, Gateway, Known
from exuvia.client.killswitch import MARK, MASK, Openings, ruleset
from exuvia.client.network import Network
from exuvia.errors import InterfaceUnavailable, NotFound
from exuvia.system import firewall, links, sysctl
from exuvia.system.dns import Resolver
from exuvia.wg.keys import PrivateKey


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the network, in order; it looks as after a killed client."""
    done: list[str] = []

    def run(lines: Any, *, family: int | None = None) -> None:
        done.extend(f"{family or ''} {line}".strip() for line in lines)

    def show(*arguments: str) -> list[dict[str, Any]]:
        if "rule" in arguments:
            return [{"priority": 0}, {"priority": 5200}, {"priority": 5203}, {"priority": 32766}]
        return [
            {"ifname": "eth0"},
            {"ifname": "exuvia0", "ifalias": "exuvia-client"},
            {"ifname": "exuvia0b", "ifalias": "exuvia-client"},
            {"ifname": "wg0", "ifalias": "exuvia1 e 5 1.0"},
        ]

    monkeypatch.setattr(links, "run", run)
    monkeypatch.setattr(links, "show", show)
    monkeypatch.setattr(firewall, "load", lambda text: done.append(text.strip().splitlines()[-1]))
    monkeypatch.setattr(firewall, "shown", lambda table: 'table inet exuvia_client { comment "arp_ignore 0"')
    monkeypatch.setattr(firewall, "is_there", lambda table: True)
    monkeypatch.setattr(sysctl, "write", lambda name, value: done.append(f"{name} {value}"))
    monkeypatch.setattr(sysctl, "read", lambda name: 0)
    monkeypatch.setattr(Resolver, "leave", lambda self, *, interface: done.append(f"names of {interface}"))
    monkeypatch.setattr(Resolver, "restore", lambda self: done.append("names"))
    return done


def test_the_kill_switch_goes_last(steps: list[str]) -> None:
    """Names, rules, interface, setting, and the kill switch last; nothing of anybody else's."""
    assert network.clear() == []

    assert steps == [
        "names of exuvia0",
        "names of exuvia0b",
        "names",
        *(f"{family} rule del priority {number}" for family in (4, 6) for number in (5200, 5203)),
        "link delete dev exuvia0",
        "link delete dev exuvia0b",
        "net/ipv4/conf/all/arp_ignore 0",
        "delete table inet exuvia_client",
    ]


def test_before_coming_up_it_stays_closed(steps: list[str]) -> None:
    """A client that is about to come up removes what was left, but never the kill switch."""
    assert network.clear(stay_shut=True) == []

    assert "link delete dev exuvia0" in steps
    assert not [step for step in steps if "table inet" in step]


def test_what_can_not_be_put_back_is_told_and_the_rest_is_done(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step that fails keeps none of the others from being done."""

    def fail(lines: Any, *, family: int | None = None) -> None:
        raise InterfaceUnavailable("no")

    monkeypatch.setattr(links, "run", fail)
    problems = network.clear()

    assert set(problems) == {"no"}
    assert steps[0] == "names of exuvia0"
    assert steps[-1] == "delete table inet exuvia_client"


def test_arp_stricter_than_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel already answers ARP as strictly as we want, or more, that is left alone."""
    written: list[tuple[str, int]] = []
    monkeypatch.setattr(sysctl, "read", lambda name: 2)
    monkeypatch.setattr(sysctl, "write", lambda name, value: written.append((name, value)))
    Network("exuvia0").harden()

    assert "net/ipv4/conf/all/arp_ignore" not in dict(written)


def test_the_closed_kill_switch_names_nobody() -> None:
    """Closed, the kill switch has neither a tunnel nor a gateway nor a control plane in it."""
    text = ruleset(Openings())

    assert "mark" not in text
    assert text.startswith(killswitch.removal())


def test_marked_packets_skip_our_rules() -> None:
    """The rules lead everything but marked packets into the tunnel, in the order of their priorities."""
    place = routes.Place(1, "exuvia0b", ip_address("10.0.0.9"))
    control = [ip_address("192.168.7.9"), ip_address("192.168.7.9"), ip_address("fd00::9")]
    added = routes.added(ip_address("10.0.0.1"), control, family=4)
    lines = [*added, *routes.kept(place), routes.taken(place)]
    rules = sorted(line.removeprefix("rule add priority ") for line in lines if line.startswith("rule"))

    assert rules == [
        f"5200 fwmark {MARK:#x}/{MASK:#x} goto 5207",
        "5202 from 10.0.0.9 lookup 25978",
        "5203 to 10.0.0.1 lookup 25976",
        "5204 to 192.168.7.9 lookup 25976",
        "5205 lookup main suppress_prefixlength 0",
        "5206 lookup 25976",
        "5207 nop",
    ]
    assert [line for line in lines if not line.startswith("rule")] == [
        "route replace 0.0.0.0/0 dev exuvia0b src 10.0.0.9 table 25978",
        "route replace 0.0.0.0/0 dev exuvia0b src 10.0.0.9 table 25976",
    ]
    present = [0, *routes.PRIORITIES, 32766]
    assert routes.removed(present) == [f"rule del priority {n}" for n in range(5200, 5208)]
    assert routes.removed(present, number=1) == ["rule del priority 5202"]
    assert "rule del priority 5202" not in routes.removed(present, but=(1,))


def gateway(name: str) -> Gateway:
    """A gateway."""
    key = PrivateKey(os.urandom(32)).public_key()
    return Gateway(name, key, Endpoint(ip_address("2001:db8::1"), 51820), ip_address("10.0.0.1"))


def test_each_gateway_is_equally_likely() -> None:
    """Chance alone chooses, each gateway as often as any other."""
    known = Known(gateways=tuple(gateway(name) for name in "abc"))
    chosen = [known.choose(chance).name for chance in range(300)]

    assert {name: chosen.count(name) for name in "abc"} == {"a": 100, "b": 100, "c": 100}


def test_not_the_one_that_failed() -> None:
    """A gateway that did not answer is not tried at once again, unless it is the only one."""
    several = Known(gateways=(gateway("a"), gateway("b")))
    assert {several.choose(chance, but="a").name for chance in range(10)} == {"b"}
    assert Known(gateways=(gateway("a"),)).choose(7, but="a").name == "a"

    with pytest.raises(NotFound):
        Known().choose(0)


def test_what_is_known_is_kept() -> None:
    """The list of gateways comes back as it was kept; damaged, it is as if nothing were known."""
    known = Known((ip_address("192.0.2.1"), ip_address("2001:db8::2")), (gateway("a"), gateway("b")))
    content = known.encode()
    assert Known.decode(content) == known

    for length in range(len(content)):
        assert Known.decode(content[:length]) == Known()
    assert Known.decode(None) == Known()
    assert Known.decode(content.replace(b"51820", b"99999")) == Known()
