"""Proof that whoever registers a key holds its private half, checked before the database is asked."""

import hmac
from collections.abc import Callable
from typing import NamedTuple

from exuvia.api.routes import Call
from exuvia.errors import InvalidKey, KeyRefused
from exuvia.messages import ServerKey
from exuvia.rules import possession
from exuvia.rules.overlap import KEY_REFUSED
from exuvia.store.credentials import Hasher
from exuvia.wg.keys import PrivateKey, PublicKey


class _Pair(NamedTuple):
    private: PrivateKey
    public: PublicKey


class Possession:
    """The server's keys of this hour and the one before; each follows from the secret and the hour."""

    is_required = possession.UNPROVEN == "refuse"
    """Whether a key without a proof is refused."""

    def __init__(self, hasher: Hasher, wall: Callable[[], float]) -> None:
        """`wall`: what time it is believed to be, in seconds since 1970."""
        self._hasher, self._wall = hasher, wall
        self._pairs: dict[int, _Pair] = {}

    def server_key(self) -> PublicKey:
        """Return the key that a proof is to be made for."""
        return self._pair(self._hour()).public

    def seconds(self) -> int:
        """Return for how long proofs for it are surely accepted."""
        return possession.seconds_left(self._wall())

    def check(self, public_key: PublicKey, proof: str | None) -> None:
        """
        Raise KeyRefused unless this proves that its sender holds the key, or no proof is needed.

        Whatever is wrong with it, the same work is done. An empty proof is none.
        """
        if not proof:
            if self.is_required:
                raise KeyRefused(KEY_REFUSED)
            return
        given = possession.read(proof)
        pairs = [self._pair(hour) for hour in possession.accepted(self._hour())]
        meant = [pair for pair in pairs if hmac.compare_digest(pair.public, given.server_key)]
        pair = meant[0] if meant else pairs[0]
        is_right = hmac.compare_digest(_mac(pair, public_key), given.mac)
        if not (meant and is_right):
            raise KeyRefused(KEY_REFUSED)

    def _hour(self) -> int:
        return int(self._wall()) // possession.HOUR

    def _pair(self, hour: int) -> _Pair:
        if hour not in self._pairs:
            private = PrivateKey(self._hasher.possession(hour))
            # Those of other hours go: what is derived again anyway need not lie around.
            near = {hour - 1, hour, hour + 1}
            self._pairs = {known: pair for known, pair in self._pairs.items() if known in near}
            self._pairs[hour] = _Pair(private, private.public_key())
        return self._pairs[hour]


def _mac(pair: _Pair, public_key: PublicKey) -> bytes:
    try:
        shared = pair.private.shared_with(public_key)
    except InvalidKey:  # no key that was decoded gets here
        raise KeyRefused(KEY_REFUSED) from None
    return possession.mac(shared, pair.public, public_key)


async def server_key(call: Call) -> ServerKey:
    """GET /v1/possession."""
    own = call.control.possession
    return ServerKey(own.server_key().text(), own.seconds())
