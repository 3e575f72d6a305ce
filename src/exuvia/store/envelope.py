"""
A backup as it lies on a disk: sealed for whoever keeps the private key, who is somewhere else.

A header, a fresh secret sealed with HPKE (X25519, RFC 9180), and chunks under that secret, numbered;
an empty one is the end. Who may seal knows a second secret, without which nobody's file is accepted.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import BinaryIO, Self

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  imported later, by whom may not read it
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from exuvia.errors import BackupRefused, InvalidConfiguration
from exuvia.rules.allocation import Bits
from exuvia.rules.backups import Term

_FAMILY = b"exuvia backup "
_MAGIC = _FAMILY + b"1\n"
_HEADER = Struct(">16s8sII")
_CHUNK = Struct(">I")
_LARGEST_CHUNK = 16 * 1024 * 1024
_SECRET_LENGTH = 32
_TAG_LENGTH = 16
_SEALED_LENGTH = 32 + _SECRET_LENGTH + _TAG_LENGTH
_CHECK_LENGTH = 4
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

_CUT = "the backup is cut short: take another copy"
_DAMAGED = "the backup is damaged, or was not made by your control plane: take another copy"


@dataclass(frozen=True, slots=True, repr=False)
class _Half:
    """One half of a pair: a key, and the secret that both halves have. It never shows itself."""

    key: bytes
    shared: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the half that is written like this; InvalidConfiguration if none is."""
        words = text.split()
        kind, written = words if len(words) == 2 else ("", "")
        if kind == _WRITTEN[cls]:
            try:
                raw = base64.b64decode(written, validate=True)
            except (binascii.Error, ValueError):
                raw = b""
            content, check = raw[:-_CHECK_LENGTH], raw[-_CHECK_LENGTH:]
            if len(content) == 2 * _SECRET_LENGTH and check == _check(content):
                return cls(content[:_SECRET_LENGTH], content[_SECRET_LENGTH:])
        raise InvalidConfiguration(_explained(cls, kind))

    def text(self) -> str:
        """Return it as one line, with a check against slips of the pen."""
        content = self.key + self.shared
        return f"{_WRITTEN[type(self)]} {base64.b64encode(content + _check(content)).decode()}"


class Recipient(_Half):
    """Whom backups are sealed for: all that the control plane needs, and nothing that opens one."""

    def name(self) -> bytes:
        """Return what a backup says of whom it is for."""
        return blake2b(self.key + self.shared, digest_size=8, person=b"recipient").digest()


class BackupKey(_Half):
    """The private half: it opens every backup that was sealed for it."""

    @classmethod
    def new(cls, bits: Bits) -> Self:
        """Return a random one."""
        return cls(_random(bits), _random(bits))

    def recipient(self) -> Recipient:
        """Return the other half."""
        private = X25519PrivateKey.from_private_bytes(self.key)
        return Recipient(private.public_key().public_bytes_raw(), self.shared)


_WRITTEN: dict[type[_Half], str] = {Recipient: "exuvia-backup-for", BackupKey: "exuvia-backup-PRIVATE"}


def sealed(recipient: Recipient, term: Term, parts: Iterable[bytes], bits: Bits) -> Iterator[bytes]:
    """Yield the bytes of a backup of some parts."""
    header = _HEADER.pack(_MAGIC, recipient.name(), *term)
    secret = _random(bits)
    yield header
    yield _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(recipient.key))
    cipher, number = _cipher(secret, recipient.shared, header), 0
    for number, part in enumerate(parts, 1):
        yield from _chunk(cipher.encrypt(_nonce(number - 1), part, None))
    yield from _chunk(cipher.encrypt(_nonce(number), b"", None))


def opened(key: BackupKey, file: BinaryIO) -> Iterator[bytes]:
    """Yield the parts of a backup, each checked; BackupRefused at the first that is not right."""
    header = file.read(_HEADER.size)
    _, name, *_ = _unpacked(header)
    if name != key.recipient().name():
        raise BackupRefused(
            "the backup was made for another key: give the one whose public half it was made with"
        )
    cipher = _cipher(_secret(key, file.read(_SEALED_LENGTH)), key.shared, header)
    number, last = 0, False
    while not last:
        part, last = _opened(cipher, number, _read_chunk(file))
        if not last:
            yield part
        number += 1
    if file.read(1):
        raise BackupRefused(_DAMAGED)


def term_of(header: bytes) -> Term:
    """Return when a backup was made and how long it is good for, as its beginning says; not checked."""
    return Term(*_unpacked(header[: _HEADER.size])[2:])


def is_backup(header: bytes) -> bool:
    """Return whether a file that begins like this is one of ours, of whatever version."""
    return header.startswith(_FAMILY)


def _unpacked(header: bytes) -> tuple[bytes, bytes, int, int]:
    if not is_backup(header):
        raise BackupRefused("this is no backup that exuvia made")
    if not header.startswith(_MAGIC):
        raise BackupRefused("the backup was made by a newer version of exuvia: install that version")
    if len(header) < _HEADER.size:
        raise BackupRefused(_CUT)
    magic, name, made, until = _HEADER.unpack(header)
    return magic, name, made, until


def _secret(key: BackupKey, found: bytes) -> bytes:
    if len(found) < _SEALED_LENGTH:
        raise BackupRefused(_CUT)
    try:
        return _SUITE.decrypt(found, X25519PrivateKey.from_private_bytes(key.key))
    except (InvalidTag, ValueError):
        raise BackupRefused(_DAMAGED) from None


def _cipher(secret: bytes, shared: bytes, header: bytes) -> ChaCha20Poly1305:
    # Anybody could seal something for a public key; who does not know `shared` arrives at other keys.
    return ChaCha20Poly1305(HKDF(SHA256(), _SECRET_LENGTH, salt=shared, info=header).derive(secret))


def _chunk(encrypted: bytes) -> Iterator[bytes]:
    yield _CHUNK.pack(len(encrypted))
    yield encrypted


def _read_chunk(file: BinaryIO) -> bytes:
    length = file.read(_CHUNK.size)
    if len(length) < _CHUNK.size:
        raise BackupRefused(_CUT)
    (size,) = _CHUNK.unpack(length)
    if size > _LARGEST_CHUNK:
        raise BackupRefused(_DAMAGED)
    found = file.read(size)
    if len(found) < size:
        raise BackupRefused(_CUT)
    return found


def _opened(cipher: ChaCha20Poly1305, number: int, encrypted: bytes) -> tuple[bytes, bool]:
    """Return a part and whether it is the end; the end is empty, and as long as its tag."""
    last = len(encrypted) == _TAG_LENGTH
    try:
        return cipher.decrypt(_nonce(number), encrypted, None), last
    except InvalidTag:
        raise BackupRefused(_DAMAGED) from None


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _check(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECK_LENGTH, person=b"written").digest()


def _random(bits: Bits) -> bytes:
    return bits(8 * _SECRET_LENGTH).to_bytes(_SECRET_LENGTH, "big")


def _explained(wanted: type[_Half], kind: str) -> str:
    if wanted is Recipient and kind == _WRITTEN[BackupKey]:
        return (
            "this is the private half of the backup key: it must not lie on the control plane. Take it "
            "away, and put here the line that `exuvia backup-key` printed"
        )
    if wanted is BackupKey and kind == _WRITTEN[Recipient]:
        return (
            "this is the public half of the backup key, which opens nothing: give the file that "
            "`exuvia backup-key` wrote"
        )
    return f"this is no line that begins with {_WRITTEN[wanted]}, or it was miscopied: copy it anew"
