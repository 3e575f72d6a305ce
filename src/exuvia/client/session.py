"""
One run of the client: find a gateway, connect, stay connected, and say what is the matter if not.

What happens while it is connected is in remaining.py, a change of keys in rotating.py.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from exuvia.client.asking import Asking
from exuvia.client.gateways import Gateway
from exuvia.client.holding import Hold
from exuvia.client.parts import Parts
from exuvia.client.remaining import Remaining
from exuvia.client.rotating import BEFORE, Rotation
from exuvia.client.state import Grant
from exuvia.client.talk import Progress
from exuvia.client.ways import Asleep, Instead
from exuvia.errors import (
    AccountInactive,
    ExuviaError,
    NotFound,
    Refused,
    Unavailable,
    UnknownCredential,
)
from exuvia.rules.rotation import Event
from exuvia.wg.keys import PrivateKey

CONNECTING_KEEPALIVE = 5
"""Seconds between the packets that make WireGuard try a handshake, until one has happened."""

SHORTEST_PATIENCE = 20.0
"""Seconds to wait for a handshake before asking what has changed; doubled each time."""
LONGEST_PATIENCE = 60.0
TRYING_ANEW = 10.0
"""Seconds to wait for the handshake of a new key while there is an older one to try."""

ASK_AGAIN = 60.0
"""Seconds until a suspended account is looked at again."""

HEAL = 90.0
"""
Seconds without a handshake, while the control plane answers and knows our key, until another is taken.

A gateway that believes a recorded handshake from a time when our clock was wrong accepts none
of ours with that key.
"""
_MOST_HEAL = 3600.0

_LOOK_CONNECTING = 0.2
_AGAIN = 2.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asks of the connection."""

    gateway: str | None = None
    """None for any."""
    interface: str = "exuvia0"
    lan: bool = False
    names: bool = True
    """Whether names are to be looked up by the gateway's resolver."""
    keepalive: int = 0
    """Seconds; 0 lets an idle device be forgotten by its gateway."""
    open_if_refused: bool = False
    on_connect: bool = False
    """Whether the key is changed before the first connection."""
    drain: float = 600.0
    """Seconds for which connections that began before a change of keys may go on."""


