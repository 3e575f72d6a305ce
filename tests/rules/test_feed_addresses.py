"""The set of taken addresses: as Python's own, in a fraction of the memory."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exuvia.rules.addresses import AddressSet

few = st.integers(0, 20) | st.integers(2**32 - 20, 2**32 - 1) | st.integers(0, 2**32 - 1)
steps = st.lists(st.tuples(st.booleans(), few), max_size=200)


@pytest.mark.parametrize("typecode", ["I", "Q"])
@settings(max_examples=200)
@given(steps)
def test_it_holds_what_a_set_would(typecode: str, actions: list[tuple[bool, int]]) -> None:
    """Whatever is added and removed in whatever order; only that 0 counts as 1."""
    addresses, model = AddressSet(typecode), set[int]()
    for add, number in actions:
        (addresses.add if add else addresses.discard)(number)
        (model.add if add else model.discard)(number or 1)
        assert len(addresses) == len(model)
        assert (number in addresses) == ((number or 1) in model)

    assert all(number in addresses for number in model)


def test_what_is_removed_leaves_no_hole_before_others() -> None:
    """Numbers that come to lie side by side are found again when any of them is removed."""
    first = AddressSet("Q")
    home = first._home(1)
    crowd = [number for number in range(1, 20_000) if first._home(number) in (home, home + 1, 62, 63, 0)][:25]
    for gone in crowd:
        addresses = AddressSet("Q")
        for number in crowd:
            addresses.add(number)
        addresses.discard(gone)

        assert [number for number in crowd if number not in addresses] == [gone]


def test_a_copy_goes_its_own_way() -> None:
    """Changing a copy leaves the original as it is."""
    addresses = AddressSet("I")
    addresses.add(7)
    copy = addresses.copy()
    copy.add(8)
    copy.discard(7)

    assert (7 in addresses, 8 in addresses, len(addresses)) == (True, False, 1)
    assert (7 in copy, 8 in copy, len(copy)) == (False, True, 1)


def test_it_takes_a_few_bytes_for_each() -> None:
    """At most 32 bytes for a number of 64 bits, however many there are."""
    addresses = AddressSet("Q")
    for number in range(100_000):
        addresses.add(number * 7919 + 1)

    assert sys.getsizeof(addresses._slots) / 100_000 < 33
