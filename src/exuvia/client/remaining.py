"""While the client is connected: notice when that ends, and change the key when that is due."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from exuvia.client.asking import Asking
from exuvia.client.gateways import Gateway
from exuvia.client.holding import Hold
from exuvia.client.parts import Parts
from exuvia.client.rotating import Rotation
from exuvia.client.ways import Beside
from exuvia.errors import AccountInactive, ConnectAnew, Unavailable, UnknownCredential
from exuvia.rules import schedule

DOUBT = 3.0
"""Seconds that what was sent may go unanswered before the control plane is asked what is wrong."""
BELIEVE = 30.0
"""Seconds for which it is believed that nothing is."""

_LOOK = 2.0
_LOOK_DOUBTING = 1.0


class Remaining:
    """Stays connected, for as long as the tunnel works and the control plane lets it."""

    def __init__(self, parts: Parts, asking: Asking, rotation: Rotation, hold: Hold, drain: float) -> None:
        self.asked = False
        """Whether somebody wants the key to be changed now."""
        self._parts = parts
        self._asking = asking
        self._rotation = rotation
        self._hold = hold
        self._drain = drain
        self._beside: Beside | None = None
        self._wanted = asyncio.Event()
        self._failures = 0
        self._again = 0.0
        self._said = ""

    def ask_to_change(self) -> str | None:
        """Change the key now; what still drains is ended first, and that is what is returned then."""
        self.asked = True
        self._wanted.set()
        if self._beside is None or self._beside.until is None:
            return None
        self._beside.hurry.set()
        return "ending the connections that still used the key before"

    def draining(self) -> float | None:
        """Return the seconds for which connections over the previous key may go on; None without any."""
        if self._beside is None or self._beside.until is None:
            return None
        return max(0.0, self._beside.until - self._parts.edges.clock.boottime())

    async def until_lost(self, gateway: Gateway) -> None:
        """Return when it is time to connect again."""
        edges = self._parts.edges
        self._beside = Beside(edges.machine, gateway, drain=self._drain, clock=edges.clock)
        try:
            await _first(self._watch(gateway), self._change(self._beside), self._doubt())
        finally:
            beside, self._beside = self._beside, None
            with contextlib.suppress(Unavailable):
                beside.end()
            self._parts.situation.condition = "connecting"

    async def _watch(self, gateway: Gateway) -> None:
        try:
            while not self._parts.sight.lost():
                with contextlib.suppress(Unavailable):
                    self._parts.edges.machine.keep_names()
                self._look_at_the_clock()
                await asyncio.sleep(_LOOK)
        except Unavailable:
            self._parts.say("the tunnel went away; connecting again")
        else:
            self._parts.say(f"{gateway.name} no longer answers; connecting again")

    def _look_at_the_clock(self) -> None:
        keeper = self._parts.keeper
        left = keeper.left()
        if self._hold.look(left):
            self._parts.say("the key could not be changed before traffic went on: it will be, later")
        unfinished = keeper.phase != "settled" or self.asked
        if (unfinished or not left) and self._parts.edges.clock.boottime() >= self._again:
            self._wanted.set()

    async def _change(self, beside: Beside) -> None:
        """Change the key whenever that is wanted; return if the tunnel in use is no longer right."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._change_once(beside)
            except ConnectAnew as error:
                self._parts.say(f"{error}; connecting again")
                return
            except (UnknownCredential, AccountInactive):
                return  # asking once more tells what it means
            except Unavailable as error:
                self._failed(error)
            else:
                self._failures, self._again, self._said = 0, 0.0, ""

    async def _change_once(self, beside: Beside) -> None:
        keeper = self._parts.keeper
        await self._rotation.finish(beside)
        beside.hurry.clear()
        if self.asked or not keeper.left():
            self._parts.following.moved("due", keeper.step("due"))
            await self._rotation.finish(beside)

    def _failed(self, error: Unavailable) -> None:
        self._failures += 1
        pause = schedule.retry(self._failures, chance=self._parts.chance())
        self._again = self._parts.edges.clock.boottime() + pause
        self._parts.following.end(f"{error}; this is tried again in {pause / 60:.0f} min", failed=True)
        if self._said != str(error):
            self._said = str(error)
            self._parts.say(f"the key is not changed yet: {error}")

    async def _doubt(self) -> None:
        """If what is sent goes unanswered, ask whether this device may still connect; return if not so."""
        while True:
            await asyncio.sleep(_LOOK_DOUBTING)
            if self._parts.sight.unanswered() < DOUBT:
                continue
            try:
                found = await self._asking.doubt()
            except (UnknownCredential, AccountInactive):
                return
            if found in ("unknown", "superseded"):
                self._parts.say("the control plane has forgotten this device's key; connecting again")
                return
            await asyncio.sleep(BELIEVE)


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Return when one of them does, and end the others; raise what it raises."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