class Session:
    """Connects and stays connected, for as long as it is let."""

    def __init__(self, parts: Parts, wishes: Wishes) -> None:
        self._parts = parts
        self._wishes = wishes
        self._keeper, self._situation, self._say = parts.keeper, parts.situation, parts.say
        self._machine, self._clock = parts.edges.machine, parts.edges.clock
        self._asking = Asking(parts)
        self._rotation = Rotation(parts.keeper, self._asking, self._moved)
        self._hold = Hold(self._machine, self._clock)
        self._remaining = Remaining(parts, self._asking, self._rotation, self._hold, wishes.drain)
        self._remaining.asked = wishes.on_connect
        self._failing: float | None = None
        self._healed = 0

    async def stay(self) -> None:
        """Stay connected; raises what makes that impossible before anything was changed."""
        try:
            gateway = await self._begin()
            patience = SHORTEST_PATIENCE
            while True:
                failed = None if await self._tried(gateway, patience) else gateway
                patience = min(2 * patience, LONGEST_PATIENCE) if failed else SHORTEST_PATIENCE
                await self._ask()
                gateway = self._choose_again(gateway, failed)
        finally:
            await self._asking.close()

    async def rotate(self) -> AsyncGenerator[Progress, None]:
        """Change the key now, and yield how that goes."""
        if self._situation.condition != "connected":
            self._remaining.asked = True
            refused = self._situation.condition == "refused"
            reason = self._situation.reason or "the control plane refuses this device"
            yield Progress(reason if refused else "the key is changed when it connects", True, refused)
            return
        following = self._parts.following.follow()
        ended = self._remaining.ask_to_change()
        if ended is not None:
            yield Progress(ended)
        async for progress in following:
            yield progress

    async def set_interval(self, days: int) -> str:
        """Change the key so often from now on; return what became of that."""
        with contextlib.suppress(Unavailable):
            self._keeper.limits = (await self._asking.ask_apart()).rotation_days
        return self._keeper.set_interval(days)

    def draining(self) -> float | None:
        """Return the seconds for which connections over the previous key may go on, if there are any."""
        return self._remaining.draining()

    async def _begin(self) -> Gateway:
        """Find out where to connect to, while the network is still as it was."""
        try:
            self._keeper.anchor()
            await self._asking.learn()
            if self._keeper.phase == "settled" and not await self._asking.applied(self._keeper.current[1]):
                self._say("not every gateway knows this device's key yet")
        except Unavailable as error:
            if not self._asking.known.gateways:
                raise
            self._say(f"{error}; going by what was known before")
        except (UnknownCredential, AccountInactive):
            self._situation.may_open |= self._wishes.open_if_refused
            raise
        return self._choose()

    async def _tried(self, gateway: Gateway, patience: float) -> bool:
        """Connect if that is possible, and stay so for as long as it is; say whether it was."""
        try:
            if not await self._connect(gateway, patience):
                return False
        except (UnknownCredential, AccountInactive):
            if self._situation.may_open:
                raise
            return False  # asking once more tells what it means
        self._failing, self._healed = None, 0
        await self._remaining.until_lost(gateway)
        return True

    async def _connect(self, gateway: Gateway, patience: float) -> bool:
        self._situation.condition, self._situation.gateway = "connecting", gateway
        if self._failing is None:
            self._failing = self._clock.boottime()
        if self._may_change() and await self._connect_anew(gateway):
            return await self._arrive(gateway)
        return await self._dial(gateway, *self._keeper.current, patience) and await self._arrive(gateway)

    def _may_change(self) -> bool:
        """Say whether to connect with another key at once."""
        phase = self._keeper.phase
        wanted = phase in BEFORE or (
            phase == "settled" and (self._remaining.asked or not self._keeper.left())
        )
        return wanted and (self._asking.up_to_date or phase in ("spreading", "switching"))

    async def _connect_anew(self, gateway: Gateway) -> bool:
        """Change the key, and connect with the new one."""
        try:
            if self._keeper.phase == "settled":
                self._keeper.step("due")
            dial = Instead(lambda key, grant: self._dial(gateway, key, grant, TRYING_ANEW))
            await self._rotation.use(dial)
        except Unavailable as error:
            self._say(f"{error}; connecting with the key there is")
            return False
        return True

    async def _dial(self, gateway: Gateway, key: PrivateKey, grant: Grant, patience: float) -> bool:
        """Dial a gateway and wait for a handshake; say whether there was one."""
        self._parts.sight.begin()
        deadline = self._clock.boottime() + self._parts.about(patience)
        try:
            self._lead_in(gateway, key, grant)
            while not self._parts.sight.see().connected:
                if self._clock.boottime() >= deadline:
                    self._say(f"{gateway.name} does not answer yet")
                    return False
                await asyncio.sleep(_LOOK_CONNECTING)
        except Unavailable as error:
            await self._failed_here(error)
            return False
        return True

    def _lead_in(self, gateway: Gateway, key: PrivateKey, grant: Grant) -> None:
        machine = self._machine
        machine.shut(gateway, self._asking.endpoints())
        if not self._situation.shut:
            self._situation.shut = True
            for problem in machine.harden():
                self._say(problem)
        if machine.dial(gateway, key, grant, keepalive=CONNECTING_KEEPALIVE) == "none":
            self._say("names: this network namespace shares its resolv.conf, which is left as it is")
        self._situation.may_open = False

    async def _arrive(self, gateway: Gateway) -> bool:
        """The handshake was there: let everything in."""
        machine = self._machine
        try:
            if not self._keeper.left():
                self._hold.begin()
            machine.keep_alive(self._wishes.keepalive)
            machine.shut(gateway, ())
        except Unavailable as error:
            await self._failed_here(error)
            return False
        self._situation.condition = "connected"
        self._say(f"connected to {gateway.name} by {self._wishes.interface}")
        if not self._asking.up_to_date:
            with contextlib.suppress(ExuviaError):
                await self._asking.learn()
        return True

    async def _failed_here(self, error: Unavailable) -> None:
        """This machine did not let it be done."""
        if self._situation.may_open:
            raise error
        self._say(f"{error}; trying again")
        await asyncio.sleep(_AGAIN)

    async def _ask(self) -> None:
        """Learn what has changed; return when there is any sense in connecting."""
        while True:
            try:
                await self._asking.learn()
            except UnknownCredential as error:
                self._refused(error)
                await asyncio.Event().wait()
            except AccountInactive as error:
                self._refused(error)
                await asyncio.sleep(self._parts.about(ASK_AGAIN))
            except Unavailable:
                return
            else:
                await self._heal()
                return

    def _refused(self, error: Refused) -> None:
        if self._situation.reason != str(error):
            self._say(str(error))
        self._situation.condition, self._situation.reason = "refused", str(error)
        self._parts.following.end(str(error), failed=True)
        if self._wishes.open_if_refused:
            self._situation.may_open = True
            raise error

    async def _heal(self) -> None:
        """Take another key if the control plane answers, and knows ours, but no gateway accepts it."""
        patience = min(HEAL * 2.0**self._healed, _MOST_HEAL)
        if self._failing is None or self._clock.boottime() - self._failing < patience:
            return
        # What the control plane refuses here, it refuses again when it is asked next.
        with contextlib.suppress(Unavailable, UnknownCredential, AccountInactive):
            if self._keeper.phase not in BEFORE:
                # An earlier change is ended first: of its keys neither works.
                await self._rotation.finish(Asleep())
                self._keeper.step("due")
            elif self._keeper.phase == "registering":
                self._keeper.step("refused")
            self._healed += 1
            self._say("no gateway answers, though the control plane does: taking another key")

    def _moved(self, event: Event) -> None:
        """Take note of a step in a change of keys."""
        if event == "works":
            self._remaining.asked = False
            self._parts.sight.begin()
            self._asking.renew()
        self._parts.following.moved(event, self._keeper.phase)

    def _choose(self, *, but: str | None = None) -> Gateway:
        if self._wishes.gateway is not None:
            return self._asking.known.named(self._wishes.gateway)
        return self._asking.known.choose(self._parts.edges.entropy.bits(64), but=but)

    def _choose_again(self, last: Gateway, failed: Gateway | None) -> Gateway:
        """Return the gateway to try next: the last one once more, unless it has just failed."""
        try:
            return self._choose(but=failed.name) if failed else self._asking.known.named(last.name)
        except NotFound as error:
            if self._wishes.gateway is not None:
                self._say(str(error))
                return last
            return self._choose()
