"""Tunnel addresses and names of devices: who can get which, and how likely."""

from collections import Counter
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.errors import InvalidConfiguration
from exuvia.rules.allocation import (
    Pools,
    draw4,
    draw6,
    pool4_from_text,
    pool6_from_text,
    random_pool6,
)
from exuvia.rules.naming import FIRST, LONGEST_NAME, SECOND, draw_name

POOL6 = IPv6Network("fd12:3456:789a:1::/64")


class Listed:
    """Chance that is known beforehand: numbers of so many bits, one after the other."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.widths: list[int] = []

    def __call__(self, count: int) -> int:
        self.widths.append(count)
        number = self.numbers.pop(0)
        assert number < 1 << count
        return number


@pytest.mark.parametrize("prefix", [30, 29, 28, 26])
def test_every_usable_address_is_drawn_equally_often(prefix: int) -> None:
    """Over all random numbers that can be drawn, each address but the excluded ones comes once."""
    pool = IPv4Network(f"10.9.8.0/{prefix}")
    usable = list(pool)[2:-1]
    width = (len(usable) - 1).bit_length()

    drawn: Counter[IPv4Address] = Counter()
    for number in range(1 << width):
        chance = Listed(number, 0)
        address = draw4(pool, chance)
        if len(chance.numbers) == 1:  # the first number was not thrown away
            drawn[address] += 1

    assert drawn == Counter(usable)


@given(st.integers(8, 30), st.data())
def test_network_broadcast_and_the_gateways_address_are_never_drawn(prefix: int, data: st.DataObject) -> None:
    """Whatever chance says, an address is one of the pool's hosts, and not the first."""
    pool = IPv4Network("10.0.0.0/8") if prefix == 8 else IPv4Network(f"172.16.0.0/{max(prefix, 12)}")
    address = draw4(pool, lambda count: data.draw(st.integers(0, (1 << count) - 1)))

    assert address in pool
    assert address not in (pool[0], pool[1], pool[-1])


def test_a_number_too_large_is_thrown_away_not_folded() -> None:
    """A draw beyond the pool's end is repeated: folding it back would make some addresses likelier."""
    chance = Listed(7, 6, 5, 4)

    assert draw4(IPv4Network("10.9.8.0/29"), chance) == IPv4Address("10.9.8.6")
    assert chance.widths == [3, 3, 3, 3]


@pytest.mark.parametrize(
    "reserved",
    [
        0,
        1,
        0x02005EFFFE000000,
        0x02005EFFFE005213,
        0x02005EFFFEFFFFFF,
        0xFDFFFFFFFFFFFF80,
        0xFDFFFFFFFFFFFFFF,
    ],
)
def test_reserved_identifiers_are_drawn_again(reserved: int) -> None:
    """No peer gets the gateways' own interface identifier, or one that RFC 5453 reserves."""
    assert draw6(POOL6, Listed(reserved, 2)) == IPv6Address("fd12:3456:789a:1::2")


@pytest.mark.parametrize(
    "kept", [2, 0x02005EFFFDFFFFFF, 0x02005EFFFF000000, 0xFDFFFFFFFFFFFF7F, 0xFE00000000000000, (1 << 64) - 1]
)
def test_other_identifiers_are_kept_as_they_are(kept: int) -> None:
    """All 64 bits of the identifier are chance, and nothing else."""
    assert int(draw6(POOL6, Listed(kept))) == int(POOL6.network_address) + kept


def test_the_gateways_have_the_first_host_of_each_pool() -> None:
    """What gateways are told to call themselves is what peers never get."""
    pools = Pools(IPv4Network("10.9.8.0/24"), POOL6)

    assert (pools.gateway4(), pools.gateway6()) == ("10.9.8.1/24", "fd12:3456:789a:1::1/64")
    assert pools.usable4() == 253


def test_a_random_pool_is_a_unique_local_64() -> None:
    """56 random bits behind fd, as RFC 4193 has it, and a /64."""
    pool = random_pool6(Listed((1 << 56) - 1))

    assert pool == IPv6Network("fdff:ffff:ffff:ffff::/64")


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "10.0.0.0/31", "0.0.0.0/0", "fd00::/64", "ten", "", "10.0.0.0/8/8"]
)
def test_what_can_not_be_an_ipv4_pool_is_refused(text: str) -> None:
    """Host bits, too small, too large, of the other family, nonsense."""
    with pytest.raises(InvalidConfiguration):
        pool4_from_text(text)


@pytest.mark.parametrize("text", ["fd00::/48", "fd00::1/64", "10.0.0.0/8", "six", ""])
def test_what_can_not_be_an_ipv6_pool_is_refused(text: str) -> None:
    """Only a /64 has room for 64 random bits."""
    with pytest.raises(InvalidConfiguration):
        pool6_from_text(text)


def test_there_are_128_words_of_each_kind() -> None:
    """Seven bits choose a word, each alike; no word is there twice."""
    assert [len(FIRST), len(SECOND)] == [128, 128]
    assert [len(set(FIRST)), len(set(SECOND))] == [128, 128]
    assert max(map(len, FIRST)) + 1 + max(map(len, SECOND)) <= LONGEST_NAME
    assert all(word.isascii() and word.isalpha() and word.islower() for word in FIRST + SECOND)


def test_a_name_that_is_taken_is_drawn_again() -> None:
    """Within an account no two devices are called the same."""
    first = draw_name([], Listed(3, 4))

    assert draw_name([first], Listed(3, 4, 3, 5)) == f"{FIRST[3]} {SECOND[5]}"
