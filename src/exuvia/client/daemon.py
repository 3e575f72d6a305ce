"""
`exuvia client up`: one process that is connected until it is told to go down.

While it runs, and also when it is killed, nothing leaves this machine outside the tunnel. The
kill switch opens only when the client is told to go down; or, if that was asked for, when the
control plane refuses the device; or when it never got as far as a first connection attempt.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any

from exuvia.client import network
from exuvia.client.control import ControlPlane
from exuvia.client.edges import Edges
from exuvia.client.gateways import Address
from exuvia.client.guarding import guarding
from exuvia.client.keeping import Keeper
from exuvia.client.listening import Listener
from exuvia.client.login import Say
from exuvia.client.network import Network
from exuvia.client.parts import Parts
from exuvia.client.session import Session, Wishes
from exuvia.client.situation import Situation
from exuvia.client.state import StateFolder
from exuvia.client.talk import Progress, Question, Status
from exuvia.errors import ExuviaError, InterfaceUnavailable, Unavailable
from exuvia.system import clock, entropy

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Daemon:
    """The client while it is up."""

    def __init__(self, folder: StateFolder, wishes: Wishes, *, say: Say) -> None:
        self._folder = folder
        self._wishes = wishes
        self._say = say
        keeper = Keeper(folder, clock=clock, entropy=entropy)
        self._network = Network(wishes.interface, lan=wishes.lan, names=wishes.names)
        shut = network.is_shut()
        self._situation = Situation(shut=shut, may_open=not shut)
        edges = Edges(self._network, _Connections(keeper), clock, entropy)
        self._parts = Parts(folder, keeper, self._situation, edges, say)
        self._session = Session(self._parts, wishes)
        self._stop = asyncio.Event()
        self._gone = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until told to go down; then everything is as it was before."""
        for number in _STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        async with Listener(self._folder.socket, self._answer):
            try:
                with guarding(self._network, self._say):
                    await self._until_stopped(self._stay())
            except BaseException:
                if self._situation.may_open:
                    self._take_down()
                elif self._situation.shut:
                    self._say("the kill switch stays closed: `exuvia client down` opens it")
                raise
            self._take_down()

    async def _stay(self) -> None:
        network.require_free(self._wishes.interface)
        for problem in network.clear(stay_shut=True):
            self._say(problem)
        if self._situation.shut:
            self._say("the kill switch of an earlier run is closed, and stays so")
        await self._session.stay()

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
        self._situation.condition = "down"
        self._situation.reason = "; ".join(problems) or None
        self._parts.following.end("the client was told to go down", failed=True)
        self._gone.set()
        if problems:
            raise InterfaceUnavailable(f"not all could be put back: {self._situation.reason}")

    # What commands ask.

    async def _answer(self, question: Question) -> AsyncGenerator[Status | Progress, None]:
        match question.asked:
            case "down":
                self._stop.set()
                await self._gone.wait()
                yield Status("down", kill_switch=False, reason=self._situation.reason)
            case "status":
                yield self._status()
            case "rotate":
                async for progress in self._session.rotate():
                    yield progress
            case "interval":
                yield await self._set_interval(question.days)

    async def _set_interval(self, days: int) -> Progress:
        try:
            return Progress(await self._session.set_interval(days), done=True)
        except ExuviaError as error:
            return Progress(str(error), done=True, failed=True)

    def _status(self) -> Status:
        situation, keeper = self._situation, self._parts.keeper
        if situation.condition == "connected":
            with contextlib.suppress(Unavailable):
                self._parts.sight.see()
        return Status(
            state=situation.condition,
            device=keeper.device.name,
            gateway=None if situation.gateway is None else situation.gateway.name,
            interface=self._network.interface,
            handshake_age=_whole(self._parts.sight.handshake_age()),
            kill_switch=situation.shut,
            reason=situation.reason,
            phase=keeper.phase,
            next_change=_whole(keeper.left()),
            draining=_whole(self._session.draining()),
        )


class _Connections:
    """Connections to the control plane, as the device that this machine is."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def __call__(self, *, addresses: Sequence[Address], mark: int | None) -> ControlPlane:
        state = self._keeper.state
        return ControlPlane(
            state.control,
            ca_file=state.ca_file,
            token=self._keeper.device.token,
            addresses=addresses,
            mark=mark,
        )


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
