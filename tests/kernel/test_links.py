"""Links, addresses, routes and rules are what `ip` says they are; what fails is told by its cause."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from exuvia.errors import GarbledAnswer, InterfaceUnavailable, NotInKernel, NotPermitted
from exuvia.system import links, rtnetlink
from exuvia.system.interface import index_of
from exuvia.system.links import (
    AddLink,
    AddRule,
    Change,
    DeleteAddress,
    DeleteLink,
    DeleteRule,
    Links,
    ReplaceAddress,
    ReplaceRoute,
    SetLink,
)
from exuvia.testing.namespaces import Namespace

NAME = "wg0"
HERE4, HERE6 = ip_interface("10.5.6.7/32"), ip_interface("fd00::7/128")
TABLE = 25977


def ip(*arguments: str) -> list[dict[str, Any]]:
    """What `ip` says."""
    text = subprocess.run(["ip", "-json", *arguments], check=True, capture_output=True, text=True).stdout
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return found


@pytest.fixture
def place() -> Iterator[Namespace]:
    """A network namespace that this test is in."""
    space = Namespace("links")
    with space.inside():
        yield space
    space.close()


def rules(family: int) -> list[dict[str, Any]]:
    """The rules of a family that are not the kernel's own."""
    return [rule for rule in ip(f"-{family}", "rule") if rule["priority"] not in (0, 32766, 32767)]


def test_a_link_is_made_changed_and_removed(place: Namespace) -> None:
    """Its kind, its group from the first instant, its MTU and alias are those that were asked for."""
    links.run([AddLink(NAME, 7)])
    (made,) = ip("-details", "link", "show", NAME)
    assert (made["linkinfo"]["info_kind"], made["group"], "UP" in made["flags"]) == ("wireguard", "7", False)

    links.run([SetLink(NAME, up=True, mtu=1300, alias="somebody's", group=9)])
    (found,) = ip("link", "show", NAME)
    assert (found["mtu"], found["ifalias"], found["group"], "UP" in found["flags"]) == (
        1300,
        "somebody's",
        "9",
        True,
    )
    links.run([SetLink(NAME, mtu=1400)])
    (found,) = ip("link", "show", NAME)
    assert (found["mtu"], found["ifalias"], "UP" in found["flags"]) == (1400, "somebody's", True)
    (ours,) = [link for link in links.found() if link.name == NAME]
    assert ours == links.Link(found["ifindex"], NAME, True, 9, "somebody's")

    links.run([DeleteLink(NAME)])
    assert [link["ifname"] for link in ip("link")] == ["lo"]
    assert [link.name for link in links.found()] == ["lo"]


def test_an_alias_belongs_to_a_link_and_not_to_its_name(place: Namespace) -> None:
    """A link that was made anew under the same name gets nothing that was meant for the one before."""
    known = Links()
    links.run([AddLink(NAME)])
    first = known.find(NAME)
    assert first is not None
    known.write_alias(first.index, "x" * 255)
    (found,) = ip("link", "show", NAME)
    assert found["ifalias"] == "x" * 255

    links.run([DeleteLink(NAME), AddLink(NAME)])
    with pytest.raises(InterfaceUnavailable, match="gone"):
        known.write_alias(first.index, "late")
    second = known.find(NAME)
    assert second is not None and second.alias == ""
    assert known.find("nobody") is None
    known.close()


def test_addresses_come_and_go(place: Namespace) -> None:
    """They are there at once in both families, may be given twice, and may have a network around them."""
    wide4, wide6 = ip_interface("10.9.0.1/16"), ip_interface("fd09::1/64")
    links.run([AddLink(NAME), SetLink(NAME, up=True)])
    links.run([AddLink("wg1"), ReplaceAddress("wg1", ip_interface("10.77.0.1/32"))])
    for _ in range(2):
        links.run([ReplaceAddress(NAME, address) for address in (HERE4, HERE6, wide4, wide6)])

    (link,) = ip("address", "show", "dev", NAME)
    told = {(entry["local"], entry["prefixlen"], entry.get("tentative")) for entry in link["addr_info"]}
    assert told == {
        ("10.5.6.7", 32, None),
        ("fd00::7", 128, None),
        ("10.9.0.1", 16, None),
        ("fd09::1", 64, None),
    }
    assert set(links.addresses(NAME)) == {HERE4, HERE6, wide4, wide6}
    assert ip("-4", "route", "show", "dev", NAME)[0]["dst"] == "10.9.0.0/16"

    links.run([DeleteAddress(NAME, HERE4), DeleteAddress(NAME, wide6)])
    assert set(links.addresses(NAME)) == {wide4, HERE6}
    with pytest.raises(InterfaceUnavailable, match="Address not found"):
        links.run([DeleteAddress(NAME, HERE4)])


