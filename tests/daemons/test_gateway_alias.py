"""What a gateway writes on its interface for its successor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.gateway.alias import LONGEST, Alias, is_foreign
from exuvia.rules.feed import Position
from exuvia.rules.ownership import Pools

POOLS = Pools.around("10.0.0.1/8", "fdeb:ebf4:1e6:8145::1/64")
LONGEST_POOLS = Pools.around("255.255.255.253/30", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffd/126")

aliases = st.builds(
    Alias,
    st.none()
    | st.builds(Position, st.from_regex(r"[a-z0-9]{1,64}", fullmatch=True), st.integers(0, 2**64 - 1)),
    st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    st.sampled_from([POOLS, LONGEST_POOLS]),
    st.booleans(),
    st.none() | st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
)


@given(aliases)
def test_what_is_written_is_read(alias: Alias) -> None:
    """Position, time, pools, and whether the feed went back: all of it comes back, and fits."""
    assert Alias.read(alias.text()) == alias
    assert len(alias.text()) <= LONGEST
    assert not is_foreign(alias.text())


def test_its_words_are_those_that_the_decision_names() -> None:
    """The alias begins with `exuvia1 EPOCH REVISION CONFIRMED`."""
    alias = Alias(Position("abc", 7), 12.5, POOLS, rewound=True, keep_until=99)

    assert alias.text() == ("exuvia1 abc 7 12.500 10.0.0.1/8 fdeb:ebf4:1e6:8145::1/64 keep=99.000 rewound")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exit-17",
        "exuvia1",
        "exuvia2 abc 7 12.5 10.0.0.1/8 fd00::1/64",
        "exuvia1 abc 7 12.5 10.0.0.1/8",
        "exuvia1 abc 7 12.5 10.0.0.1/33 fd00::1/64",
        "exuvia1 abc 7 12.5 fd00::1/64 10.0.0.1/8",
        "exuvia1 abc -7 12.5 10.0.0.1/8 fd00::1/64",
        "exuvia1 abc 7 nan 10.0.0.1/8 fd00::1/64",
        "exuvia1 abc 7 inf 10.0.0.1/8 fd00::1/64",
        "exuvia1 abc 7 -1 10.0.0.1/8 fd00::1/64",
        "exuvia1 a/c 7 12.5 10.0.0.1/8 fd00::1/64",
        "exuvia1  7 12.5 10.0.0.1/8 fd00::1/64",
        "exuvia1 abc ٣ 12.5 10.0.0.1/8 fd00::1/64",
        "exuvia1 abc 7 12.5 10.0.0.1/8 fd00::1/64 keep=soon",
    ],
)
def test_anything_else_tells_nothing(text: str) -> None:
    """What can't be read whole is not believed in part."""
    assert Alias.read(text) is None


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: f"exuvia1 {text}"))
def test_rubbish_tells_nothing_and_breaks_nothing(text: str) -> None:
    """Whatever stands there is read, or is not."""
    read = Alias.read(text)

    assert read is None or read.text().startswith("exuvia1 ")


@pytest.mark.parametrize(("text", "foreign"), [("", False), ("exit-17", True), ("exuvia1 rubbish", False)])
def test_a_foreign_alias_is_known(text: str, foreign: bool) -> None:
    """Somebody else's text stays; a damaged one of ours is written anew."""
    assert is_foreign(text) is foreign
