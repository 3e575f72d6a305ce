"""
Keys as values that never show themselves by accident.

A key is its 32 bytes; two spellings of one key can't exist, because decoding is strict.
"""

import base64
import binascii
from typing import TYPE_CHECKING, Self

from exuvia.errors import InvalidKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_LENGTH = 32
_PRIME = 2**255 - 19

# Points of order 1, 2, 4 and 8 in canonical form: whoever holds one shares no secret
# (RFC 7748 section 6.1; the list is that of curve25519's authors, cr.yp.to/ecdh.html).
_LOW_ORDER = frozenset(
    number.to_bytes(KEY_LENGTH, "little")
    for number in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _PRIME - 1,
    )
)


class _Key(bytes):
    """32 bytes whose repr tells nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    @classmethod
    def from_bytes_checked(cls, raw: bytes) -> Self:
        """Return the key with these 32 bytes, or raise InvalidKey."""
        if len(raw) != KEY_LENGTH:
            raise InvalidKey("a WireGuard key has 32 bytes")
        return cls(raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the key that wg(8) writes as this base64 text; any other spelling is refused."""
        return cls.from_bytes_checked(_strict_base64(text, base64.b64encode, base64.b64decode))

    def text(self) -> str:
        """Return the key as wg(8) writes it: base64 of 44 characters."""
        return base64.b64encode(self).decode()


class PublicKey(_Key):
    """A Curve25519 public key that a peer can hold: canonical, and of full order."""

    __slots__ = ()

    @classmethod
    def from_bytes_checked(cls, raw: bytes) -> Self:
        """Return the key with these 32 bytes; InvalidKey if no honest peer could have it."""
        key = super().from_bytes_checked(raw)
        if int.from_bytes(key, "little") >= _PRIME:
            raise InvalidKey("the public key is not in canonical form")
        if key in _LOW_ORDER:
            raise InvalidKey("the public key is a point of low order")
        return key

    @classmethod
    def from_path(cls, text: str) -> Self:
        """Return the key that stands in a URL path as URL-safe base64 without padding."""
        return cls.from_bytes_checked(_strict_base64(text, _encode_path, _decode_path))

    def path(self) -> str:
        """Return the key as it stands in a URL path: URL-safe base64 without padding."""
        return _encode_path(self).decode()


class PresharedKey(_Key):
    """A symmetric key mixed into the handshake; 32 zero bytes mean that there is none."""

    __slots__ = ()


class PrivateKey:
    """A Curve25519 private key. Only expose() and text() give it away."""

    __slots__ = ("_opened", "_raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_LENGTH:
            raise InvalidKey("a WireGuard key has 32 bytes")
        clamped = bytearray(raw)
        clamped[0] &= 248
        clamped[31] = (clamped[31] & 127) | 64
        self._raw = bytes(clamped)
        self._opened: X25519PrivateKey | None = None

    def __repr__(self) -> str:
        return "<PrivateKey>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the key that wg(8) writes as this base64 text."""
        return cls(_strict_base64(text, base64.b64encode, base64.b64decode))

    def expose(self) -> bytes:
        """Return the secret bytes."""
        return self._raw

    def text(self) -> str:
        """Return the secret as wg(8) writes it."""
        return base64.b64encode(self._raw).decode()

    def public_key(self) -> PublicKey:
        """Return the public key that belongs to it."""
        return PublicKey(self._open().public_key().public_bytes_raw())

    def shared_with(self, other: PublicKey) -> bytes:
        """Return the secret that only this key and the private half of the other one lead to."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            shared = self._open().exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise InvalidKey("with a point of low order there is no shared secret") from None
        if not any(shared):
            raise InvalidKey("with a point of low order there is no shared secret")
        return shared

    def _open(self) -> "X25519PrivateKey":
        """Return the key as OpenSSL has it, which takes as long to make as to use."""
        if self._opened is None:
            # Imported here: the gateway's privileged process never needs it, and stays small.
            from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

            self._opened = X25519PrivateKey.from_private_bytes(self._raw)
        return self._opened


def _encode_path(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decode_path(text: bytes) -> bytes:
    if b"=" in text or b"+" in text or b"/" in text:
        raise binascii.Error
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _strict_base64(text: str, encode, decode) -> bytes:  # type: ignore[no-untyped-def]
    """Decode, and refuse whatever would not be encoded to the same text again."""
    try:
        raw: bytes = decode(text.encode("ascii"))
        again: bytes = encode(raw)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise InvalidKey("not a base64 key of 32 bytes") from None
    if again != text.encode("ascii"):
        raise InvalidKey("not a base64 key of 32 bytes")
    return raw
