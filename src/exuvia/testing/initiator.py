"""
The initiator's side of a WireGuard handshake, for tests and benchmarks.

A thousand clients in one process, a message recorded and replayed, a handshake left half
open: what no ordinary client would do. After the white paper, sections 5.4.2 to 5.4.6.
"""

import hmac
import struct
from hashlib import blake2s

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from exuvia.wg.keys import PrivateKey

INITIATION_LENGTH = 148
RESPONSE_LENGTH = 92

_CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
_IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
_LABEL_MAC1 = b"mac1----"
_NO_COOKIE = bytes(16)
_FIRST_NONCE = bytes(12)


def tai64n(seconds: float) -> bytes:
    """Return a wall-clock time as the 12 bytes that stand in an initiation."""
    whole = int(seconds)
    return struct.pack(">QI", 0x400000000000000A + whole, int((seconds - whole) * 1e9))


class Session:
    """A completed handshake: it can make data packets."""

    def __init__(self, receiver: int, sending_key: bytes) -> None:
        self._receiver = receiver
        self._cipher = ChaCha20Poly1305(sending_key)
        self._counter = 0

    def data(self, packet: bytes = b"") -> bytes:
        """Return a data message that carries an IP packet; without one it is a keepalive."""
        nonce = struct.pack("<4xQ", self._counter)
        padded = packet + bytes(-len(packet) % 16)
        message = struct.pack("<IIQ", 4, self._receiver, self._counter) + self._cipher.encrypt(
            nonce, padded, b""
        )
        self._counter += 1
        return message


class Initiator:
    """A client with a key pair, a preshared key and the public key of its gateway."""

    def __init__(self, private_key: PrivateKey, gateway: bytes, preshared_key: bytes = bytes(32)) -> None:
        self._static = X25519PrivateKey.from_private_bytes(private_key.expose())
        self._public = self._static.public_key().public_bytes_raw()
        self._gateway = gateway
        self._gateway_key = X25519PublicKey.from_public_bytes(gateway)
        self._static_static = self._static.exchange(self._gateway_key)
        self._preshared_key = preshared_key
        self._mac1_key = _hash(_LABEL_MAC1, gateway)
        self._chain = b""
        self._transcript = b""
        self._ephemeral: X25519PrivateKey | None = None

    def initiation(self, sender: int, timestamp: bytes) -> bytes:
        """Return a first message; `sender` is our index, `timestamp` as tai64n() makes it."""
        self._ephemeral = X25519PrivateKey.generate()
        ephemeral = self._ephemeral.public_key().public_bytes_raw()
        chain = _hash(_CONSTRUCTION)
        transcript = _hash(_hash(chain, _IDENTIFIER), self._gateway)
        (chain,) = _kdf(chain, ephemeral, 1)
        transcript = _hash(transcript, ephemeral)
        chain, key = _kdf(chain, self._ephemeral.exchange(self._gateway_key), 2)
        static = ChaCha20Poly1305(key).encrypt(_FIRST_NONCE, self._public, transcript)
        transcript = _hash(transcript, static)
        chain, key = _kdf(chain, self._static_static, 2)
        stamp = ChaCha20Poly1305(key).encrypt(_FIRST_NONCE, timestamp, transcript)
        self._chain, self._transcript = chain, _hash(transcript, stamp)
        message = struct.pack("<II", 1, sender) + ephemeral + static + stamp
        return message + blake2s(message, digest_size=16, key=self._mac1_key).digest() + _NO_COOKIE

    def finish(self, response: bytes) -> Session:
        """Return the session that this answer completes; cryptography's InvalidTag if it is none."""
        if self._ephemeral is None:
            raise ValueError("there was no first message")
        kind, gateway_index, _ours = struct.unpack_from("<III", response)
        if kind != 2 or len(response) != RESPONSE_LENGTH:
            raise ValueError("not a handshake response")
        their_ephemeral = response[12:44]
        theirs = X25519PublicKey.from_public_bytes(their_ephemeral)
        (chain,) = _kdf(self._chain, their_ephemeral, 1)
        transcript = _hash(self._transcript, their_ephemeral)
        (chain,) = _kdf(chain, self._ephemeral.exchange(theirs), 1)
        (chain,) = _kdf(chain, self._static.exchange(theirs), 1)
        chain, mixed, key = _kdf(chain, self._preshared_key, 3)
        transcript = _hash(transcript, mixed)
        ChaCha20Poly1305(key).decrypt(_FIRST_NONCE, response[44:60], transcript)
        sending, _receiving = _kdf(chain, b"", 2)
        return Session(gateway_index, sending)


def _hash(*parts: bytes) -> bytes:
    return blake2s(b"".join(parts)).digest()


def _kdf(key: bytes, material: bytes, count: int) -> list[bytes]:
    secret = hmac.digest(key, material, "blake2s")
    outputs: list[bytes] = []
    last = b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes([number]), "blake2s")
        outputs.append(last)
    return outputs
