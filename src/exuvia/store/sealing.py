"""
Secrets that have to be used again, and so can't be hashed: encrypted with a key derived from PATH.key.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from exuvia.errors import InvalidConfiguration
from exuvia.rules.allocation import Bits

_NONCE_LENGTH = 12


class Sealer:
    """Seals and opens; what was sealed for one place opens at no other."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, secret: bytes, place: bytes, bits: Bits) -> bytes:
        """Return the secret, encrypted for this place."""
        nonce = bits(8 * _NONCE_LENGTH).to_bytes(_NONCE_LENGTH, "big")
        return nonce + self._cipher.encrypt(nonce, secret, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Return what was sealed for this place."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], place)
        except InvalidTag:
            raise InvalidConfiguration(
                "a second factor was sealed with another PATH.key: put the right one back, or remove it with "
                "`exuvia account remove-second-factor`"
            ) from None
