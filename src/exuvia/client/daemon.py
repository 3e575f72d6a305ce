"""
`exuvia client up`: one loop that connects, stays connected, and says what is the matter if not.

While it runs, and also when it is killed, nothing leaves this machine outside the tunnel. The
kill switch opens only when the client is told to go down; or, if that was asked for, when the
control plane refuses the device; or when it never got as far as a first connection attempt.
"""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from exuvia.client import network
from exuvia.client.control import ControlPlane
from exuvia.client.gateways import Endpoint, Gateway, Known, addresses_of
from exuvia.client.killswitch import CONTROL_MARK
from exuvia.client.login import Say, learn
from exuvia.client.network import Network
from exuvia.client.state import StateFolder
from exuvia.client.talk import Asked, Condition, Listener, Status
from exuvia.errors import (
    AccountInactive,
    ExuviaError,
    InterfaceUnavailable,
    NotFound,
    Refused,
    StateNotSaved,
    Unavailable,
    UnknownCredential,
)
from exuvia.rules.liveness import Liveness
from exuvia.system import clock, entropy, files, firewall
from exuvia.system.http import location

CONNECTING_KEEPALIVE = 5
"""Seconds between the packets that make WireGuard try a handshake, until one has happened."""

SHORTEST_PATIENCE = 20.0
"""Seconds to wait for a handshake before asking what has changed; doubled each time."""
LONGEST_PATIENCE = 60.0

ASK_AGAIN = 300.0
"""Seconds until a suspended account is looked at again."""

_LOOK = 2.0
_LOOK_CONNECTING = 0.2
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


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


