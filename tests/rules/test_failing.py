"""How many credentials may fail from one address, and what an address is counted as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.rules.failing import REFILL, Credential, after_failure, forwarded, left, until_next, whose

TIMES = st.floats(0, 1e9)


@given(start=TIMES, burst=st.integers(1, 100))
def test_as_many_may_fail_at_once_as_the_bucket_holds(start: float, burst: int) -> None:
    """Each failure takes one, and after the last nothing is left."""
    full_at, seen = 0.0, []
    for _ in range(burst):
        seen.append(left(full_at, burst, now=start))
        full_at = after_failure(full_at, now=start)

    assert seen == list(range(burst, 0, -1))
    assert left(full_at, burst, now=start) == 0


@given(start=TIMES, burst=st.integers(1, 100), more=st.integers(0, 50))
def test_whoever_waits_as_long_as_told_may_try_once(start: float, burst: int, more: int) -> None:
    """Not a moment before, and however many were wrong beyond the limit."""
    full_at = start
    for _ in range(burst + more):
        full_at = after_failure(full_at, now=start)
    wait = until_next(full_at, burst, now=start)

    assert left(full_at, burst, now=start + wait) == 1
    assert left(full_at, burst, now=start + wait - 1.01) == 0


@given(start=TIMES, failures=st.integers(0, 200), burst=st.integers(1, 100))
def test_a_bucket_never_holds_more_than_it_can(start: float, failures: int, burst: int) -> None:
    """However long nothing failed."""
    full_at = 0.0
    for _ in range(failures):
        full_at = after_failure(full_at, now=start)

    assert left(full_at, burst, now=start + failures * REFILL + 1e6) == burst


def test_numbers_and_tokens_have_room_for_typing_mistakes() -> None:
    """A person never meets the limit; a code of six digits has a much lower one."""
    assert Credential.ACCOUNT.burst == Credential.DEVICE.burst == 64
    assert Credential.SECOND_FACTOR.burst == Credential.OPERATOR.burst == 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_what_is_counted_together(one: str, other: str, same: bool) -> None:
    """An IPv4 address by itself however it is written, an IPv6 address with its /64."""
    assert (whose(one) == whose(other)) is same


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "192.0.2", "192.0.2.1/24", "x" * 5000, "é"])
def test_what_is_no_address_is_nobody(text: str) -> None:
    """It is not counted as somebody whom others could be mistaken for."""
    assert whose(text) is None


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("x, [2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1,", ""),
        ("", ""),
    ],
)
def test_of_what_proxies_say_the_last_is_believed(header: str, address: str) -> None:
    """The nearest proxy wrote it; what stands before may be anybody's invention."""
    assert forwarded(header) == address