def test_a_route_takes_the_place_of_the_one_before(place: Namespace) -> None:
    """In both families there is one default route in a table, and it names the latest link and source."""
    other4, other6 = ip_interface("10.5.6.8/32"), ip_interface("fd00::8/128")
    for name, addresses in ((NAME, (HERE4, HERE6)), ("wg1", (other4, other6))):
        links.run([AddLink(name), SetLink(name, up=True)])
        links.run([ReplaceAddress(name, address) for address in addresses])
        links.run([ReplaceRoute(name, address.ip, TABLE) for address in addresses])
        for family, address in zip((4, 6), addresses, strict=True):
            (route,) = ip(f"-{family}", "route", "show", "table", str(TABLE))
            assert (route["dst"], route["dev"], route["prefsrc"]) == ("default", name, str(address.ip))
    (route,) = ip("-4", "route", "show", "table", str(TABLE))
    assert route["scope"] == "link"


@pytest.mark.parametrize("family", [4, 6])
def test_rules_are_as_asked_for(place: Namespace, family: int) -> None:
    """What a rule looks at, and what it does, is what `ip` shows of it."""
    source, destination = (
        (HERE4.ip, ip_address("10.5.6.8")) if family == 4 else (HERE6.ip, ip_address("fd00::8"))
    )
    links.run(
        [
            AddRule(family, 5207),
            AddRule(family, 5200, goto=5207, mark=(0x65780000, 0xFFFF0000)),
            AddRule(family, 5201, TABLE, source=source),
            AddRule(family, 5203, 25976, destination=destination),
            AddRule(family, 5205, 254, but_default=True),
        ]
    )
    plain = {"src": "all"}
    assert [{k: v for k, v in rule.items() if k != "protocol"} for rule in rules(family)] == [
        {"priority": 5200, **plain, "fwmark": "0x65780000", "fwmask": "0xffff0000", "goto": 5207},
        {"priority": 5201, "src": str(source), "table": str(TABLE)},
        {"priority": 5203, **plain, "dst": str(destination), "table": "25976"},
        {"priority": 5205, **plain, "table": "main", "suppress_prefixlen": 0},
        {"priority": 5207, **plain, "nop": None},
    ]
    assert not rules(10 - family)
    assert set(links.priorities(family)) > {5200, 5201, 5203, 5205, 5207}


def test_the_rule_that_is_meant_is_removed(place: Namespace) -> None:
    """By its priority alone, or by its address too; what another program has made goes the same way."""
    for family, one, other in ((4, "10.0.0.1", "10.0.0.2"), (6, "fd00::1", "fd00::2")):
        for address in (one, other):
            ip(f"-{family}", "rule", "add", "priority", "5203", "to", address, "lookup", "9")
        links.run([AddRule(family, 5201, TABLE, source=ip_address(one))])
        links.run([DeleteRule(family, 5203, destination=ip_address(other))])
        assert [rule["priority"] for rule in rules(family)] == [5201, 5203]
        assert rules(family)[1]["dst"] == one
        with pytest.raises(InterfaceUnavailable):
            links.run([DeleteRule(family, 5203, destination=ip_address(other))])
        links.run([DeleteRule(family, 5203), DeleteRule(family, 5201, source=ip_address(one))])
        assert rules(family) == []


@pytest.mark.parametrize(
    "change",
    [
        SetLink("nobody", up=True),
        DeleteLink("nobody"),
        ReplaceAddress("nobody", HERE4),
        ReplaceRoute("nobody", HERE4.ip, TABLE),
        DeleteRule(4, 5201),
        AddRule(4, 0, TABLE, goto=7),
    ],
)
def test_what_can_not_be_done_ends_it(place: Namespace, change: Change) -> None:
    """The first that fails is told, and nothing after it is done."""
    with pytest.raises(InterfaceUnavailable):
        links.run([AddRule(4, 5299, TABLE), change, AddLink(NAME)])
    assert [rule["priority"] for rule in rules(4)] == [5299]
    assert [link["ifname"] for link in ip("link")] == ["lo"]


