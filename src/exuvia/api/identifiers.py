"""Random identifiers as text: 26 small letters and digits, which no shell mistakes for an option."""

import base64
import binascii

from exuvia.errors import NotFound
from exuvia.rules.allocation import Bits

_LENGTH = 16


def fresh(bits: Bits) -> bytes:
    """Return a new identifier."""
    return bits(8 * _LENGTH).to_bytes(_LENGTH, "big")


def text(identifier: bytes) -> str:
    """Return an identifier as people and programs write it."""
    return base64.b32encode(identifier).rstrip(b"=").decode().lower()


def from_text(written: str) -> bytes:
    """Return the identifier written so; NotFound if there can't be such a one."""
    try:
        identifier = base64.b32decode(written.upper() + "=" * (-len(written) % 8))
    except (binascii.Error, ValueError):
        raise NotFound("there is no such identifier") from None
    if len(identifier) != _LENGTH or text(identifier) != written:
        raise NotFound("there is no such identifier")
    return identifier
