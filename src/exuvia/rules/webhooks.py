"""How billing is told of an event: signed as 'Standard Webhooks' has it, and not for ever."""

import base64
import binascii
import hmac
from collections.abc import Sequence

from exuvia.errors import InvalidConfiguration

GATHERED = 600.0
"""Seconds for which events are gathered: told at once, they would say which key went with which account."""
DAYS_OF_TRYING = 3
LONGEST_PAUSE = 3600.0
"""Seconds from one attempt to the next."""
MOST_REFUSALS = 10
"""Refused events of one round after which the others wait for the next."""
_PREFIX = "whsec_"
_LENGTHS = range(24, 65)
_MOST_SECRETS = 3


def secrets_from_text(text: str) -> list[bytes]:
    """Return the secrets written one on a line; all of them sign, so that one can follow another."""
    words = text.split()
    secrets = [_secret(word) for word in words]
    if not 1 <= len(secrets) <= _MOST_SECRETS or None in secrets:
        raise InvalidConfiguration(
            "the webhook's secret is whsec_ and the base64 of 24 to 64 random bytes: make one with "
            "echo whsec_$(head -c 32 /dev/urandom | base64)"
        )
    return [secret for secret in secrets if secret is not None]


def signature(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """Return what the header webhook-signature says of a body sent at this time, in seconds since 1970."""
    content = b"%s.%d.%s" % (id.encode(), timestamp, body)
    digests = (hmac.digest(secret, content, "sha256") for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def last_day(hour: int) -> int:
    """Return the last day, counted since 1970, on which billing is told of what happened in this hour."""
    return hour // 24 + DAYS_OF_TRYING


def _secret(word: str) -> bytes | None:
    try:
        secret = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return secret if word.startswith(_PREFIX) and len(secret) in _LENGTHS else None
