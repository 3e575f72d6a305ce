"""
What shows that whoever registers a public key holds its private half.

Both sides make the same secret from their own private key and the other's public one; a proof
is a MAC made with it. The server's key changes every hour.
"""

import base64
import binascii
import hmac
from typing import Literal, NamedTuple

from exuvia.wg.keys import KEY_LENGTH, PublicKey

Unproven = Literal["allow", "refuse"]
UNPROVEN: Unproven = "refuse"
"""What is done with a key that comes without a proof, unless the operator says otherwise."""

HOUR = 3600
_PURPOSE = b"exuvia possession 1\0"
_MAC_LENGTH = 32
_TEXT_LENGTH = 88


class Proof(NamedTuple):
    """A proof, and which of the server's keys it was made for."""

    server_key: bytes
    mac: bytes


NONE = Proof(bytes(KEY_LENGTH), bytes(_MAC_LENGTH))
"""What is checked where nothing that could be a proof was sent."""


def accepted(hour: int) -> tuple[int, int]:
    """Return the hours whose server key is good at this one."""
    return hour, hour - 1


def seconds_left(wall: float) -> int:
    """Return for how long the server key of now is surely accepted: until the end of the next hour."""
    return 2 * HOUR - 1 - int(wall) % HOUR


def mac(shared: bytes, server_key: bytes, public_key: bytes) -> bytes:
    """Return what only somebody with one of the two private keys can know."""
    return hmac.digest(shared, _PURPOSE + server_key + public_key, "sha256")


def text(shared: bytes, server_key: PublicKey, public_key: PublicKey) -> str:
    """Return a proof as it is sent."""
    return base64.b64encode(server_key + mac(shared, server_key, public_key)).decode()


def read(text: str) -> Proof:
    """Return the proof that this text says, NONE if it is written in any other way than text() does."""
    try:
        raw = base64.b64decode(text, validate=True) if len(text) == _TEXT_LENGTH else b""
    except (binascii.Error, ValueError):
        return NONE
    if len(raw) != KEY_LENGTH + _MAC_LENGTH or base64.b64encode(raw).decode() != text:
        return NONE
    return Proof(raw[:KEY_LENGTH], raw[KEY_LENGTH:])
