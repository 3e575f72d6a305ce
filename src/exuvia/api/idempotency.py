"""
Asking twice, done once: what a billing system asked with an Idempotency-Key is answered again.

In memory only, for a day, and sealed: an answer may hold an account number, and only the key
that came with the request opens it. What is kept of the key itself is a hash.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from exuvia.errors import IdempotencyKeyReused, InvalidRequest
from exuvia.rules.limits import LONGEST_IDEMPOTENCY_KEY, MOST_ANSWERS_KEPT

KEPT_FOR = 24 * 3600.0
"""Seconds of CLOCK_BOOTTIME."""
_NONCE = bytes(12)
"""Each sealing key seals one answer."""


@dataclass(slots=True)
class _Answer:
    """What came of one key: sealed, or under way."""

    request: bytes
    """What was asked, as a hash."""
    until: float
    done: "asyncio.Future[bytes]"


class Answers:
    """The answers of the last day; `secret` is random and as old as this process."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._kept: OrderedDict[bytes, _Answer] = OrderedDict()

    async def once(
        self, key: bytes, request: bytes, work: Callable[[], Awaitable[bytes]], *, now: float
    ) -> bytes:
        """
        Return what the work answers, which is done once for a key; again, if it failed.

        Whoever asks while it is under way waits for it. IdempotencyKeyReused: the key came
        with another request before.
        """
        name, seal = self._derived(_checked(key))
        asked = blake2b(request, key=self._secret, digest_size=32, person=b"request").digest()
        self._forget(now)
        while (kept := self._kept.get(name)) is not None:
            if kept.request != asked:
                raise IdempotencyKeyReused("this Idempotency-Key came with another request before")
            try:
                return seal.decrypt(_NONCE, await asyncio.shield(kept.done), None)
            except _Failed:
                continue
        return await self._do(name, seal, _Answer(asked, now + KEPT_FOR, _future()), work)

    async def _do(
        self, name: bytes, seal: ChaCha20Poly1305, answer: _Answer, work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        self._kept[name] = answer
        try:
            body = await work()
        except BaseException:
            del self._kept[name]
            answer.done.set_exception(_Failed())
            answer.done.exception()  # nobody may be waiting for it
            raise
        answer.done.set_result(seal.encrypt(_NONCE, body, None))
        return body

    def _derived(self, key: bytes) -> tuple[bytes, ChaCha20Poly1305]:
        def hashed(person: bytes) -> bytes:
            return blake2b(key, key=self._secret, digest_size=32, person=person).digest()

        return hashed(b"name"), ChaCha20Poly1305(hashed(b"seal"))

    def _forget(self, now: float) -> None:
        """Forget what is over a day old, and the oldest while they are too many."""
        over: list[bytes] = []
        for name, answer in self._kept.items():
            if answer.until > now and len(self._kept) - len(over) < MOST_ANSWERS_KEPT:
                break
            if answer.done.done():
                over.append(name)
        for name in over:
            del self._kept[name]


class _Failed(Exception):
    """What was waited for was not done."""


def _future() -> "asyncio.Future[bytes]":
    return asyncio.get_running_loop().create_future()


def _checked(key: bytes) -> bytes:
    if not (1 <= len(key) <= LONGEST_IDEMPOTENCY_KEY and all(0x21 <= octet <= 0x7E for octet in key)):
        raise InvalidRequest("an Idempotency-Key is printable ASCII without spaces, and not too long")
    return key
