"""Account numbers and tokens: how they are made, typed and recognised."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exuvia.store.credentials import (
    Hasher,
    device_token,
    new_account_number,
    new_secret,
    normal_account_number,
    token,
)
from exuvia.system import entropy

HASHER = Hasher(b"k" * 32)


def test_p15_an_account_number_has_140_random_bits() -> None:
    """Seven groups of four symbols out of 32, each chosen by five random bits of its own."""
    asked = []

    def chance(count: int) -> int:
        asked.append(count)
        return (1 << count) - 1

    assert new_account_number(chance) == "-".join(["ZZZZ"] * 7)
    assert asked == [5] * 28


def test_p15_only_a_keyed_hash_is_kept_of_a_number() -> None:
    """Without the key nobody can tell whether a hash is that of a number."""
    number = new_account_number(entropy.bits)

    assert HASHER.account(number) == HASHER.account(number)
    assert HASHER.account(number) != Hasher(b"l" * 32).account(number)


def test_numbers_are_recognised_however_they_are_typed() -> None:
    """Case, spaces and dashes don't matter, and O is 0, I and L are 1."""
    expected = HASHER.account("0123-4567-89AB-CDEF-GHJK-MNPQ-1110")

    for typed in (
        "0123456789abcdefghjkmnpq1110",
        " 0123 4567 89ab cdef ghjk mnpq 1110 ",
        "O123-4567-89AB-CDEF-GHJK-MNPQ-iLIo",
        "0123--4567-89AB-CDEF-GHJK-MNPQ-1110-",
    ):
        assert HASHER.account(typed) == expected


@pytest.mark.parametrize(
    "typed",
    ["", "-", "0" * 27, "0" * 29, "U" * 28, "0" * 27 + "!", "٠" * 28, "ſ" * 28, "０" * 28, "0\t" * 14],
)
def test_what_can_be_no_number_has_no_hash(typed: str) -> None:
    """Too short, too long, other letters, and look-alikes from other alphabets."""
    assert HASHER.account(typed) is None


@given(st.text(max_size=60))
def test_normalising_is_never_in_doubt(typed: str) -> None:
    """Whatever is typed is no number, or one that normalises to itself."""
    symbols = normal_account_number(typed)

    assert symbols is None or (normal_account_number(symbols) == symbols and len(symbols) == 28)


def test_tokens_are_256_bits_that_a_url_can_hold() -> None:
    """Gateways' tokens are 43 URL-safe letters; a device's also says which device it is."""
    secret = new_secret(entropy.bits)
    account, device = os.urandom(16), os.urandom(16)

    assert len(secret) == 32
    assert re.fullmatch(r"[\w-]{43}", token(secret))
    assert re.fullmatch(r"[\w-]{86}", device_token(account, device, secret))
    assert HASHER.device(device_token(account, device, secret)) == (
        account,
        device,
        HASHER.device_secret(secret),
    )


@given(st.text(max_size=100))
def test_what_can_be_no_token_names_no_device(text: str) -> None:
    """Nothing that people could send as a token makes trouble."""
    found = HASHER.device(text)

    assert found is None or len(found.device_id) == 16


def test_the_same_secret_hashes_differently_for_each_use() -> None:
    """A hash that leaks from one place is of no use in another."""
    secret = "A" * 43
    hashes = {HASHER.gateway(secret), HASHER.operator(secret), HASHER.device_secret(secret.encode())}

    assert len(hashes) == 3