def test_the_kernels_own_words_are_told(place: Namespace) -> None:
    """Where it explains itself, that is passed on; where it does not, the error's name."""
    links.run([AddLink(NAME), SetLink(NAME, up=True), AddRule(4, 5201, TABLE)])
    with pytest.raises(InterfaceUnavailable, match="rtnetlink: File exists"):
        links.run([AddRule(4, 5201, TABLE)])
    with pytest.raises(InterfaceUnavailable, match=r"rtnetlink: .*[Ss]ource"):
        links.run([ReplaceRoute(NAME, ip_address("fd00::99"), TABLE)])


def test_a_kind_that_the_kernel_lacks(place: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart from everything else: then WireGuard may be had from elsewhere."""
    known = links.attribute
    monkeypatch.setattr(
        links, "attribute", lambda kind, body: known(kind, body.replace(b"wireguard", b"nobodys_"))
    )
    with pytest.raises(NotInKernel):
        links.run([AddLink(NAME)])


def test_who_may_not(place: Namespace) -> None:
    """Without CAP_NET_ADMIN nothing is changed, and it is said what is missing; looking is free."""
    child = os.fork()
    if not child:
        os.setresuid(65534, 65534, 65534)
        try:
            assert [link.name for link in links.found()] == ["lo"]
            links.run([AddRule(4, 5201, TABLE)])
        except NotPermitted as error:
            os._exit(0 if "CAP_NET_ADMIN" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rules(4) == []


def test_many_are_all_told(place: Namespace) -> None:
    """More than fits into one datagram of the kernel's."""
    links.run(AddRule(4, 6000 + number, TABLE) for number in range(1200))
    assert links.priorities(4)[1:1201] == list(range(6000, 7200))
    links.run(AddLink(f"wg{number}") for number in range(60))
    assert len(links.found()) == 61
    assert index_of("wg59") in {link.index for link in links.found()}


class _Talk:
    """A kernel that says what it is told to."""

    def __init__(self, *datagrams: bytes) -> None:
        self._datagrams = list(datagrams)

    def send(self, message: bytes) -> None:
        """Hear nothing."""

    def recv(self, size: int) -> bytes:
        """Say the next one; then nothing more comes."""
        if not self._datagrams:
            raise TimeoutError(socket.EAI_AGAIN, "nothing")
        return self._datagrams.pop(0)

    def close(self) -> None:
        """Nothing is open."""


def said(kind: int, body: bytes, *, flags: int = 0, sequence: int = 1) -> bytes:
    """A message."""
    header = rtnetlink.MESSAGE_HEADER.pack(16 + len(body), kind, flags, sequence, 0)
    return header + body + bytes(-len(body) % 4)


def talking(*datagrams: bytes) -> rtnetlink.Rtnetlink:
    """Rtnetlink with such a kernel."""
    kernel = rtnetlink.Rtnetlink()
    kernel.close()
    kernel._socket = _Talk(*datagrams)  # type: ignore[assignment]
    return kernel


@pytest.mark.parametrize("rubbish", [b"\x01", said(3, b"")[:10], b"\xff\xff\xff\x7f" + bytes(12), bytes(16)])
def test_rubbish_is_no_answer(rubbish: bytes) -> None:
    """What is cut short or has an impossible length is refused, and nothing is made of it."""
    with pytest.raises(GarbledAnswer):
        talking(rubbish).ask(18, 0, b"")


def test_silence_is_told() -> None:
    """A kernel that does not answer is waited for, but not for ever."""
    with pytest.raises(InterfaceUnavailable):
        talking().ask(18, 0, b"")


def test_answers_to_others_are_left_alone() -> None:
    """What belongs to an earlier question is not taken for the answer."""
    assert talking(said(16, b"old", sequence=9), said(16, b"new")).ask(18, 0, b"") == b"new"


def test_what_changed_meanwhile_is_asked_again() -> None:
    """A dump that was disturbed is thrown away; one that never gets through is told."""
    disturbed = said(16, b"half", flags=0x10) + said(3, bytes(4))
    whole = said(16, b"whole", sequence=2) + said(3, bytes(4), sequence=2)
    assert talking(disturbed, whole).dump(18, b"") == [b"whole"]
    restless = [said(3, bytes(4), flags=0x10, sequence=number) for number in range(1, 11)]
    with pytest.raises(InterfaceUnavailable, match="too fast"):
        talking(*restless).dump(18, b"")


@pytest.mark.parametrize("body", [b"", bytes(15), bytes(16) + b"\x03\0\0\0", bytes(16) + b"\xff\0\x03\0abcd"])
def test_a_link_that_can_not_be_read(body: bytes) -> None:
    """Cut short, or with an attribute longer than what is there: refused."""
    with pytest.raises(GarbledAnswer):
        rtnetlink.attributes(body, 16)
