"""Taking the client down from another process: one that runs, or what a killed one has left."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from exuvia.client import network
from exuvia.client.keeping import Keeper
from exuvia.client.state import StateFolder
from exuvia.client.talk import Status, ask
from exuvia.errors import AlreadyRunning, InterfaceUnavailable, NotPermitted, StateUnreadable
from exuvia.system import clock, entropy, sockets

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a running client may take to put everything back."""
PATIENCE_AFTER = 3.0
"""Seconds that it may take to end after that."""
CLAIM = "exuvia-client"
"""The name that the one client of a network namespace holds."""
_STEP = 0.05


def take_down(folder: StateFolder) -> bool:
    """
    End the client and put back what it changed; say whether there was anything to do.

    Raises InterfaceUnavailable with what could not be put back, AlreadyRunning if the client
    does not end or is one of another state folder.
    """
    told = ask(folder.socket, "down", patience=PATIENCE) if folder.folder.is_dir() else None
    if told is not None and told.reason is not None:
        raise InterfaceUnavailable(f"not all could be put back: {told.reason}")
    with alone(folder, patience=PATIENCE_AFTER):
        left = network.is_shut()
        problems = network.clear()
    if problems:
        raise InterfaceUnavailable(f"not all could be put back: {'; '.join(problems)}")
    return left or told is not None


def status(folder: StateFolder) -> Status:
    """Return how things are while no client runs."""
    shut = _is_shut()
    reason = None
    try:
        state = folder.load()
    except StateUnreadable as error:
        state, reason = None, str(error)
    if state is None or state.device is None:
        return Status("closed" if shut else "logged out", kill_switch=shut, reason=reason)
    return Status(
        "closed" if shut else "down",
        state.device.name,
        kill_switch=shut,
        reason=reason,
        phase=state.phase,
        next_change=int(Keeper(folder, clock=clock, entropy=entropy).left()),
    )


@contextlib.contextmanager
def alone(folder: StateFolder, *, patience: float = 0.0) -> Iterator[None]:
    """
    Keep any other client from running, in this folder and in this network namespace.

    AlreadyRunning if one still does after so many seconds.
    """
    with contextlib.ExitStack() as held:
        if folder.folder.is_dir():
            held.enter_context(_in_time(folder.lock, patience))
        held.enter_context(_in_time(lambda: sockets.claim(CLAIM), patience))
        yield


def _in_time(take: Callable[[], T], patience: float) -> T:
    deadline = time.monotonic() + patience
    while True:
        try:
            return take()
        except AlreadyRunning:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_STEP)


def _is_shut() -> bool | None:
    try:
        return network.is_shut()
    except (NotPermitted, InterfaceUnavailable):
        return None
