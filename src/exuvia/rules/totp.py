"""
Codes of an authenticator app: RFC 6238 with what every app expects: SHA-1, six digits, 30 seconds.
"""

import base64
import hmac

SECRET_LENGTH = 20
"""Bytes: as long as SHA-1's output, which RFC 4226 recommends."""
STEP = 30
"""Seconds."""
DIGITS = 6
DRIFT = 1
"""Steps by which the app's clock may be off either way."""


def step_at(wall: float) -> int:
    """Return the step of a time in seconds since 1970."""
    return int(wall // STEP)


def code(secret: bytes, step: int) -> str:
    """Return the code of a step."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(secret: bytes, given: str, *, wall: float, after: int) -> int | None:
    """Return the step whose code was given, if it is about now and later than `after`; else None."""
    typed, now = normal(given).encode(), step_at(wall)
    found = None
    for step in range(max(0, now - DRIFT), now + DRIFT + 1):
        if hmac.compare_digest(code(secret, step).encode(), typed) and step > after:
            found = step
    return found


def normal(given: str) -> str:
    """Return a code without the spaces that people type."""
    return "".join(given.split())


def text(secret: bytes) -> str:
    """Return a secret as apps have it typed."""
    return base64.b32encode(secret).decode()


def uri(secret: bytes, place: str) -> str:
    """Return what a QR code tells an app; `place`, a host's name, is what it is called there."""
    return f"otpauth://totp/{place}?secret={text(secret)}&issuer={place}&digits={DIGITS}&period={STEP}"
