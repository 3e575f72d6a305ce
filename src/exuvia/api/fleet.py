"""
The gateways as the running server knows them: who they are, who is live, and what each was told.

Who is live and how far each has come is kept in memory only.
"""

import asyncio
from dataclasses import dataclass

from exuvia.errors import RevisionWentBackwards
from exuvia.store.gateways import Gateway
from exuvia.store.peers import Position

LIVE_FOR = 45.0
"""Seconds after which a gateway that was not heard no longer counts."""


@dataclass(slots=True)
class _Heard:
    """What one gateway has said and was told since this server started."""

    at: float
    epoch: str = ""
    revision: int = -1
    told: int = -1


class Fleet:
    """All enrolled gateways. Times are seconds of CLOCK_BOOTTIME."""

    def __init__(self, enrolled: list[Gateway], started_at: Position) -> None:
        self._started_at = started_at
        self._heard: dict[str, _Heard] = {}
        self._progress = asyncio.Event()
        self._everywhere: tuple[str, int] | None = None
        """The epoch and the revision to which every live gateway had come, when one said last how far."""
        self.replace(enrolled)

    def replace(self, enrolled: list[Gateway]) -> None:
        """Take over what the database knows of gateways."""
        self._by_token = {gateway.token_hash: gateway for gateway in enrolled}
        names = {gateway.name for gateway in enrolled}
        self._heard = {name: heard for name, heard in self._heard.items() if name in names}

    def by_token(self, token_hash: bytes) -> Gateway | None:
        """Return the gateway with this token."""
        return self._by_token.get(token_hash)

    def all(self) -> list[Gateway]:
        """Return all enrolled gateways, by name."""
        return sorted(self._by_token.values(), key=lambda gateway: gateway.name)

    def hear(self, name: str, *, now: float) -> None:
        """Note a sign of life."""
        self._heard.setdefault(name, _Heard(now)).at = now

    def tell(self, name: str, revision: int) -> None:
        """Note that a gateway is being told of a revision."""
        if heard := self._heard.get(name):
            heard.told = max(heard.told, revision)

    def acknowledge(self, name: str, at: Position, *, now: float) -> None:
        """Note how far a gateway has come; whoever waits is woken only if that makes a difference."""
        heard = self._heard.setdefault(name, _Heard(now))
        heard.at, heard.epoch, heard.revision = now, at.epoch, at.revision
        everywhere = self._least(now)
        if everywhere != self._everywhere:
            self._everywhere = everywhere
            self._progress.set()
            self._progress = asyncio.Event()

    def check(self, gateway: Gateway, claimed: Position) -> None:
        """
        Raise RevisionWentBackwards if a gateway was told more than this database ever knew.

        Up to where this server started, anything may have been said by the one before it;
        beyond that, only what it said itself.
        """
        heard = self._heard.get(gateway.name)
        known = max(self._started_at.revision, heard.told if heard else -1)
        if claimed.epoch == self._started_at.epoch and (gateway.ahead or claimed.revision > known):
            raise RevisionWentBackwards("this gateway was told more than the database knows")

    def live(self, *, now: float) -> int:
        """Return how many gateways are live."""
        return len(self._live(now))

    def is_live(self, name: str, *, now: float) -> bool:
        """Return whether a gateway was heard lately."""
        return name in self._heard and now - self._heard[name].at < LIVE_FOR

    def have_applied(self, wanted: Position, *, now: float) -> bool:
        """Return whether there is a live gateway, and every one has come so far."""
        least = self._least(now)
        return least is not None and least[0] == wanted.epoch and least[1] >= wanted.revision

    async def progress(self, patience: float) -> None:
        """Wait until all gateways have come further, or for so many seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._progress.wait()
        except TimeoutError:
            pass

    def _least(self, now: float) -> tuple[str, int] | None:
        """Return how far all live gateways have come; None without any, or if their epochs differ."""
        live = self._live(now)
        epochs = {heard.epoch for heard in live}
        return (epochs.pop(), min(heard.revision for heard in live)) if len(epochs) == 1 else None

    def _live(self, now: float) -> list[_Heard]:
        return [heard for name, heard in self._heard.items() if self.is_live(name, now=now)]
