"""
Account numbers and tokens: secrets that are told once, and kept only as keyed hashes.

Without the key, which is no part of the database, a stolen database tells nobody which
account number it knows.
"""

import base64
from hashlib import blake2b

from exuvia.rules.allocation import Bits

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_ALIKE = str.maketrans("OIL", "011", " -")
_SYMBOLS = 28
_GROUP = 4

KEY_LENGTH = 32
HASH_LENGTH = 32
_TOKEN_LENGTH = 32


def new_account_number(bits: Bits) -> str:
    """Return a random account number: 140 bits, in seven groups of four."""
    symbols = "".join(_ALPHABET[bits(5)] for _ in range(_SYMBOLS))
    return "-".join(symbols[at : at + _GROUP] for at in range(0, _SYMBOLS, _GROUP))


def normal_account_number(text: str) -> str | None:
    """Return an account number as it is hashed, however it was typed; None if it can't be one."""
    if not text.isascii():
        return None
    symbols = text.upper().translate(_ALIKE)
    return symbols if len(symbols) == _SYMBOLS and not symbols.strip(_ALPHABET) else None


def new_token(bits: Bits) -> str:
    """Return a random token: 256 bits, URL-safe."""
    return (
        base64.urlsafe_b64encode(bits(8 * _TOKEN_LENGTH).to_bytes(_TOKEN_LENGTH, "big")).rstrip(b"=").decode()
    )


class Hasher:
    """Turns a secret into what the database knows it by."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def account(self, number: str) -> bytes | None:
        """Return the hash of an account number, or None if nobody could have this one."""
        symbols = normal_account_number(number)
        return None if symbols is None else self._hash(symbols, b"account")

    def device(self, token: str) -> bytes:
        """Return the hash of a device's token."""
        return self._hash(token, b"device")

    def gateway(self, token: str) -> bytes:
        """Return the hash of a gateway's token."""
        return self._hash(token, b"gateway")

    def operator(self, token: str) -> bytes:
        """Return the hash of the operator's token, to compare it in constant time."""
        return self._hash(token, b"operator")

    def _hash(self, secret: str, person: bytes) -> bytes:
        data = secret.encode("utf-8", "surrogateescape")
        return blake2b(data, digest_size=HASH_LENGTH, key=self._key, person=person).digest()
