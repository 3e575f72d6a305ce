"""Asking the control plane while the client runs: by the way out that there is at the moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from exuvia.client.edges import Plane
from exuvia.client.gateways import Endpoint, Known, addresses_of, locate
from exuvia.client.killswitch import CONTROL_MARK
from exuvia.client.parts import Parts
from exuvia.client.situation import WayOut
from exuvia.client.state import Grant
from exuvia.errors import ControlPlaneUnreachable, StateNotSaved, Unavailable
from exuvia.messages import DeviceState
from exuvia.rules.rotation import Event
from exuvia.system import files
from exuvia.system.http import location
from exuvia.wg.keys import PrivateKey, PublicKey

T = TypeVar("T")

QUICKLY = 3.0
"""Seconds that the control plane may take to answer through a tunnel that may be dead."""


class Asking:
    """
    The control plane, and what was learnt from it.

    Each question is one at a time but for doubt(), which has a connection of its own.
    """

    def __init__(self, parts: Parts) -> None:
        self.known = Known.decode(files.read(parts.folder.known))
        self.up_to_date = False
        """Whether the control plane was reached when it was last asked for everything."""
        self._parts = parts
        self._keeper, self._situation, self._edges = parts.keeper, parts.situation, parts.edges
        self._open: tuple[WayOut, Plane] | None = None

    async def learn(self) -> Event:
        """Learn which gateways there are, and what our keys are found to be; that is saved."""
        self.up_to_date = False
        looked_up = await self._look_up()
        listings = await self._by_way(lambda plane: plane.gateways())
        told = await self._by_way(lambda plane: plane.device())
        gateways = await locate(listings, known=None if looked_up else self.known.gateways)
        self.known = Known(self.known.control, gateways)
        self.up_to_date, self._situation.reason = True, None
        self._remember()
        return self._keeper.find(told)

    async def doubt(self) -> Event | None:
        """
        Ask what our keys are found to be, while connected by a tunnel that may be dead.

        Through the tunnel first, then beside it; None if nobody answers. Nothing is saved.
        """
        for way, seconds in (("tunnel", QUICKLY), ("marked", 3 * QUICKLY)):
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(seconds), self._apart(marked=way == "marked") as plane:
                    return self._keeper.judge(await plane.device())
        return None

    def endpoints(self) -> list[Endpoint]:
        """Return where the control plane is, for the kill switch."""
        port = location(self._keeper.state.control)[1]
        return [Endpoint(address, port) for address in self.known.control]

    def renew(self) -> None:
        """Use another connection from now on: the tunnel of this one is the old one now."""
        if self._open is not None:
            self._open = ("open", self._open[1])

    async def close(self) -> None:
        """Close the connection."""
        if self._open is not None:
            opened, self._open = self._open[1], None
            await opened.close()

    # What a change of keys asks.

    async def register_key(self, key: PrivateKey) -> Grant:
        """Register the next key."""
        return await self._by_way(lambda plane: plane.register_key(key))

    async def applied(self, grant: Grant) -> bool:
        """Say whether every gateway knows the key of this grant."""
        return await self._by_way(lambda plane: plane.applied(grant))

    async def confirm(self, key: PublicKey) -> bool:
        """Say that the next key works."""
        return await self._by_way(lambda plane: plane.confirm(key))

    async def retire(self, key: PublicKey) -> bool:
        """Delete a key."""
        return await self._by_way(lambda plane: plane.retire(key))

    async def device(self) -> DeviceState:
        """Return which keys it knows."""
        return await self._by_way(lambda plane: plane.device())

    async def ask_apart(self) -> DeviceState:
        """Return the same, over a connection of its own."""
        async with self._apart(marked=self._situation.way_out == "marked") as plane:
            return await plane.device()

    # The ways out.

    async def _by_way(self, ask: Callable[[Plane], Awaitable[T]]) -> T:
        way = self._situation.way_out
        if self._open is None or self._open[0] != way:
            await self.close()
            self._open = (way, self._connection(marked=way == "marked"))
        return await ask(self._open[1])

    @contextlib.asynccontextmanager
    async def _apart(self, *, marked: bool) -> AsyncIterator[Plane]:
        plane = self._connection(marked=marked)
        try:
            yield plane
        finally:
            if marked and self._situation.condition == "connected":
                self._edges.machine.shut(self._situation.gateway, ())
            await plane.close()

    def _connection(self, *, marked: bool) -> Plane:
        if marked:
            self._edges.machine.shut(self._situation.gateway, self.endpoints())
        return self._edges.connect(addresses=self.known.control, mark=CONTROL_MARK if marked else None)

    async def _look_up(self) -> bool:
        """Look up where the control plane is, if names can be; say whether they could."""
        way = self._situation.way_out
        if way == "marked":
            return False
        try:
            found = await addresses_of(*location(self._keeper.state.control))
        except ControlPlaneUnreachable:
            if way == "open" or not self.known.control:
                raise
            return False
        self.known = Known(found, self.known.gateways)
        return True

    def _remember(self) -> None:
        try:
            files.write(self._parts.folder.known, self.known.encode())
        except StateNotSaved as error:
            self._parts.say(f"{error}; the list of gateways is not kept")
