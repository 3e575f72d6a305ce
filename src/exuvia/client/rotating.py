"""
A change of keys, as the rules have it: each phase is saved, then done, and may be done again.

What a new key is put to use with is a Way: a second tunnel beside the one in use, the only
tunnel, or none at all. Whoever is stopped at any point starts with the phase that was saved.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from exuvia.client.edges import Registry
from exuvia.client.keeping import Keeper, granted
from exuvia.client.state import Grant
from exuvia.errors import ConnectAnew, ControlPlaneUnreachable, KeyRefused, Unavailable
from exuvia.rules.rotation import Event, Phase
from exuvia.wg.keys import PrivateKey

T = TypeVar("T")

BEFORE: tuple[Phase, ...] = ("registering", "spreading", "switching")
"""The phases in which the key in use is still the one from before the change."""

_ASK_TWICE = 0.5
"""Seconds after which a question whose answer was lost is put once more."""
_ASK_AGAIN = 0.2
_ASK_LATER = 2.0
_MOST_REFUSALS = 3


class Way(Protocol):
    """How a new key is put to use."""

    patience: float
    """Seconds that the gateways may take to learn of it before it is tried anyway."""

    def prepare(self, key: PrivateKey, grant: Grant) -> None:
        """Get ready, while the gateways learn of the key; again after a failure."""

    async def works(self, everywhere: asyncio.Event) -> bool:
        """Say whether the key works; the event happens when every gateway knows it."""

    def take(self) -> None:
        """Let everything new use the key."""

    async def drain(self) -> None:
        """Return when nothing uses the previous key any more, or has to end."""

    def leave(self) -> None:
        """Undo what was prepared and not taken."""


class Rotation:
    """Takes the keys through their phases; `moved` hears of each event after it was saved."""

    def __init__(self, keeper: Keeper, registry: Registry, moved: Callable[[Event], None]) -> None:
        self._keeper = keeper
        self._registry = registry
        self._moved = moved
        self._spread: _Spread | None = None
        self._refusals = 0

    async def use(self, way: Way) -> None:
        """
        Go on until the pending key is in use, if there is one.

        Raises Unavailable if it can't be now (it may be tried again at any time), ConnectAnew if
        the tunnel in use is no longer right, and UnknownCredential or AccountInactive.
        """
        self._refusals = 0
        try:
            while self._keeper.phase in BEFORE:
                await self._advance(way)
        except BaseException:
            if self._keeper.phase in BEFORE:
                way.leave()
            raise
        finally:
            await self._end_spread()

    async def finish(self, way: Way) -> None:
        """Go on until nothing is left to do; raises as use() does."""
        await self.use(way)
        while self._keeper.phase != "settled":
            await self._advance(way)

    async def _advance(self, way: Way) -> None:
        match self._keeper.phase:
            case "registering":
                await self._register()
            case "spreading":
                await self._wait_for_gateways(way)
            case "switching":
                await self._try(way)
            case "confirming":
                await self._confirm()
            case "draining":
                await way.drain()
                self._step("drained")
            case "retiring":
                await self._retire()

    async def _register(self) -> None:
        key = self._keeper.pending.private_key
        try:
            grant = await _twice(lambda: self._registry.register_key(key))
        except KeyRefused as error:
            self._refusals += 1
            self._step("refused")
            if self._refusals >= _MOST_REFUSALS:
                raise Unavailable(f"{error}: {self._refusals} times over") from None
        else:
            self._step("granted", grant)

    async def _wait_for_gateways(self, way: Way) -> None:
        spread = await self._begin(way)
        self._step("applied" if await spread.heard(way.patience) else "late")

    async def _try(self, way: Way) -> None:
        spread = self._spread or await self._begin(way)
        if not await way.works(spread.everywhere):
            self._step("silent")
            raise Unavailable("the new key does not work yet")
        self._step("works")
        try:
            way.take()
        except Unavailable as error:
            raise ConnectAnew(str(error)) from None

    async def _begin(self, way: Way) -> "_Spread":
        """Ask whether the gateways know the key, and get ready meanwhile."""
        key, grant = granted(self._keeper.pending)
        await self._end_spread()
        spread = self._spread = _Spread(self._registry, grant)
        await asyncio.sleep(0)  # the question is on its way before the work begins
        way.prepare(key, grant)
        return spread

    async def _confirm(self) -> None:
        key = self._keeper.current[0].public_key()
        if await _twice(lambda: self._registry.confirm(key)):
            self._step("confirmed")
        else:
            await self._heal()

    async def _retire(self) -> None:
        previous = self._keeper.state.previous
        if previous is None:
            self._step("retired")
            return
        key = previous.private_key.public_key()
        if await _twice(lambda: self._registry.retire(key)):
            self._step("retired")
        else:
            await self._heal()

    async def _heal(self) -> None:
        """Find out which keys the control plane knows, after it answered as if it did not know ours."""
        before = self._keeper.phase
        found = self._keeper.find(await _twice(self._registry.device))
        self._moved(found)
        if found in ("superseded", "unknown"):
            raise ConnectAnew("the control plane has forgotten the new key")
        if self._keeper.phase == before:
            raise Unavailable("the control plane contradicts itself")

    def _step(self, event: Event, grant: Grant | None = None) -> None:
        self._keeper.step(event, grant=grant)
        self._moved(event)

    async def _end_spread(self) -> None:
        if self._spread is not None:
            await self._spread.end()
            self._spread = None


class _Spread:
    """Asks whether every gateway knows a key, for as long as that takes."""

    def __init__(self, registry: Registry, grant: Grant) -> None:
        self.everywhere = asyncio.Event()
        self._registry = registry
        self._grant = grant
        self._asking = asyncio.ensure_future(self._ask())

    async def heard(self, patience: float) -> bool:
        """Wait so many seconds; say whether every gateway knows the key."""
        done, _ = await asyncio.wait((self._asking,), timeout=patience)
        for task in done:
            task.result()
        return bool(done)

    async def end(self) -> None:
        """Ask no more."""
        self._asking.cancel()
        await asyncio.wait((self._asking,))
        if not self._asking.cancelled():
            self._asking.exception()  # whoever waited for it has heard of it; others ask again

    async def _ask(self) -> None:
        while not self.everywhere.is_set():
            try:
                if await self._registry.applied(self._grant):
                    self.everywhere.set()
                else:
                    await asyncio.sleep(_ASK_AGAIN)
            except Unavailable:
                await asyncio.sleep(_ASK_LATER)


async def _twice(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask, and once more if there was no answer: whatever is asked here may be done twice."""
    try:
        return await ask()
    except ControlPlaneUnreachable:
        await asyncio.sleep(_ASK_TWICE)
        return await ask()
