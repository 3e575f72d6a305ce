"""In which order the network is changed and put back, and from what gateways are chosen."""

import os
from collections.abc import Iterable
from ipaddress import ip_address

import pytest

from exuvia.client import killswitch, network, routes
from exuvia.client.gateways import Endpoint, Gateway, Known
from exuvia.client.killswitch import MARK, MASK, Openings, ruleset
from exuvia.client.network import Network
from exuvia.errors import InterfaceUnavailable, NotFound
from exuvia.system import firewall, links, sysctl
from exuvia.system.dns import Resolver
from exuvia.system.links import AddRule, Change, DeleteLink, DeleteRule, Link, ReplaceRoute
from exuvia.wg.keys import PrivateKey


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is done to the network, in order; it looks as after a killed client."""
    done: list[object] = []

    there = {"eth0": "", "exuvia0": "exuvia-client", "exuvia0b": "exuvia-client", "wg0": "exuvia1 e 5 1.0"}
    monkeypatch.setattr(links, "run", done.extend)
    monkeypatch.setattr(links, "priorities", lambda family: [0, 5200, 5203, 32766])
    monkeypatch.setattr(
        links,
        "found",
        lambda: [Link(n, name, True, 0, alias) for n, (name, alias) in enumerate(there.items())],
    )
    monkeypatch.setattr(firewall, "load", lambda text: done.append(text.strip().splitlines()[-1]))
    monkeypatch.setattr(firewall, "shown", lambda table: 'table inet exuvia_client { comment "arp_ignore 0"')
    monkeypatch.setattr(firewall, "is_there", lambda table: True)
    monkeypatch.setattr(sysctl, "write", lambda name, value: done.append(f"{name} {value}"))
    monkeypatch.setattr(sysctl, "read", lambda name: 0)
    monkeypatch.setattr(Resolver, "leave", lambda self, *, interface: done.append(f"names of {interface}"))
    monkeypatch.setattr(Resolver, "restore", lambda self: done.append("names"))
    return done


def test_the_kill_switch_goes_last(steps: list[object]) -> None:
    """Names, rules, interface, setting, and the kill switch last; nothing of anybody else's."""
    assert network.clear() == []

    assert steps == [
        "names of exuvia0",
        "names of exuvia0b",
        "names",
        *(DeleteRule(family, number) for family in (4, 6) for number in (5200, 5203)),
        DeleteLink("exuvia0"),
        DeleteLink("exuvia0b"),
        "net/ipv4/conf/all/arp_ignore 0",
        "delete table inet exuvia_client",
    ]


def test_before_coming_up_it_stays_closed(steps: list[object]) -> None:
    """A client that is about to come up removes what was left, but never the kill switch."""
    assert network.clear(stay_shut=True) == []

    assert DeleteLink("exuvia0") in steps
    assert not [step for step in steps if "table inet" in str(step)]


def test_what_can_not_be_put_back_is_told_and_the_rest_is_done(
    steps: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step that fails keeps none of the others from being done."""

    def fail(changes: Iterable[Change]) -> None:
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
    changes = [*added, *routes.kept(place), routes.taken(place)]
    rules = sorted((c for c in changes if isinstance(c, AddRule)), key=lambda rule: rule.priority)

    assert rules == [
        AddRule(4, 5200, goto=5207, mark=(MARK, MASK)),
        AddRule(4, 5202, 25978, source=ip_address("10.0.0.9")),
        AddRule(4, 5203, 25976, destination=ip_address("10.0.0.1")),
        AddRule(4, 5204, 25976, destination=ip_address("192.168.7.9")),
        AddRule(4, 5205, 254, but_default=True),
        AddRule(4, 5206, 25976),
        AddRule(4, 5207),
    ]
    assert [change for change in changes if not isinstance(change, AddRule)] == [
        ReplaceRoute("exuvia0b", ip_address("10.0.0.9"), 25978),
        ReplaceRoute("exuvia0b", ip_address("10.0.0.9"), 25976),
    ]
    present = [0, *routes.PRIORITIES, 32766]
    assert routes.removed(present, family=4) == [DeleteRule(4, n) for n in range(5200, 5208)]
    assert routes.removed(present, family=6, number=1) == [DeleteRule(6, 5202)]
    assert DeleteRule(4, 5202) not in routes.removed(present, family=4, but=(1,))


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
