"""
Which peers of somebody else's interface the guard leaves alone.

Purging a peer takes its endpoint away. Where an administrator configured that endpoint, or
where this side keeps the tunnel open itself, that would cut the peer off: nobody would call
it any more.
"""

from collections.abc import Iterable

from exuvia.wg.peers import Sighting

ENDPOINT = "its endpoint is configured"
KEEPALIVE = "this side sends it keepalives"


class Exemptions:
    """
    Learns from each look at an interface who is left alone, and why.

    An endpoint is configured if the configuration file gives one, or if it was there in two
    looks while nothing had been received from the peer: an endpoint that the peer brought
    itself, or that somebody planted by replaying a first message, always comes with bytes.
    """

    def __init__(self, configured: Iterable[bytes] = ()) -> None:
        self._reasons = dict.fromkeys(configured, ENDPOINT)
        self._suspected: set[bytes] = set()

    def filter(self, sightings: Iterable[Sighting]) -> list[Sighting]:
        """Return the sightings of peers that are not left alone, learning from all of them."""
        ours = []
        for sighting in sightings:
            if sighting.endpoint and not sighting.rx:
                self._suspect(sighting.public_key)
            if sighting.public_key not in self._reasons:
                ours.append(sighting)
        return ours

    def keepalive(self, key: bytes, seconds: int) -> None:
        """Leave a peer alone as long as a keepalive is set on this side."""
        if seconds:
            self._reasons.setdefault(key, KEEPALIVE)
        elif self._reasons.get(key) == KEEPALIVE:
            del self._reasons[key]

    def counts(self) -> dict[str, int]:
        """Return how many peers are left alone for each reason."""
        reasons = list(self._reasons.values())
        return {why: reasons.count(why) for why in (ENDPOINT, KEEPALIVE) if why in reasons}

    def _suspect(self, key: bytes) -> None:
        if key in self._suspected:
            self._reasons.setdefault(key, ENDPOINT)
        self._suspected.add(key)
