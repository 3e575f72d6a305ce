"""
Account numbers and tokens: secrets that are told once, and kept only as keyed hashes.

Without the key, which is no part of the database, a stolen database tells nobody which
account number it knows.
"""

import base64
import binascii
from hashlib import blake2b
from typing import NamedTuple

from exuvia.rules.allocation import Bits

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_ALIKE = str.maketrans("OIL", "011", " -")
_SYMBOLS = 28
_GROUP = 4

KEY_LENGTH = 32
HASH_LENGTH = 32
_SECRET_LENGTH = 32
_ID_LENGTH = 16


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


def new_secret(bits: Bits) -> bytes:
    """Return a random secret of 256 bits."""
    return bits(8 * _SECRET_LENGTH).to_bytes(_SECRET_LENGTH, "big")


def token(secret: bytes) -> str:
    """Return a secret as it is told: URL-safe, without padding."""
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()


def device_token(account_id: bytes, device_id: bytes, secret: bytes) -> str:
    """
    Return a device's token: where the device is found, and its secret.

    Because it says where, no index of tokens has to be kept, and none to be written.
    """
    return token(account_id + device_id + secret)


class DeviceCredential(NamedTuple):
    """What a device's token comes to: the device it names, and the hash of its secret."""

    account_id: bytes
    device_id: bytes
    secret_hash: bytes


class Hasher:
    """Turns a secret into what the database knows it by."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def account(self, number: str) -> bytes | None:
        """Return the hash of an account number, or None if nobody could have this one."""
        symbols = normal_account_number(number)
        return None if symbols is None else self._hash(symbols.encode(), b"account")

    def device(self, token: str) -> DeviceCredential | None:
        """Return what a device's token comes to, or None if no device could have this one."""
        try:
            raw = base64.urlsafe_b64decode(token + "==")
        except (binascii.Error, ValueError):
            return None
        if len(raw) != 2 * _ID_LENGTH + _SECRET_LENGTH:
            return None
        secret_hash = self.device_secret(raw[2 * _ID_LENGTH :])
        return DeviceCredential(raw[:_ID_LENGTH], raw[_ID_LENGTH : 2 * _ID_LENGTH], secret_hash)

    def device_secret(self, secret: bytes) -> bytes:
        """Return the hash of a device's secret."""
        return self._hash(secret, b"device")

    def gateway(self, token: str) -> bytes:
        """Return the hash of a gateway's token."""
        return self._hash(token.encode(), b"gateway")

    def operator(self, token: str) -> bytes:
        """Return the hash of the operator's token, to compare it in constant time."""
        return self._hash(token.encode(), b"operator")

    def sealing_key(self) -> bytes:
        """Return the key with which second factors are sealed."""
        return self._hash(b"", b"second factor")

    def possession(self, hour: int) -> bytes:
        """Return the server's private key of an hour, for which clients prove that they hold theirs."""
        return self._hash(hour.to_bytes(8, "big"), b"possession")

    def _hash(self, secret: bytes, person: bytes) -> bytes:
        return blake2b(secret, digest_size=HASH_LENGTH, key=self._key, person=person).digest()
