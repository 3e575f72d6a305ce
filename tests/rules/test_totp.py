"""Codes of an authenticator are those of RFC 6238."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.rules import totp

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("wall", "eight"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_codes_of_the_rfc(wall: int, eight: str) -> None:
    """The test vectors of RFC 6238, whose last six digits are the code."""
    assert totp.code(SECRET, totp.step_at(wall)) == eight[2:]


@given(st.floats(1000, 4e9), st.integers(-5, 5))
def test_a_code_is_good_one_step_either_way(wall: float, off: int) -> None:
    """The step before, this one and the next are accepted, and no other, if their codes differ."""
    step = totp.step_at(wall) + off
    near = [totp.code(SECRET, totp.step_at(wall) + d) for d in (-1, 0, 1) if d != off]
    found = totp.matching_step(SECRET, totp.code(SECRET, step), wall=wall, after=-1)

    assert (found is not None) == (abs(off) <= 1 or totp.code(SECRET, step) in near)


def test_no_step_is_accepted_that_is_not_later() -> None:
    """What was used, or may have been, is refused."""
    now = totp.step_at(1e9)

    assert totp.matching_step(SECRET, totp.code(SECRET, now), wall=1e9, after=now) is None
    assert totp.matching_step(SECRET, totp.code(SECRET, now + 1), wall=1e9, after=now) == now + 1


@pytest.mark.parametrize("given_", ["", "0", "x" * 6, "0" * 7, "é" * 6, "٣" * 6])
def test_what_is_no_code_is_refused(given_: str) -> None:
    """Whatever is typed: no code, and no fault."""
    assert totp.matching_step(SECRET, given_, wall=1e9, after=-1) is None


def test_a_clock_that_was_never_set_breaks_nothing() -> None:
    """In 1970 there are codes too."""
    assert totp.matching_step(SECRET, totp.code(SECRET, 0), wall=5, after=-1) == 0


def test_spaces_do_not_matter() -> None:
    """Apps show codes in two groups."""
    code = totp.code(SECRET, totp.step_at(1e9))

    assert totp.matching_step(SECRET, f" {code[:3]} {code[3:]} ", wall=1e9, after=-1) is not None
