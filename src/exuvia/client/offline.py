"""Changing the key, or how often it is changed, while the client is down: at once, over TLS."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from exuvia.client import network
from exuvia.client.control import ControlPlane
from exuvia.client.keeping import Keeper
from exuvia.client.progress import told
from exuvia.client.rotating import BEFORE, Rotation
from exuvia.client.state import StateFolder
from exuvia.client.talk import Progress
from exuvia.client.ways import Asleep
from exuvia.errors import InterfaceUnavailable, NotPermitted, Unavailable
from exuvia.rules.rotation import Event
from exuvia.system import clock, entropy

T = TypeVar("T")


async def rotate(folder: StateFolder, *, tell: Callable[[Progress], object]) -> None:
    """
    Change the key; a change that was begun earlier is brought to its end, and is the one that was meant.

    Raises Unavailable if that is impossible now: the next `up`, or the same again, goes on with it.
    """
    _require_open()

    async def change(keeper: Keeper, control: ControlPlane) -> None:
        keeper.anchor()
        keeper.find(await control.device())

        def moved(event: Event) -> None:
            progress = told(event, keeper.phase)
            if progress is not None:
                tell(progress)

        rotation = Rotation(keeper, control, moved)
        begun = keeper.phase in BEFORE
        await rotation.finish(Asleep())
        if not begun:
            keeper.step("due")
            await rotation.finish(Asleep())

    await _alone(folder, change)


async def set_interval(folder: StateFolder, days: int) -> str:
    """Change the key so often from now on; return what became of that."""

    async def change(keeper: Keeper, control: ControlPlane) -> str:
        with contextlib.suppress(Unavailable):
            keeper.limits = (await control.device()).rotation_days
        return keeper.set_interval(days)

    return await _alone(folder, change)


async def _alone(folder: StateFolder, change: Callable[[Keeper, ControlPlane], Awaitable[T]]) -> T:
    """Do something with the state while no other process does."""
    if not folder.folder.is_dir():
        raise folder.not_logged_in()
    with folder.lock():
        keeper = Keeper(folder, clock=clock, entropy=entropy)
        state = keeper.state
        control = ControlPlane(state.control, ca_file=state.ca_file, token=keeper.device.token)
        try:
            return await change(keeper, control)
        finally:
            await control.close()


def _require_open() -> None:
    """Raise InterfaceUnavailable if the kill switch of a client that was killed is in the way."""
    with contextlib.suppress(NotPermitted):
        if network.is_shut():
            raise InterfaceUnavailable(
                "the kill switch of a client that was killed is closed: "
                "`exuvia client up` connects, `exuvia client down` opens it"
            )