class Daemon:
    """The client while it is up."""

    def __init__(self, folder: StateFolder, wishes: Wishes, *, say: Say) -> None:
        self._state, self._device, key, self._grant = folder.require()
        self._key = key.private_key
        self._folder = folder
        self._wishes = wishes
        self._say = say
        self._network = Network(wishes.interface, lan=wishes.lan, names=wishes.names)
        self._known = Known.decode(files.read(folder.known))
        self._stop = asyncio.Event()
        self._gone = asyncio.Event()
        self._liveness = Liveness()
        self._condition: Condition = "connecting"
        self._gateway: Gateway | None = None
        self._reason: str | None = None
        self._shut = network.is_shut()
        self._may_open = not self._shut
        self._up_to_date = False

    async def run(self) -> None:
        """Stay connected until told to go down; then everything is as it was before."""
        for number in _STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        async with Listener(self._folder.socket, self._answer):
            try:
                with self._guarding():
                    await self._until_stopped(self._stay())
            except BaseException:
                if self._may_open:
                    self._take_down()
                elif self._shut:
                    self._say("the kill switch stays closed: `exuvia client down` opens it")
                raise
            self._take_down()

    async def _stay(self) -> None:
        gateway = await self._prepare()
        patience = SHORTEST_PATIENCE
        while True:
            if await self._connect(gateway, patience):
                await self._until_lost(gateway)
                patience, failed = SHORTEST_PATIENCE, None
            else:
                patience, failed = min(2 * patience, LONGEST_PATIENCE), gateway
            await self._ask()
            gateway = self._choose_again(gateway, failed)

    async def _prepare(self) -> Gateway:
        """Find out where to connect to, while the network is still as it was."""
        network.require_free(self._wishes.interface)
        for problem in network.clear(stay_shut=True):
            self._say(problem)
        if self._shut:
            self._say("the kill switch of an earlier run is closed, and stays so")
            self._network.shut(None, self._control_endpoints())
        try:
            await self._learn(until_applied=True)
        except Unavailable as error:
            if not self._known.gateways:
                raise
            self._say(f"{error}; going by what was known before")
        except (UnknownCredential, AccountInactive):
            self._may_open |= self._wishes.open_if_refused
            raise
        return self._choose()

    async def _connect(self, gateway: Gateway, patience: float) -> bool:
        """Dial a gateway and wait for a handshake; say whether there was one."""
        self._condition, self._gateway, self._liveness = "connecting", gateway, Liveness()
        deadline = clock.boottime() + _about(patience)
        try:
            self._dial(gateway)
            self._may_open = False
            while not self._look().connected:
                if clock.boottime() >= deadline:
                    self._say(f"{gateway.name} does not answer yet")
                    return False
                await asyncio.sleep(_LOOK_CONNECTING)
            self._network.keep_alive(self._wishes.keepalive)
            self._network.shut(gateway, ())
        except Unavailable as error:
            if self._may_open:
                raise
            self._say(f"{error}; trying again")
            await asyncio.sleep(_LOOK)
            return False
        self._condition = "connected"
        self._say(f"connected to {gateway.name} by {self._wishes.interface}")
        await self._catch_up()
        return True

    def _dial(self, gateway: Gateway) -> None:
        self._network.shut(gateway, self._control_endpoints())
        if not self._shut:
            self._shut = True
            for problem in self._network.harden():
                self._say(problem)
        way = self._network.dial(gateway, self._key, self._grant, keepalive=CONNECTING_KEEPALIVE)
        if way == "none":
            self._say("names: this network namespace shares its resolv.conf, which is left as it is")

    async def _until_lost(self, gateway: Gateway) -> None:
        try:
            while not self._look().lost(now=clock.boottime()):
                with contextlib.suppress(Unavailable):
                    self._network.keep_names()
                await asyncio.sleep(_LOOK)
        except Unavailable:
            self._say(f"{self._wishes.interface} went away; connecting again")
        else:
            self._say(f"{gateway.name} no longer answers; connecting again")
        self._condition = "connecting"

    def _look(self) -> Liveness:
        self._liveness.see(self._network.look(), now=clock.boottime())
        return self._liveness

    # What the control plane says.

    async def _ask(self) -> None:
        """Learn what has changed; return when there is any sense in connecting."""
        while True:
            self._network.shut(self._gateway, self._control_endpoints())
            try:
                await self._learn()
            except UnknownCredential as error:
                self._refused(error)
                await asyncio.Event().wait()
            except AccountInactive as error:
                self._refused(error)
                await asyncio.sleep(_about(ASK_AGAIN))
            except Unavailable:
                return
            else:
                return

    def _refused(self, error: Refused) -> None:
        if self._reason != str(error):
            self._say(str(error))
        self._condition, self._reason = "refused", str(error)
        if self._wishes.open_if_refused:
            self._may_open = True
            raise error

    async def _learn(self, *, until_applied: bool = False) -> None:
        free = not self._shut or self._condition == "connected"
        known = self._known
        if free:
            known = Known(await addresses_of(*location(self._state.control)), known.gateways)
        control = ControlPlane(
            self._state.control,
            ca_file=self._state.ca_file,
            token=self._device.token,
            addresses=known.control,
            mark=None if free else CONTROL_MARK,
        )
        try:
            self._known = await learn(control, known=known, look_up=free)
            self._up_to_date, self._reason = True, None
            if until_applied and not await control.applied(self._grant):
                self._say("not every gateway knows this device's key yet")
        finally:
            await control.close()
        self._remember()

    async def _catch_up(self) -> None:
        """Ask through the tunnel what could not be asked before it was there."""
        if not self._up_to_date:
            with contextlib.suppress(ExuviaError):
                await self._learn()

    def _remember(self) -> None:
        try:
            files.write(self._folder.known, self._known.encode())
        except StateNotSaved as error:
            self._say(f"{error}; the list of gateways is not kept")

    def _choose(self, *, but: str | None = None) -> Gateway:
        if self._wishes.gateway is not None:
            return self._known.named(self._wishes.gateway)
        return self._known.choose(entropy.bits(64), but=but)

    def _choose_again(self, last: Gateway, failed: Gateway | None) -> Gateway:
        """Return the gateway to try next: the last one once more, unless it has just failed."""
        try:
            return self._choose(but=failed.name) if failed else self._known.named(last.name)
        except NotFound as error:
            if self._wishes.gateway is not None:
                self._say(str(error))
                return last
            return self._choose()

    def _control_endpoints(self) -> list[Endpoint]:
        port = location(self._state.control)[1]
        return [Endpoint(address, port) for address in self._known.control]

    @contextlib.contextmanager
    def _guarding(self) -> Iterator[None]:
        """Close the kill switch again whenever another program has flushed it."""
        changes, loop = firewall.changes(), asyncio.get_running_loop()

        def look() -> None:
            with contextlib.suppress(OSError):
                while changes.recv(65536):
                    pass
            try:
                if self._network.shut_again():
                    self._say("another program had removed the kill switch: it is closed again")
            except ExuviaError as error:
                self._say(f"{error}; the kill switch is open, since another program has removed it")

        with changes:
            loop.add_reader(changes, look)
            try:
                yield
            finally:
                loop.remove_reader(changes)

    # How it is told to end, and asked how it is.

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    def _take_down(self) -> None:
        problems = self._network.take_down()
        self._condition = "down"
        self._reason = "; ".join(problems) or None
        self._gone.set()
        if problems:
            raise InterfaceUnavailable(f"not all could be put back: {self._reason}")

    async def _answer(self, asked: Asked) -> Status:
        if asked == "down":
            self._stop.set()
            await self._gone.wait()
            return Status("down", kill_switch=False, reason=self._reason)
        if self._condition == "connected":
            with contextlib.suppress(Unavailable):
                self._look()
        age = self._liveness.handshake_age(now=clock.boottime())
        return Status(
            state=self._condition,
            device=self._device.name,
            gateway=None if self._gateway is None else self._gateway.name,
            interface=self._wishes.interface,
            handshake_age=None if age is None else int(age),
            kill_switch=self._shut,
            reason=self._reason,
        )


def _about(seconds: float) -> float:
    """Return this time, up to a fifth shorter or longer, so that not everybody asks at once."""
    return seconds * (0.8 + 0.4 * entropy.bits(32) / 2**32)
