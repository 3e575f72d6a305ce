"""
Codes that let in one device each, for accounts whose number alone opens nothing.

In memory only. A code looks like an account number, so that every program that asks for one takes it.
"""

from collections import OrderedDict
from dataclasses import dataclass

from exuvia.rules.allocation import Bits
from exuvia.store.credentials import Hasher, new_account_number
from exuvia.wg.keys import PublicKey

GOOD_FOR = 600.0
"""Seconds of CLOCK_BOOTTIME."""
MOST = 10_000
"""Codes of everybody; of more, the oldest are forgotten."""


@dataclass(slots=True)
class _Code:
    """Whose device it lets in, and, once it did, which key that has."""

    number_hash: bytes
    until: float
    public_key: PublicKey | None = None


class DeviceCodes:
    """The codes that are good at the moment, known by their keyed hashes."""

    def __init__(self, hasher: Hasher, bits: Bits) -> None:
        self._hasher, self._bits = hasher, bits
        self._codes: OrderedDict[bytes, _Code] = OrderedDict()

    def new(self, number_hash: bytes, *, now: float) -> str:
        """Return a code for a device of this account; the one before is good no more."""
        self._forget(now, number_hash)
        code = new_account_number(self._bits)
        self._codes[self._hasher.account(code) or b""] = _Code(number_hash, now + GOOD_FOR)
        return code

    def redeem(self, given_hash: bytes, key: PublicKey, *, now: float) -> bytes | None:
        """
        Return whose device may have this key; None if that is no code, or not for this key.

        The same key again may: an answer that was lost can be asked for again.
        """
        if not self._codes:
            return None
        self._forget(now)
        code = self._codes.get(given_hash)
        if code is None or code.public_key not in (None, key):
            return None
        code.public_key = key
        return code.number_hash

    def give_back(self, given_hash: bytes, key: PublicKey) -> None:
        """Let the code be used with another key, as this one was refused."""
        code = self._codes.get(given_hash)
        if code is not None and code.public_key == key:
            code.public_key = None

    def _forget(self, now: float, number_hash: bytes | None = None) -> None:
        for name, code in list(self._codes.items()):
            if code.until <= now or code.number_hash == number_hash or len(self._codes) >= MOST:
                del self._codes[name]
